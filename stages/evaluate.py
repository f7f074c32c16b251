"""evaluate: captions of the test split and their scores → data/evaluate/."""

from pathlib import Path
from typing import TYPE_CHECKING

from captioning.archives import Pictures

from captioning import coco, compute, splits
from captioning.settings import Settings
from stages import run

if TYPE_CHECKING:
    import pandas as pd

    from captioning.model import Captioner

DATA = Path("data/download")
SPLIT = Path("data/split")
FEATURES = Path("data/features")
MODEL = Path("data/train/model")
OUT = Path("data/evaluate")


def main(settings: Settings) -> None:
    machine = settings.compute
    compute.pin(portable=machine.portable, threads=machine.threads)
    from captioning import model, report, tracking

    captioner = model.load(MODEL)
    images = splits.read_images(SPLIT / "images.csv")
    captions = _decode(settings, captioner, images)
    references = coco.read_references(SPLIT / "references_test.json")
    scores, per_image = _score(settings, references, captions)
    floor, human = _compare(references)
    test = images[images["split"] == "test"]
    words = sum(len(caption.split()) for caption in captions.values()) / len(captions)
    tracking.summarise(
        OUT,
        scores
        | {"distinct_captions": len(set(captions.values())) / len(captions), "words_per_caption": words}
        | {"floor": floor, "human": human},
    )
    coco.write_results(OUT / "captions.json", captions, SPLIT / "references_test.json")
    table = test.assign(hypothesis=list(captions.values()), cider=[per_image["cider"][i] for i in test["coco_id"]])
    chosen = report.choose(table, settings.evaluate.samples, settings.seed)
    report.plots(OUT / "plots", table)
    with Pictures(DATA) as pictures:
        report.gallery(OUT / "gallery", chosen, pictures)
    (OUT / "samples.md").write_text(report.samples(chosen, references), encoding="utf-8")
    print(report.score_table({"one caption for all": floor, "this model": scores, "one person": human}))


def _decode(settings: Settings, captioner: "Captioner", images: "pd.DataFrame") -> dict[int, str]:
    """COCO image id → caption of each test image, by beam search over what `features` stored."""
    from captioning.features import FeatureStore

    from captioning.decoding import decode_rows, stored_encoder
    from captioning.search import SearchOptions

    evaluate = settings.evaluate
    names = SearchOptions.__dataclass_fields__
    options = SearchOptions(**{name: getattr(evaluate, name) for name in names})
    encode = stored_encoder(FeatureStore(FEATURES, images["image_id"].tolist()), captioner.encoder)
    test = images[images["split"] == "test"]
    captions = decode_rows(
        encode, captioner.decoder, captioner.vocabulary, test.index.to_numpy(), options, evaluate.batch_size
    )
    return dict(zip(test["coco_id"].tolist(), captions, strict=True))


def _score(
    settings: Settings, references: dict[int, list[str]], captions: dict[int, str]
) -> tuple[dict[str, float], dict[str, dict[int, float]]]:
    """Corpus scores and scores an image; with Java's, if the setting asks for them."""
    from captioning import metrics

    scores = metrics.score(references, captions)
    java = metrics.java_scores(references, captions) if settings.evaluate.java else {}
    return scores.corpus | java, scores.per_image


def _compare(references: dict[int, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """The floor (the constant caption that is best on validation, scored on test) and the human row."""
    from captioning import evaluation, metrics

    training = splits.assign(splits.read_captions(DATA / "captions.csv"))
    training = training[training["split"] == "train"]
    validation = coco.read_references(SPLIT / "references_val.json")
    constant = evaluation.constant_caption(training["words"].tolist(), metrics.References(validation), list(validation))
    print(f"one caption for all: {constant}")
    floor = metrics.score(references, dict.fromkeys(references, constant)).corpus
    return floor, evaluation.human_scores(references)


if __name__ == "__main__":
    run(main)
