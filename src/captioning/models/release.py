"""A finished run becomes a model for people: half precision, calibrated confidence, measured scores, a model card.

Everything that the card says is measured here, on the run's own validation and test images, which are read and
captioned as `captioning predict` does it.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from captioning.captioner import confidence, model
from captioning.captioner.cards import Card
from captioning.captioner.confidence import Calibration, Evidence, Reliability
from captioning.captioner.model import Saved
from captioning.data.datasets.scenes import facts
from captioning.data.splits import coco
from captioning.data.splits.images import read_images
from captioning.evaluation import baselines
from captioning.evaluation.truth import measure
from captioning.experiments import bootstrap
from captioning.metrics import References
from captioning.models import licences, shipped
from captioning.models.choice import TRAINED
from captioning.models.python import Captioned, Model, of_folders
from captioning.models.sources import read
from captioning.system import scripts
from captioning.system.archives import ImageArchives
from captioning.system.errors import UserError
from captioning.system.files import read_json

DATA, SPLIT, EVALUATE = Path("data/download"), Path("data/split"), Path("data/evaluate")
NEEDED = (SPLIT / "images.csv", SPLIT / "references_val.json", SPLIT / "references_test.json", EVALUATE)
SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
_BATCH = 32
_LARGE = 50_000  # numbers of a matrix that is stored in half precision
_OUTSIDE = re.compile(r"\s*(file:|[/~]|(.*/)?\.\.(/|\s*$))")  # absolute paths, and those with a part `..`
_GENDERED = ("man", "woman", "boy", "girl")


@dataclass(frozen=True)
class Said:
    """What a model says of the images of a split, and which of its captions are acceptable, image by image."""

    captions: dict[int, str]
    evidence: list[Evidence]
    acceptable: list[bool]


@dataclass(frozen=True)
class Measured:
    """What a card reports of a released model, all on the test split.

    scores: value and ends of the 95 % interval. full: scores in single precision. changed: share of captions that
    half precision changes. run: the run's own test scores, as `evaluate` searched. rows: floor and human baselines.
    """

    scores: dict[str, tuple[float, float, float]]
    full: dict[str, float]
    changed: float
    run: dict[str, float]
    rows: dict[str, dict[str, float]]
    reliability: Reliability
    calibration: Calibration
    images: int
    different: int
    common: list[tuple[str, int]]
    gendered: dict[str, tuple[float, float]]


def halved(saved: Saved) -> Saved:
    """The model with its large matrices in half precision.

    Small ones, and vectors (biases, norms, BatchNorm's statistics), stay single: they weigh little. Errors of an
    encoder's first convolutions would change 3 % of the captions of a MobileNetV2; these change 0.3 %.
    """
    return saved._replace(encoder=_half(saved.encoder), decoder=_half(saved.decoder))


def _half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: _as_half(tensor) for name, tensor in state.items()}


def _as_half(tensor: Tensor) -> Tensor:
    """float16 where it is a large float matrix that float16 can hold."""
    large = tensor.dim() > 1 and tensor.numel() >= _LARGE and tensor.is_floating_point()
    return tensor.half() if large and bool(tensor.abs().max() < torch.finfo(torch.half).max) else tensor


def release(folder: Path, name: str, title: str) -> tuple[Card, Measured]:
    """Write the released model of the run in the working folder to `folder`, but for its README.md.

    name: of the release. title: of the run, for the card. Raises UserError when a file of the run is missing.
    """
    for path in NEEDED:
        if not path.exists():
            raise UserError(f"{path} is missing; bring the run back with `dvc checkout`, or run the pipeline")
    saved = halved(model.read(TRAINED))
    check_statistics(saved)
    card = released_card(saved.card, name, title)
    images = read_images(SPLIT / "images.csv")
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "half"
        _save(plain, card, saved, None)
        half, full = of_folders([plain], [name]), of_folders([TRAINED], [str(TRAINED)])
        judge = Judge(images)
        said = {split: judge.caption(half, split) for split in ("val", "test")}
        calibration = confidence.fit(said["val"].evidence, said["val"].acceptable, judge.meaning)
        measured = _measure(judge, said["test"], judge.caption(full, "test").captions, calibration)
    _save(folder, card, saved, calibration)
    return card, measured


def check_statistics(saved: Saved) -> None:
    """Raise UserError where statistics of an older version would leave the released model without confidence."""
    kept, side = saved.statistics, saved.card.transform["image_size"]
    if kept is not None and not kept.are_of(side):
        raise UserError(f"{TRAINED}: an older version of captioning trained it; run `dvc repro train` first")


def _save(folder: Path, card: Card, saved: Saved, calibration: Calibration | None) -> None:
    states = saved.encoder, saved.decoder
    detector = TRAINED if saved.detector else None
    model.save(folder, card, *states, saved.vocabulary, saved.statistics, calibration, detector, saved.beside)


def released_card(card: Card, name: str, title: str) -> Card:
    """The card of a release: without places of the machine that it was trained on, with its terms."""
    settings, provenance = _without_places(card.settings), _without_places(card.provenance)
    dataset, record = settings.get("dataset", ""), provenance.get("weights", {})
    provenance |= {
        "release": {"name": name, "run": title, "precision": "large matrices in float16"},
        "training": dict(card.compute),
        "licence": f"{dataset}: {licences.of_data(dataset)}; initial weights: {licences.of_weights(record)}",
    }
    compute = card.compute | {"portable": True, "threads": shipped.THREADS, "processes": 1, "instructions": "AVX2"}
    return replace(card, settings=settings, compute=compute, provenance=provenance)


def _without_places(value: Any) -> Any:
    """JSON with each path that leads out of the project as its last part."""
    if isinstance(value, Mapping):
        return {key: _without_places(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_places(part) for part in value]
    return PurePosixPath(value).name if isinstance(value, str) and _OUTSIDE.match(value) else value


class Judge:
    """Captions images of the run, and decides which captions are acceptable.

    meaning: what that is. On drawn scenes a caption must be true in all that it says. Elsewhere its CIDEr must reach
    half of the mean of a person's captions on validation.
    """

    def __init__(self, images: pd.DataFrame) -> None:
        self._images = images
        self.references = {split: coco.read_references(SPLIT / f"references_{split}.json") for split in ("val", "test")}
        self._facts = facts.read_facts(DATA / facts.FILE) if (DATA / facts.FILE).is_file() else None
        human = baselines.human_scores(self.references["val"])
        if self._facts is None and not human:
            raise UserError(f"{SPLIT}: images have one reference each, so no caption can be called acceptable")
        self._least = human.get("cider", 0.0) / 2
        self.meaning = (
            "all that the caption says is true of the drawing"
            if self._facts is not None
            else f"CIDEr of at least {self._least:.2f}, half of the mean of a person's captions"
        )

    def caption(self, captioner: Model, split: str) -> Said:
        """Caption a split's images, from their files, as `captioning predict` does."""
        rows = self._images[self._images["split"] == split]
        found = _captioned(captioner, rows["file"].tolist(), split)
        ids = rows["coco_id"].tolist()
        captions = {image: one.captions[0].text for image, one in zip(ids, found, strict=True)}
        evidence = [
            Evidence(one.captions[0].log_probability, len(one.captions[0].words), one.distance) for one in found
        ]
        good = self._acceptable(captions, dict(zip(ids, rows["image_id"], strict=True)), split)
        return Said(captions, evidence, [good[image] for image in ids])

    def _acceptable(self, captions: dict[int, str], names: dict[int, str], split: str) -> dict[int, bool]:
        if self._facts is not None:
            return dict(measure.score(captions, {image: self._facts[name] for image, name in names.items()}).true)
        scores = References(self.references[split]).score(captions).per_image["cider"]
        return {image: value >= self._least for image, value in scores.items()}


def _captioned(captioner: Model, files: Sequence[str], split: str) -> list[Captioned]:
    options = captioner.options()
    found: list[Captioned] = []
    with ImageArchives(DATA) as archives, tqdm(total=len(files), unit="image", desc=split, disable=None) as bar:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            found += captioner.batch([read(archives.read(file)) for file in batch], options)
            bar.update(len(batch))
    return found


def _measure(judge: Judge, said: Said, full: dict[int, str], calibration: Calibration) -> Measured:
    references = judge.references["test"]
    prepared = References(references)
    confidences = [calibration.confidence(one) for one in said.evidence]
    counted = Counter(said.captions.values())
    rows = read_json(EVALUATE / "baselines.json")
    return Measured(
        scores=_with_intervals(prepared, references, said.captions),
        full=prepared.score(full).corpus,
        changed=sum(full[image] != text for image, text in said.captions.items()) / len(full),
        run=read_json(EVALUATE / "metrics.json"),
        rows={name: rows[name] for name in ("floor", "human") if name in rows},
        reliability=confidence.reliability(confidences, said.acceptable),
        calibration=calibration,
        images=len(references),
        different=len(counted),
        common=counted.most_common(5),
        gendered=_gendered(references, said.captions),
    )


def _with_intervals(
    prepared: References[int], references: Mapping[int, Sequence[str]], captions: Mapping[int, str]
) -> dict[str, tuple[float, float, float]]:
    """Each score with its 95 % interval over test images."""
    scores = prepared.score(captions)
    means = {name: np.array([scores.per_image[name][i] for i in references]) for name in ("rouge_l", "cider")}
    one = bootstrap.Model(prepared.bleu_statistics(captions), means)
    low, high = bootstrap.interval(bootstrap.draw([[one]]))[:, 0].tolist()
    return {name: (scores.corpus[name], below, above) for name, below, above in zip(one.names, low, high, strict=True)}


def _gendered(references: Mapping[int, Sequence[str]], captions: Mapping[int, str]) -> dict[str, tuple[float, float]]:
    """Of each word, the share of captions that have it, and the share of references."""
    listed = [scripts.split(text) for text in captions.values()]
    wanted = [text.lower().split() for texts in references.values() for text in texts]
    return {word: (_share(word, listed), _share(word, wanted)) for word in _GENDERED}


def _share(word: str, sentences: Sequence[Sequence[str]]) -> float:
    return sum(word in words for words in sentences) / len(sentences)
