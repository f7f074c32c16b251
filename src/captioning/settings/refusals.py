"""Which settings contradict each other.

A refusal reads the settings with all of `auto` decided, and raises UserError that begins with the key.
"""

from typing import Any

from captioning.settings import text_models
from captioning.settings.decoders import attends, names, pretrains, reads_tags, retrieves
from captioning.settings.objects import NEIGHBOURS, NONE, PREDICTED, WORDS, of_box_head
from captioning.settings.rules import LABELLED, learns, search_options, splits_of, warm_start
from captioning.settings.schema import Settings
from captioning.settings.training import INITIAL, Augmentation
from captioning.system.errors import UserError


def _split(settings: Settings) -> None:
    splits = splits_of(settings.dataset)
    if settings.download.split not in splits:
        raise UserError(
            f"download.split = {settings.download.split!r}: {settings.dataset} has no such split; "
            f"write auto or {' or '.join(splits)}"
        )


def _text(settings: Settings) -> None:
    folder = text_models.named(settings.vocab.text)
    if folder and settings.vocab.kind == "words":
        raise UserError(f"vocab.text = {folder} is for word pieces, and vocab.kind is words; write pieces")


def _regions(settings: Settings) -> None:
    if not settings.features.regions and attends(settings.decoder) and not settings.features.trainable:
        raise UserError(
            f"features.regions = false: the decoder {settings.decoder} attends to regions, and the encoder is frozen; "
            "write auto or true"
        )


def _objects(settings: Settings) -> None:
    """Objects are read by decoders that attend, and boxes are known of images that training leaves where they are."""
    if settings.objects in PREDICTED:
        _predicted(settings)
    if settings.objects in (NONE, *PREDICTED):
        return
    begin = f"objects = {settings.objects}"
    if not attends(settings.decoder):
        raise UserError(
            f"{begin}: the decoder {settings.decoder} reads no regions; write objects: none, or another one"
        )
    moved = {"crop": 1.0, "flip": 0.0}
    for name, still in moved.items():
        if getattr(settings.train.augment, name) != still:
            raise UserError(
                f"train.augment.{name} = {getattr(settings.train.augment, name)} moves objects, whose boxes stay; "
                f"write {still}, or objects: none"
            )
    if of_box_head(settings.objects):
        _whole_images(settings)


def _whole_images(settings: Settings) -> None:
    """A detector's own vectors are of whole images as they are, and no encoder has a part in them."""
    features = settings.features
    wanted: dict[str, tuple[object, object]] = {
        "features.trainable": (features.trainable, False),
        "features.crop": (features.crop, "none"),
        "features.engine": (features.engine, "torch"),
        "features.mirror": (features.mirror, False),
        "evaluate.mirror": (settings.evaluate.mirror, False),
    }
    for name, (written, fitting) in wanted.items():
        if written != fitting:
            here, needed = (str(value).lower() for value in (written, fitting))
            raise UserError(
                f"{name} = {here}: objects = {settings.objects} reads a detector's vectors of whole images; write "
                f"{needed}, or leave /box_head out"
            )


def _predicted(settings: Settings) -> None:
    """Words and neighbours: a decoder must read them, and the features behind them must not change in training."""
    begin, decoder = f"objects = {settings.objects}", settings.decoder
    if settings.objects == WORDS and not reads_tags(decoder):
        raise UserError(f"{begin}: the decoder {decoder} reads no tags; write decoder: oscar")
    if settings.objects == NEIGHBOURS and retrieves(decoder):
        raise UserError(f"{begin}: the decoder {decoder} says captions of neighbours itself; write objects: none")
    if settings.features.trainable:
        verb = "predict" if settings.objects == WORDS else "find"
        raise UserError(f"{begin}: a frozen encoder's features {verb} them; write features.trainable: false")


def _engine(settings: Settings) -> None:
    """Another engine runs a frozen encoder only. Both have kernels that take whatever the CPU has."""
    engine = settings.features.engine
    if engine == "torch":
        return
    if settings.features.trainable:
        raise UserError(f"features.engine = {engine} runs a frozen encoder, and this one is trained; write torch")
    if settings.compute.portable:
        raise UserError(
            f"features.engine = {engine}: it cannot be limited to AVX2; write compute.portable: false, or torch"
        )


def _mirror(settings: Settings) -> None:
    if settings.features.mirror and settings.features.trainable:
        raise UserError("features.mirror = true is for a frozen encoder, and this is trained; use train.augment.flip")


def _mirrored_evaluation(settings: Settings) -> None:
    if settings.evaluate.mirror and not settings.features.mirror and not settings.features.trainable:
        raise UserError("evaluate.mirror = true, and features.mirror = false stores no mirrored images; set both")


def _epochs(settings: Settings) -> None:
    train = settings.train
    if train.epochs:
        return
    if train.pretraining.epochs:
        raise UserError("train.epochs = 0: a model that is only pretrained cannot caption; write 1 or more")
    if warm_start(train.start) is None:
        raise UserError(
            f"train.epochs = 0: {INITIAL} has no decoder; name the folder of a trained model as train.start"
        )
    if not train.self_critical.epochs:
        raise UserError("train.epochs = 0 and train.self_critical.epochs = 0: there is nothing to train")


def _start_epoch(settings: Settings) -> None:
    """Self-critical training trains the blocks that are named, whatever epoch they start in, if it has a rate."""
    train = settings.train
    critical, nothing = train.self_critical, not train.epochs and not train.self_critical.epochs
    if not settings.features.trainable or nothing or (critical.epochs and critical.encoder_lr):
        return
    if train.encoder.start_epoch > train.epochs:
        raise UserError(
            f"train.encoder.start_epoch = {train.encoder.start_epoch}, and train.epochs = {train.epochs}: the encoder "
            "would never be trained; write an earlier one, or features.trainable: false"
        )


def _frozen(settings: Settings) -> None:
    """What is for a trained encoder must be off for a frozen one."""
    if settings.features.trainable:
        return
    off = {f"train.augment.{name}": value for name, value in vars(Augmentation()).items()}
    off |= {"train.encoder.from_block": "all", "train.encoder.start_epoch": 1}
    for key, value in off.items():
        written = _value(settings, key)
        if written != value:
            raise UserError(
                f"{key} = {written} is for a trained encoder, and this one is frozen; "
                f"write features.trainable: true, or {key}: {value}"
            )


def _value(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


def _captions_of_frozen(settings: Settings) -> None:
    value = settings.train.captions_per_image
    if value != "all" and not settings.features.trainable:
        raise UserError(
            f"train.captions_per_image = {value} is for a trained encoder, and this one is frozen; write all"
        )


def _labels(settings: Settings) -> None:
    value = settings.train.labels.epochs
    if value and not (learns(settings) and settings.dataset in LABELLED):
        frozen = "the encoder is frozen"
        reason = f"{settings.dataset} does not say what is in its images" if learns(settings) else frozen
        raise UserError(f"train.labels.epochs = {value}: {reason}, so there is nothing to learn; write auto or 0")


def _oscar(settings: Settings) -> None:
    options, folder = settings.decoders.oscar, text_models.named(settings.vocab.text)
    if settings.decoder != "oscar":
        return
    if options.width % options.heads:
        raise UserError(
            f"decoders.oscar.heads = {options.heads}: the width, {options.width}, is not a multiple; write another"
        )
    for name, theirs in vars(text_models.sizes(folder)).items() if folder else ():
        ours = getattr(options, name)
        if ours > theirs if name == "layers" else ours != theirs and name != "image_norm":
            raise UserError(f"decoders.oscar.{name} = {ours}: the text model {folder} has {theirs}; write auto")


def _heads(settings: Settings) -> None:
    options = settings.decoders.transformer
    if settings.decoder == "transformer" and options.width % (2 * options.heads):
        raise UserError(
            f"decoders.transformer.heads = {options.heads}: the width, {options.width}, is not a multiple of "
            "2 * heads; write another decoders.transformer.width, or fewer heads"
        )


def _rewards(settings: Settings) -> None:
    if retrieves(settings.decoder) and settings.train.self_critical.epochs:
        raise UserError(
            f"train.self_critical.epochs = {settings.train.self_critical.epochs}: the decoder {settings.decoder} "
            "has no gradients; write 0, or another decoder"
        )


def _select(settings: Settings) -> None:
    if settings.train.select == "true_captions" and settings.dataset not in LABELLED:
        raise UserError(
            f"train.select = true_captions: {settings.dataset} does not say what is true of its images; write cider"
        )


def _pretraining(settings: Settings) -> None:
    epochs, decoder = settings.train.pretraining.epochs, settings.decoder
    if epochs and not pretrains(decoder):
        raise UserError(
            f"train.pretraining.epochs = {epochs}: the decoder {decoder} has no pretraining; "
            f"write 0, or {' or '.join(filter(pretrains, names()))} as decoder"
        )


def _search(settings: Settings) -> None:
    try:
        search_options(settings)
    except UserError as fault:
        raise UserError(f"evaluate.{fault}") from None


REFUSALS = (
    _split,
    _text,
    _regions,
    _objects,
    _engine,
    _mirror,
    _mirrored_evaluation,
    _epochs,
    _start_epoch,
    _frozen,
    _captions_of_frozen,
    _labels,
    _heads,
    _rewards,
    _select,
    _pretraining,
    _oscar,
    _search,
)
