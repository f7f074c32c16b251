"""evaluate: captions of the test split and their scores → data/evaluate/."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning_fabric import Fabric

from captioning import metrics
from captioning.captioner import ensembles, model_folders
from captioning.captioner.decoding import captions_of_rows
from captioning.captioner.ensembles import Captioners
from captioning.captioner.model import Captioner
from captioning.data.datasets.scenes import facts
from captioning.data.objects import placing, tables
from captioning.data.objects.labels import Found
from captioning.data.splits import coco, splits
from captioning.data.splits.captions import read_captions
from captioning.data.splits.images import read_images
from captioning.evaluation import attending, attention_sheets, baselines, samples
from captioning.evaluation.objects import grounding, known
from captioning.evaluation.objects.grounding import Grounding
from captioning.evaluation.objects.hallucination import Hallucination
from captioning.evaluation.objects.known import Known
from captioning.evaluation.truth import measure
from captioning.evaluation.truth.measure import Truth
from captioning.metrics import Scores
from captioning.metrics.signature import signature
from captioning.settings.rules import search_options
from captioning.settings.schema import Evaluate, Settings
from captioning.system import compute, scripts
from captioning.system.archives import ImageArchives
from captioning.system.files import write_json, write_text
from captioning.training.tracking import live
from captioning.vision.features.encodings import Encode
from captioning.vision.features.store import FeatureStore

DATA = Path("data/download")
SPLIT = Path("data/split")
FEATURES = Path("data/features")
OBJECTS = Path("data/objects")
MODEL = Path("data/train/model")
OUT = Path("data/evaluate")
BATCH = 64  # images captioned together
SAMPLES = 12  # images of each kind (best, worst, random) in samples.md, and random ones in the gallery


def main(settings: Settings) -> None:
    machine, options = settings.compute, search_options(settings)
    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    if options.method != "sample":
        fabric.print(f"evaluate.beam_size = {options.beam_size}")
    images = read_images(SPLIT / "images.csv")
    store = FeatureStore(FEATURES, images["image_id"].tolist())
    captioners = _captioners(settings.evaluate, fabric, store)
    readers = captioners.readers(store, fabric.device)
    test = images[images["split"] == "test"]
    found = captions_of_rows(captioners, readers, test.index.to_numpy(), options, BATCH, fabric)
    if not fabric.is_global_zero:
        return
    candidates = dict(zip(test["coco_id"].tolist(), found, strict=True))
    texts = {image: [caption.text for caption in listed] for image, listed in candidates.items()}
    captions = {image: listed[0] for image, listed in texts.items()}
    references = coco.read_references(SPLIT / "references_test.json")
    scores = _score(references, captions, java=settings.evaluate.java)
    training = _training_captions(settings.split.limit)
    constant = _constant(training)
    compared = _baselines(constant, references)
    truths = _truth(images, captions, references, constant)
    if truths:
        scores = scores | truths["model"].scores
    there = known.read(settings.dataset, DATA, OBJECTS, test)
    named = {} if there is None else known.hallucinations(there, captions, references, constant)
    looked = None if there is None else _grounding(captioners.members[0], readers[0], test, captions, there)
    variety = samples.variety(captions, set(map(scripts.join, training)))
    live.summarise(OUT, scores.corpus | {"signature": signature(references).split("|")})  # DVC shows no list
    oracle = _oracle(references, texts) if options.n_best > 1 else {}
    write_json(OUT / "baselines.json", compared | oracle | {"variety": variety})
    coco.write_results(OUT / "captions.json", captions, SPLIT / "references_test.json")
    n_best = {image: [caption.record() for caption in listed] for image, listed in candidates.items()}
    write_json(OUT / "n_best.json", [{"image_id": image, "captions": listed} for image, listed in n_best.items()])
    write_json(OUT / "truth.json", _truth_record(truths, named, looked))
    selected = _report(images, captions, references, scores)
    _attention(captioners.members[0], readers[0], images, selected)
    rows = {"constant-caption baseline": compared["floor"], "this model": scores.corpus}
    print(samples.score_table(rows | ({"human baseline": compared["human"]} if "human" in compared else {})))
    _print_truth(truths, named, looked)


def _report(
    images: pd.DataFrame,
    captions: dict[int, str],
    references: dict[int, list[str]],
    scores: Scores[int],
) -> dict[str, pd.DataFrame]:
    """What a person reads: a row an image, samples, gallery and plots. Returns the samples."""
    table = samples.table(images[images["split"] == "test"], captions, scores.per_image)
    write_text(OUT / "per_image.csv", table.to_csv(index=False, lineterminator="\n"))
    selected = samples.choose(table, SAMPLES)
    write_text(OUT / "samples.md", samples.samples(selected, references))
    samples.plots(OUT / "plots", scores.corpus, table, references)
    with ImageArchives(DATA) as image_files:
        samples.gallery(OUT / "gallery", selected["random"], image_files, _read_objects())
    return selected


def _read_objects() -> dict[str, list[Found]] | None:
    """The objects of each image that the model reads, in its pixels; None where it reads none with boxes."""
    return None if tables.read_card(OBJECTS)["kind"] == tables.NONE else tables.Objects(OBJECTS).found


def _attention(captioner: Captioner, encode: Encode, images: pd.DataFrame, selected: dict[str, pd.DataFrame]) -> None:
    """Where the decoder looked in the samples, word by word."""

    rows = dict(zip(images["coco_id"], images.index, strict=True))
    with ImageArchives(DATA) as image_files:
        attention_sheets.write(
            OUT / "attention", selected, image_files, captioner, lambda coco_id: encode(np.array([rows[coco_id]]))
        )


def _captioners(evaluate: Evaluate, fabric: Fabric, store: FeatureStore) -> Captioners:
    """The trained model, and those of `evaluate.ensemble`, on the device."""
    folders = [MODEL, *model_folders.members(evaluate.ensemble)]
    captioners = ensembles.load(folders, mirror=evaluate.mirror)
    ensembles.check_store(folders, captioners, store)
    ensembles.check_objects(folders, captioners, tables.identity(tables.read_card(OBJECTS)))
    placing.enter(store, OBJECTS, captioners.vocabulary)
    if len(folders) > 1:
        for folder, role in zip(folders, captioners.roles, strict=True):
            fabric.print(f"{folder}: {role}")
    for member in captioners.members:
        member.encoder.to(fabric.device)
        member.decoder.to(fabric.device)
    return captioners


def _oracle(references: dict[int, list[str]], texts: dict[int, list[str]]) -> dict[str, dict[str, float]]:
    """`oracle`: CIDEr of the best of each image's captions, where several were asked for."""
    return {"oracle": {"cider": baselines.oracle_cider(references, texts)}}


def _score(references: dict[int, list[str]], captions: dict[int, str], *, java: bool) -> Scores[int]:
    """All scores of the captions; Java's too, if the setting asks for them."""
    scores = metrics.score(references, captions)
    return scores | metrics.java_scores(references, captions) if java else scores


def _training_captions(limit: int | None) -> list[list[str]]:
    """The words of each training caption."""
    table = splits.assign(read_captions(DATA / "captions.csv"), limit)
    words: list[list[str]] = table[table["split"] == "train"]["words"].tolist()
    return words


def _constant(training: list[list[str]]) -> str:
    """The constant caption that is best on validation."""
    validation = coco.read_references(SPLIT / "references_val.json")
    constant = baselines.constant_caption(training, metrics.References(validation), list(validation))
    print(f"constant-caption baseline: {constant}")
    return constant


def _baselines(constant: str, references: dict[int, list[str]]) -> dict[str, dict[str, float]]:
    """`floor` (one caption for all images, scored on test), and `human` where there is one."""
    floor = metrics.score(references, dict.fromkeys(references, constant)).corpus
    human = baselines.human_scores(references)
    return {"floor": floor} | ({"human": human} if human else {})


def _truth(
    images: pd.DataFrame, captions: dict[int, str], references: dict[int, list[str]], constant: str
) -> dict[str, Truth[Any]]:
    """`floor`, `model` and `human` (each reference by its own scene); empty where the data set has no facts."""
    scenes = facts.of_images(DATA / facts.FILE, images)
    if not scenes:
        return {}
    people = {(image, k): caption for image, listed in references.items() for k, caption in enumerate(listed)}
    return {
        "floor": measure.score(dict.fromkeys(captions, constant), scenes),
        "model": measure.score(captions, scenes),
        "human": measure.score(people, {name: scenes[name[0]] for name in people}),
    }


def _grounding(
    captioner: Captioner, encode: Encode, test: pd.DataFrame, captions: dict[int, str], there: Known
) -> Grounding | None:
    """How often the decoder looked at what it named; None where it does not look at objects."""
    if attending.refusal(captioner):
        return None
    looked = []
    for start in range(0, len(test), BATCH):
        batch = test[start : start + BATCH]
        ids = batch["coco_id"].tolist()
        found = attending.attend_all(captioner, encode(batch.index.to_numpy()), [captions[image] for image in ids])
        looked += [(one, there.boxed(image, captioner.transform)) for image, one in zip(ids, found, strict=True)]
    return grounding.score(looked, there.names)


def _truth_record(
    truths: dict[str, Truth[Any]], named: dict[str, Hallucination], looked: Grounding | None
) -> dict[str, dict[str, Any]]:
    """truth.json: a row a system. What is known of objects is in it where the model reads objects."""
    record = {name: row.record() for name, row in truths.items()}
    for name, row in named.items():
        record[name] = record.get(name, {}) | {"hallucination": row.record()}
    if looked is not None:
        record["model"]["grounding"] = looked.record()
    return record


def _print_truth(truths: dict[str, Truth[Any]], named: dict[str, Hallucination], looked: Grounding | None) -> None:
    names = {"floor": "constant-caption baseline", "model": "this model", "human": "human baseline"}
    if truths:
        print(measure.table({names[name]: row for name, row in truths.items()}))
    if named:
        print(known.table({names[name]: row for name, row in named.items()}, looked))
