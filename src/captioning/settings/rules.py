"""What `auto` means where the data set alone does not decide, and what else follows from several settings.

A rule for `auto` reads the settings as they are written, with `auto` decided where the data set alone decides.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from captioning.settings import text_models
from captioning.settings.decoders import attends, retrieves
from captioning.settings.schema import Settings
from captioning.settings.search import USUAL, SearchOptions
from captioning.settings.training import INITIAL
from captioning.system.errors import UserError

DRAWN = frozenset({"scenes"})  # data sets whose images are drawn, small enough to train an encoder from scratch
LABELLED = frozenset({"scenes"})  # data sets that say what is in their images
_OWN = ("official",)
_SPLITS = {  # the published splits of a data set, the usual one first; the others have their own
    "flickr8k": ("official", "karpathy"),
    "flickr30k": ("karpathy",),
    "coco2014": ("karpathy", "official"),
}
_SLOW = frozenset({"neuraltalk", "oscar"})  # decoders whose rate is lower on photographs
_BEAMS = (3, 8)  # of drawn images and of photographs


def splits_of(dataset: str) -> tuple[str, ...]:
    """The published splits of a data set, the usual one first."""
    return _SPLITS.get(dataset, _OWN)


def warm_start(start: str) -> Path | None:
    """The folder of the model that `train.start` names; None: initial weights."""
    return None if Path(start) == INITIAL else Path(start)


def learns(settings: Any) -> bool:
    """Is the encoder trained, in all of its blocks or some?"""
    return bool(settings.features.trainable and settings.train.encoder.from_block != "none")


def batchnorm(weights: str) -> Literal["batch", "eval"]:
    """Which statistics BatchNorm of a trained encoder reads: batch, or eval (those that are stored).

    A batch of a few captions' images would spoil those of pretrained weights.
    """
    return "batch" if weights == "none" else "eval"


def usual_beam(dataset: str, n_best: int, groups: int) -> int:
    """The beam that captions of a data set are searched with: at least `n_best`, and a multiple of the groups.

    A data set that is not known here is taken for photographs.
    """
    least = max(_BEAMS[0 if dataset in DRAWN else 1], n_best)
    return -(-least // groups) * groups


def search_options(settings: Settings) -> SearchOptions:
    """How `evaluate` searches. Raises UserError where its options contradict each other."""
    evaluate = settings.evaluate
    return SearchOptions(
        beam_size=evaluate.beam_size,
        max_words=evaluate.max_words,
        length_penalty=USUAL["length_penalty"],
        method=evaluate.method,
        n_best=evaluate.n_best,
        groups=USUAL["groups"],
        strength=USUAL["strength"],
        top_p=evaluate.top_p,
        seed=settings.seed,
        rank_by=evaluate.rank_by,
    )


def _captions_per_image(settings: Any) -> int | str:
    return 2 if settings.features.trainable and settings.dataset in DRAWN else "all"


def _label_epochs(settings: Any) -> int | str:
    first = settings.dataset in LABELLED and learns(settings) and warm_start(settings.train.start) is None
    return "quick" if first else 0


def _decoder_rate(settings: Any) -> float:
    """The peak learning rate of the decoder: on photographs, some do not learn at the usual one."""
    return 0.001 if settings.decoder in _SLOW and settings.dataset not in DRAWN else 0.003


def _beam_size(settings: Any) -> int:
    evaluate = settings.evaluate
    groups = USUAL["groups"] if evaluate.method == "diverse" else 1
    return usual_beam(settings.dataset, evaluate.n_best, groups)


def _size(name: str, drawn: int, photographs: int) -> Callable[[Any], int]:
    """A size of the decoder oscar: that of its text model, if it has one."""

    def decide(settings: Any) -> int:
        folder = text_models.named(settings.vocab.text)
        if folder is None or settings.decoder != "oscar":
            return drawn if settings.dataset in DRAWN else photographs
        return int(getattr(text_models.sizes(folder), name))

    return decide


def check_lenders(decoders: Sequence[str], rank_by: str) -> None:
    """Raise UserError where one that looks captions up is beside others, and consensus does not rank captions."""
    looks_up = [retrieves(name) for name in decoders]
    if any(looks_up) and not all(looks_up) and rank_by != "consensus":
        raise UserError(
            f"evaluate.rank_by = {rank_by}: a model of neighbours only lends captions to others, ranked by consensus; "
            "write consensus, or take it out of evaluate.ensemble"
        )


AUTO: dict[str, Callable[[Any], Any]] = {
    "download.split": lambda settings: splits_of(settings.dataset)[0],
    "vocab.kind": lambda settings: "pieces" if settings.decoder == "oscar" else "words",
    "features.regions": lambda settings: attends(settings.decoder),
    "decoders.oscar.width": _size("width", 128, 256),
    "decoders.oscar.layers": _size("layers", 2, 3),
    "decoders.oscar.heads": _size("heads", 4, 4),
    "decoders.oscar.feed_forward": _size("feed_forward", 256, 1024),
    "decoders.oscar.image_norm": lambda settings: bool(_size("image_norm", 1, 1)(settings)),
    "train.optimizer.lr": _decoder_rate,
    "train.captions_per_image": _captions_per_image,
    "train.labels.epochs": _label_epochs,
    "evaluate.beam_size": _beam_size,
}
