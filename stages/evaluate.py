"""evaluate: captions of the test split and their scores → data/evaluate/."""

from pathlib import Path
from typing import TYPE_CHECKING

from captioning import coco, compute, splits
from captioning.archives import Pictures
from captioning.captions import read_captions
from captioning.files import write_text
from captioning.schema import Settings
from stages import run

if TYPE_CHECKING:
    import pandas as pd
    from lightning_fabric import Fabric

    from captioning.decoding import Encode
    from captioning.metrics import Scores
    from captioning.model import Captioner

DATA = Path("data/download")
SPLIT = Path("data/split")
FEATURES = Path("data/features")
MODEL = Path("data/train/model")
OUT = Path("data/evaluate")


def main(settings: Settings) -> None:
    machine = settings.compute
    compute.pin(portable=machine.portable, threads=machine.threads)
    if compute.ran_in_processes("stages.evaluate", machine.processes):
        return
    from captioning import model, report, tracking

    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    images = splits.read_images(SPLIT / "images.csv")
    captioner = model.load(MODEL)
    encode = _encode(captioner, fabric, images)
    captions = _decode(settings, fabric, captioner, encode, images)
    if not fabric.is_global_zero:
        return
    references = coco.read_references(SPLIT / "references_test.json")
    scores = _score(settings, references, captions)
    training = _training_captions(settings)
    compared = _compare(training, references)
    said = report.variety(captions, set(map(" ".join, training)))
    tracking.summarise(OUT, scores.corpus | said | compared)
    coco.write_results(OUT / "captions.json", captions, SPLIT / "references_test.json")
    chosen = _report(settings, images, captions, references, scores)
    _attention(captioner, encode, images, chosen)
    rows = {"one caption for all": compared["floor"], "this model": scores.corpus}
    print(report.score_table(rows | ({"one person": compared["human"]} if "human" in compared else {})))


def _report(
    settings: Settings,
    images: "pd.DataFrame",
    captions: dict[int, str],
    references: dict[int, list[str]],
    scores: "Scores[int]",
) -> dict[str, "pd.DataFrame"]:
    """What a person reads: a row an image, samples, gallery and plots. Returns the samples."""
    from captioning import report

    table = report.table(images[images["split"] == "test"], captions, scores.per_image)
    write_text(OUT / "per_image.csv", table.to_csv(index=False, lineterminator="\n"))
    chosen = report.choose(table, settings.evaluate.samples, settings.seed)
    write_text(OUT / "samples.md", report.samples(chosen, references))
    report.plots(OUT / "plots", table, references)
    with Pictures(DATA) as pictures:
        report.gallery(OUT / "gallery", chosen, pictures)
    return chosen


def _attention(
    captioner: "Captioner", encode: "Encode", images: "pd.DataFrame", chosen: dict[str, "pd.DataFrame"]
) -> None:
    """Where the decoder looked in the samples, word by word."""
    import numpy as np

    from captioning import attention_maps

    rows = dict(zip(images["coco_id"], images.index, strict=True))
    with Pictures(DATA) as pictures:
        attention_maps.write(
            OUT / "attention", chosen, pictures, captioner, lambda coco_id: encode(np.array([rows[coco_id]]))
        )


def _encode(captioner: "Captioner", fabric: "Fabric", images: "pd.DataFrame") -> "Encode":
    """The model goes to the device; what its encoder says there of what `features` stored."""
    from captioning.decoding import stored_encoder
    from captioning.features import FeatureStore

    store = FeatureStore(FEATURES, images["image_id"].tolist())
    captioner.decoder.to(fabric.device)
    return stored_encoder(store, captioner.encoder.to(fabric.device), fabric.device)


def _decode(
    settings: Settings, fabric: "Fabric", captioner: "Captioner", encode: "Encode", images: "pd.DataFrame"
) -> dict[int, str]:
    """COCO image id → caption of each test image, by beam search."""
    from captioning.decoding import decode_rows
    from captioning.search import SearchOptions

    evaluate = settings.evaluate
    names = SearchOptions.__dataclass_fields__
    options = SearchOptions(**{name: getattr(evaluate, name) for name in names})
    test = images[images["split"] == "test"]
    captions = decode_rows(
        encode, captioner.decoder, captioner.vocabulary, test.index.to_numpy(), options, evaluate.batch_size, fabric
    )
    return dict(zip(test["coco_id"].tolist(), captions, strict=True))


def _score(settings: Settings, references: dict[int, list[str]], captions: dict[int, str]) -> "Scores[int]":
    """All scores of the captions; Java's too, if the setting asks for them."""
    from captioning import metrics

    scores = metrics.score(references, captions)
    return scores | metrics.java_scores(references, captions) if settings.evaluate.java else scores


def _training_captions(settings: Settings) -> list[list[str]]:
    """The words of each training caption."""
    table = splits.assign(read_captions(DATA / "captions.csv"), settings.split.limit)
    words: list[list[str]] = table[table["split"] == "train"]["words"].tolist()
    return words


def _compare(training: list[list[str]], references: dict[int, list[str]]) -> dict[str, dict[str, float]]:
    """`floor` (the constant caption that is best on validation, scored on test), and `human` where there is one."""
    from captioning import evaluation, metrics

    validation = coco.read_references(SPLIT / "references_val.json")
    constant = evaluation.constant_caption(training, metrics.References(validation), list(validation))
    print(f"one caption for all: {constant}")
    floor = metrics.score(references, dict.fromkeys(references, constant)).corpus
    human = evaluation.human_scores(references)
    return {"floor": floor} | ({"human": human} if human else {})


if __name__ == "__main__":
    run(main)
