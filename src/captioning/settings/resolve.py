"""The settings of an experiment: params.yaml, read and checked before any work starts (see `schema` for its types).

This is the only module that reads params.yaml, and the only place where `auto` is decided.
"""

import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from captioning.settings.schema import Augment, DecoderName, FineTune, ScheduledSampling, Section, Settings
from captioning.settings.yaml_lines import describe, key_lines, parse, repeated_keys
from captioning.system.errors import UserError, check_all
from captioning.system.files import main_root


class _Auto(Section):
    """What `auto` means for one data set. The sizes are those of any decoder which may be `auto` there."""

    weights: str
    trainable: bool
    image_size: Literal["native", "enlarged", "quick"] | int
    embedding_size: int
    hidden_size: int
    width: int
    layers: int
    feed_forward: int
    dropout: float
    epochs: int
    batch_size: int
    captions_per_image: Literal["all"] | int
    label_epochs: int
    ema: float
    beam_size: int


_DRAWN = _Auto(
    weights="none",
    trainable=True,
    image_size="quick",
    embedding_size=256,
    hidden_size=256,
    width=128,
    layers=2,
    feed_forward=256,
    dropout=0.0,
    epochs=3,
    batch_size=64,
    captions_per_image=2,
    label_epochs=6,
    ema=0.99,
    beam_size=3,
)
_PHOTOGRAPHS = _Auto(
    weights="imagenet",
    trainable=False,
    image_size="enlarged",
    embedding_size=128,
    hidden_size=512,
    width=256,
    layers=3,
    feed_forward=1024,
    dropout=0.1,
    epochs=4,
    batch_size=64,
    captions_per_image="all",
    label_epochs=0,
    ema=0.998,
    beam_size=8,
)
_AUTO = {
    "scenes": _DRAWN,
    "abstract_scenes": _PHOTOGRAPHS,  # drawn too, but at 500 × 400 with details that 64 pixels would lose
    "flickr8k": _PHOTOGRAPHS,
    "flickr30k": _PHOTOGRAPHS,
    "coco2014": _PHOTOGRAPHS,
    "coco2017": _PHOTOGRAPHS,
    "folder": _PHOTOGRAPHS,
}
INITIAL = Path("data/weights")  # what `train.start` names when training starts from initial weights
_OWN = ("official",)
_SPLITS = {  # the published splits of a data set, the usual one first; the others have their own
    "flickr8k": ("official", "karpathy"),
    "flickr30k": ("karpathy",),
    "coco2014": ("karpathy", "official"),
}
_LABELLED = frozenset({"scenes"})  # data sets that say what is in their images
_ATTENDING = frozenset({"attention", "updown", "transformer"})  # decoders that read regions, not only their mean


def split(settings: Settings) -> str:
    """`download.split` with `auto` decided: official or karpathy. Raises UserError where the data set has no such."""
    value, splits = settings.download.split, _SPLITS.get(settings.dataset, _OWN)
    if value not in ("auto", *splits):
        raise UserError(
            f"download.split = {value!r}: {settings.dataset} has no such split; write auto or {' or '.join(splits)}"
        )
    return splits[0] if value == "auto" else value


def weights(settings: Settings) -> str:
    """`features.weights` with `auto` decided: imagenet, none, or a path."""
    value = settings.features.weights
    return _AUTO[settings.dataset].weights if value == "auto" else value


def trainable(settings: Settings) -> bool:
    """`features.trainable` with `auto` decided: is the encoder trained?"""
    value = settings.features.trainable
    return _AUTO[settings.dataset].trainable if value == "auto" else value


def image_size(settings: Settings) -> Literal["native", "enlarged", "quick"] | int:
    """`features.image_size` with `auto` decided: the side in pixels, or what the backbone decides."""
    value = settings.features.image_size
    return _AUTO[settings.dataset].image_size if value == "auto" else value


def regions(settings: Settings) -> bool:
    """`features.regions` with `auto` decided: are regions stored beside their mean?

    Raises UserError where a frozen encoder's are not, and the decoder attends to them.
    """
    value, attends = settings.features.regions, settings.decoder in _ATTENDING
    if value is False and attends and not trainable(settings):
        raise UserError(
            f"features.regions = false: the decoder {settings.decoder} attends to regions, and the encoder is frozen; "
            "write auto or true"
        )
    return attends if value == "auto" else value


def mirror(settings: Settings) -> bool:
    """`features.mirror`. Raises UserError where the encoder is trained: it has no stored features."""
    if settings.features.mirror and trainable(settings):
        raise UserError("features.mirror = true is for a frozen encoder, and this is trained; use train.augment.flip")
    return settings.features.mirror


def batchnorm(settings: Settings) -> Literal["batch", "eval"]:
    """`train.batchnorm` with `auto` decided: a batch of a few captions' pictures would spoil ImageNet's statistics."""
    value = settings.train.batchnorm
    if value == "auto":
        return "batch" if weights(settings) == "none" else "eval"
    return value


def fine_tune(settings: Settings) -> FineTune:
    """`train.fine_tune`. Raises UserError where it asks of an encoder that is never trained.

    Self-critical training trains the blocks that are named, whatever epoch they start in before, if it has a rate.
    """
    chosen, critical = settings.train.fine_tune, settings.train.self_critical
    if not trainable(settings):
        _refuse_for_frozen(chosen, FineTune(from_block="all", start_epoch=1), "train.fine_tune")
    elif chosen.start_epoch > epochs(settings) and not (critical.epochs and critical.encoder_lr):
        raise UserError(
            f"train.fine_tune.start_epoch = {chosen.start_epoch}, and train.epochs = {epochs(settings)}: the encoder "
            "would never be trained; write an earlier one, or features.trainable: false"
        )
    return chosen


def augment(settings: Settings) -> Augment:
    """`train.augment`. Raises UserError where a frozen encoder would never see the pictures."""
    if not trainable(settings):
        _refuse_for_frozen(settings.train.augment, Augment(crop=1, image_size=None, flip=0, colour=0), "train.augment")
    return settings.train.augment


def scheduled_sampling(settings: Settings) -> ScheduledSampling:
    """`train.scheduled_sampling`. Raises UserError where training ends before it would begin."""
    chosen = settings.train.scheduled_sampling
    if chosen.probability and chosen.first_epoch > epochs(settings):
        raise UserError(
            f"train.scheduled_sampling.first_epoch = {chosen.first_epoch}, and train.epochs = {epochs(settings)}: "
            "no word would be sampled; write an earlier one, or probability: 0"
        )
    return chosen


def word_dropout(settings: Settings) -> float:
    """`train.word_dropout`. Raises UserError where no epoch of cross-entropy would drop a word."""
    value = settings.train.word_dropout
    if value and not epochs(settings):
        raise UserError(
            f"train.word_dropout = {value}, and train.epochs = 0: words are dropped in cross-entropy training only; "
            "write word_dropout: 0"
        )
    return value


def _refuse_for_frozen(chosen: Section, off: Section, section: str) -> None:
    for name, value in off:
        if getattr(chosen, name) != value:
            raise UserError(
                f"{section}.{name} = {getattr(chosen, name)} is for a trained encoder, and this one is frozen; "
                f"write features.trainable: true, or {section}.{name}: {value}"
            )


def decoder_options(settings: Settings) -> dict[str, Any]:
    """The section of `train` that bears the decoder's name, with `auto` decided.

    Raises UserError where the heads of a transformer cannot share its width.
    """
    section: dict[str, Any] = getattr(settings.train, settings.decoder).model_dump()
    auto = _AUTO[settings.dataset]
    options = {name: getattr(auto, name) if value == "auto" else value for name, value in section.items()}
    if settings.decoder == "transformer" and options["width"] % (2 * options["heads"]):
        raise UserError(
            f"train.transformer.heads = {options['heads']}: the width, {options['width']}, is not a multiple of "
            "2 * heads; write another train.transformer.width, or fewer heads"
        )
    return options


def start(settings: Settings) -> Path | None:
    """The folder of the model that training starts from, `train.start`; None: from initial weights.

    A relative path is relative to the working folder, where DVC looks at its content.
    """
    value = settings.train.start
    return None if Path(value) == INITIAL else Path(value)


def epochs(settings: Settings) -> int:
    """`train.epochs` with `auto` decided. Raises UserError for 0 where that leaves nothing to learn from."""
    value = settings.train.epochs
    decided = _AUTO[settings.dataset].epochs if value == "auto" else value
    if not decided and start(settings) is None:
        raise UserError(
            f"train.epochs = 0: {INITIAL} has no decoder; name the folder of a trained model as train.start"
        )
    if not decided and not settings.train.self_critical.epochs:
        raise UserError("train.epochs = 0 and train.self_critical.epochs = 0: there is nothing to train")
    return decided


def batch_size(settings: Settings) -> int:
    """`train.batch_size` with `auto` decided."""
    value = settings.train.batch_size
    return _AUTO[settings.dataset].batch_size if value == "auto" else value


def captions_per_image(settings: Settings) -> int | None:
    """`train.captions_per_image` with `auto` decided; None: all of them. Raises UserError for a frozen encoder."""
    value = settings.train.captions_per_image
    if not trainable(settings):
        if value not in ("auto", "all"):
            raise UserError(
                f"train.captions_per_image = {value} is for a trained encoder, and this one is frozen; write all"
            )
        return None
    decided = _AUTO[settings.dataset].captions_per_image if value == "auto" else value
    return None if decided == "all" else decided


def ema(settings: Settings) -> float:
    """`train.ema` with `auto` decided: a short training has a short memory."""
    value = settings.train.ema
    return _AUTO[settings.dataset].ema if value == "auto" else value


def label_epochs(settings: Settings, *, light: bool = True) -> int:
    """`train.label_epochs` with `auto` decided: none for a frozen encoder, or one that was trained before.

    light: is the backbone light (`backbones.is_light`)? Another one takes half as many epochs, each of which is long.
    Raises UserError where it asks for epochs, and the encoder is frozen or the data set has no labels.
    """
    value, learns = settings.train.label_epochs, trainable(settings) and settings.train.fine_tune.from_block != "none"
    if value == "auto":
        usual = _AUTO[settings.dataset].label_epochs if learns and start(settings) is None else 0
        return usual if light else usual // 2
    if value and not (learns and labelled(settings)):
        reason = f"{settings.dataset} does not say what is in its images" if learns else "the encoder is frozen"
        raise UserError(f"train.label_epochs = {value}: {reason}, so there is nothing to learn; write auto or 0")
    return value


def labelled(settings: Settings) -> bool:
    """Does the data set say what is in its images (see `labels`)?"""
    return settings.dataset in _LABELLED


def beam_size(settings: Settings) -> int:
    """`evaluate.beam_size` with `auto` decided: never less than `n_best`, and a multiple of the groups."""
    evaluate = settings.evaluate
    if evaluate.beam_size != "auto":
        return evaluate.beam_size
    return usual_beam(settings.dataset, evaluate.n_best, evaluate.diverse.groups if evaluate.method == "diverse" else 1)


def usual_beam(dataset: str, n_best: int, groups: int) -> int:
    """The beam that captions of a data set are searched with: at least `n_best`, and a multiple of the groups.

    A data set that is not known here is taken for photographs.
    """
    least = max(_AUTO.get(dataset, _PHOTOGRAPHS).beam_size, n_best)
    return -(-least // groups) * groups


def for_training(settings: Settings, *, light: bool = True) -> dict[str, Any]:
    """Every setting that decides what is trained, with `auto` decided: what `model.json` records.

    light: as in `label_epochs`.
    `train.trackers` is left out, because trackers do not affect the result.
    """
    features = settings.features.model_dump() | {
        "weights": weights(settings),
        "trainable": trainable(settings),
        "image_size": image_size(settings),
        "regions": regions(settings),
        "mirror": mirror(settings),
    }
    train = settings.train.model_dump(exclude={*get_args(DecoderName), "trackers"}) | {
        "epochs": epochs(settings),
        "batch_size": batch_size(settings),
        "label_epochs": label_epochs(settings, light=light),
        "ema": ema(settings),
        "captions_per_image": captions_per_image(settings),
        "batchnorm": batchnorm(settings),
        settings.decoder: decoder_options(settings),
    }
    named = {name: getattr(settings, name) for name in ("seed", "dataset", "encoder", "decoder")}
    return {**named, "compute": settings.compute.model_dump(), "features": features, "train": train}


def source(settings: Settings) -> Path | None:
    """The folder looked in before the network: `download.source`, or the variable CAPTIONING_SOURCE.

    A relative path is relative to the main repository, in queued experiments too.
    """
    named = settings.download.source or os.environ.get("CAPTIONING_SOURCE")
    return main_root() / named if named else None


def load(path: Path = Path("params.yaml")) -> Settings:
    """Read and check the settings.

    Raises UserError that lists every fault at once, each with its line, its key and the fix.
    """
    values, tree = parse(path)
    lines = dict(key_lines(tree))
    faults: dict[str, list[str]] = {f"line {line}: {key} is given twice": [] for key, line in repeated_keys(tree)}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as invalid:
        for error in invalid.errors():
            place, complaint = describe(dict(error), lines)
            faults.setdefault(place, []).append(complaint)  # a union complains once a branch
    if faults:
        raise UserError("\n".join(f"{path}, {place}{' or '.join(said)}" for place, said in faults.items()))
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Raise UserError that lists, a line each, all that the settings contradict each other in, whatever stage reads it.

    What only a library or this machine can refuse is in `checks`.
    """
    check_all(
        settings,
        (
            split,
            regions,
            mirror,
            epochs,
            fine_tune,
            augment,
            scheduled_sampling,
            word_dropout,
            captions_per_image,
            label_epochs,
            decoder_options,
            _mirrored_evaluation,
        ),
    )


def _mirrored_evaluation(settings: Settings) -> None:
    if settings.evaluate.mirror and not settings.features.mirror and not trainable(settings):
        raise UserError("evaluate.mirror = true, and features.mirror = false stores no mirrored pictures; set both")
