"""train: a model, chosen by its validation score → data/train/."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from captioning.data.datasets.scenes.facts import FILE
from captioning.data.splits import coco, splits
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system import compute
from captioning.system.archives import Pictures
from captioning.system.files import digest, read_json, run_key
from stages import code, run

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric
    from torch import nn

    from captioning.training.encoder.fine_tuning import EncoderTraining
    from captioning.training.inputs import Inputs
    from captioning.training.labels import ImageLabels
    from captioning.training.network import Network
    from captioning.training.phase import Data, Phase, Setup
    from captioning.training.scheduled_sampling import Teacher
    from captioning.training.trainer import Trainer
    from captioning.vision.encoders.encoders import Encoder
    from captioning.vision.features.store import FeatureStore

Options = TypeVar("Options")

DATA = Path("data/download")
WEIGHTS = resolve.INITIAL
VOCABULARY = Path("data/vocab/vocab.txt")
SPLIT = Path("data/split")
FEATURES = Path("data/features")
OUT = Path("data/train")
SPEEDS = Path("logs/train")
READ = ("images.csv", "references_val.json", "train.npz", "val.npz")  # of SPLIT


def main(settings: Settings) -> None:
    machine = settings.compute
    compute.pin(portable=machine.portable, threads=machine.threads)
    if compute.ran_in_processes("stages.train", machine.processes):
        return
    from captioning.training.checkpoints import Checkpoint

    fabric = compute.start(
        seed=settings.seed,
        threads=machine.threads,
        device=machine.device,
        precision=machine.precision,
        idle=resolve.fine_tune(settings).start_epoch > 1,
    )
    resolved = resolve.for_training(settings)
    data = _data(settings, fabric)
    network = _network(settings, data)
    started = _start(settings, network, data)
    checkpoint = Checkpoint(_key({**resolved, **started}, fabric))
    trainer = _trainer(settings, network, data, fabric, checkpoint)
    if not fabric.is_global_zero:
        trainer.fit(lambda *_: None)
        return
    _fit(settings, trainer, resolved, checkpoint.key)
    _save(settings, trainer, resolved, started)
    checkpoint.clear()


def _key(chosen: dict[str, Any], fabric: "Fabric") -> str:
    """A key of all that the trained weights depend on. The index of the features has the digests of its arrays."""
    machine = {"processes": fabric.world_size, **compute.software(fabric.device.type)}
    weights = (WEIGHTS / name for name in ("weights.json", "weights.safetensors"))
    inputs = [VOCABULARY, *weights, FEATURES / "index.json", *(SPLIT / name for name in READ)]
    return run_key({**chosen, **machine}, inputs, code("train"))


def _data(settings: Settings, fabric: "Fabric") -> "Data":
    from captioning.metrics import References
    from captioning.training.phase import Data
    from captioning.vision.features.placement import settle
    from captioning.vision.features.store import FeatureStore

    images = splits.read_images(SPLIT / "images.csv")
    validation, train = images[images["split"] == "val"], EncodedCaptions.read(SPLIT / "train.npz")
    return Data(
        train=train,
        val=EncodedCaptions.read(SPLIT / "val.npz"),
        store=settle(FeatureStore(FEATURES, images["image_id"].tolist()), fabric.device),
        val_rows=validation.index.to_numpy(),
        val_ids=validation["coco_id"].tolist(),
        references=References(coco.read_references(SPLIT / "references_val.json")),
        vocabulary=Vocabulary.read(VOCABULARY),
        labels=_labels(settings, images["image_id"].tolist(), train),
    )


def _network(settings: Settings, data: "Data") -> "Network":
    import torch

    from captioning import decoders
    from captioning.training.heads import EncoderHeads
    from captioning.training.network import Network

    train, words = settings.train, len(data.vocabulary)
    training = _encoder_training(settings, data.store) if resolve.trainable(settings) else None
    width = data.store.dim if training is None else training.encoder.dim
    decoder = decoders.build(settings.decoder, words, width, resolve.decoder_options(settings))
    decoder.expect(torch.from_numpy(data.train.target_counts(words)))
    weights = {"word_presence": train.word_presence, "facts": train.facts}
    heads = None if training is None else EncoderHeads(training, words, data.labels, **weights)
    return Network(training, decoder, heads, label_smoothing=train.label_smoothing, teacher=_teacher(settings))


def _inputs(settings: Settings, network: "Network", data: "Data") -> "Inputs":
    from captioning.decoders.base import AttendingDecoder
    from captioning.training.encoder.augmentation import Augmentation
    from captioning.training.inputs import FeatureInputs, PixelInputs

    chances = _chances(settings, data)
    if network.encoder is None:
        attends = isinstance(network.decoder, AttendingDecoder)
        return FeatureInputs(data.store, attends=attends, mirror_chances=chances)
    augmentation = Augmentation(**resolve.augment(settings).model_dump())
    return PixelInputs(data.store, augmentation, chances, data.labels, network.encoder.grid)


def _labels(settings: Settings, image_ids: list[str], train: EncodedCaptions) -> "ImageLabels | None":
    """What the data set says is in the training images; None where it says nothing, or training does not read it."""
    from captioning.training.labels import ImageLabels

    learns = resolve.trainable(settings) and resolve.fine_tune(settings).from_block != "none"
    asked = settings.train.facts or resolve.label_epochs(settings)
    if not (learns and asked and resolve.labelled(settings)):
        return None
    augment = resolve.augment(settings)
    return ImageLabels.read(DATA / FILE, image_ids, train, moved=augment.flip > 0 or augment.crop < 1)


def _teacher(settings: Settings) -> "Teacher":
    from captioning.training.scheduled_sampling import ScheduledSampling, Teacher

    sampling = ScheduledSampling(**resolve.scheduled_sampling(settings).model_dump())
    return Teacher(resolve.word_dropout(settings), sampling)


def _chances(settings: Settings, data: "Data") -> "np.ndarray | None":
    """How likely each picture is mirrored in training; None: no picture ever is."""
    from captioning.training.encoder.augmentation import mirror_chances

    mirror, flip = resolve.mirror(settings), resolve.augment(settings).flip
    chance = 0.5 if mirror else flip
    return mirror_chances(data.train, len(data.store.ids), data.vocabulary, chance) if chance else None


def _encoder_training(settings: Settings, store: "FeatureStore") -> "EncoderTraining":
    """An encoder that is trained, in all of its blocks or some."""
    from captioning.training.encoder.fine_tuning import EncoderTraining
    from captioning.vision.encoders import backbones

    backbones.check_training_size(settings.encoder, resolve.augment(settings).image_size, store.transform.image_size)
    tuned = resolve.fine_tune(settings)
    return EncoderTraining(
        _encoder(settings, store),
        from_block=tuned.from_block,
        start_epoch=tuned.start_epoch,
        batchnorm=resolve.batchnorm(settings),
    )


def _encoder(settings: Settings, store: "FeatureStore") -> "Encoder":
    """The encoder as it is before training: ImageNet's, a file's, or drawn from the seed."""
    from captioning.vision.encoders import encoders
    from captioning.vision.encoders.weights import read_weights

    weights = read_weights(WEIGHTS / "weights.safetensors")
    return encoders.build(settings.encoder, transform=store.transform, weights=weights, seed=settings.seed)


def _start(settings: Settings, network: "Network", data: "Data") -> dict[str, Any]:
    """Take up the weights that `train.start` names; what is said of them in the model's provenance."""
    from captioning.training.warm_start import take_up

    folder = resolve.start(settings)
    if folder is None:
        return {}
    record = take_up(
        folder,
        network,
        None if resolve.trainable(settings) else _encoder(settings, data.store),
        decoder=settings.decoder,
        options=resolve.decoder_options(settings),
        transform=data.store.transform,
        vocabulary=data.vocabulary,
    )
    return {"start": record}


def _trainer(settings: Settings, network: "Network", data: "Data", fabric: "Fabric", checkpoint: Any) -> "Trainer":
    from captioning.training.optimization import count_parameters
    from captioning.training.phase import Setup
    from captioning.training.trainer import LoopOptions, Trainer

    fabric.print(f"{count_parameters(network):,} trainable parameters, {len(data.train):,} training captions")
    decided = {"epochs": resolve.epochs(settings), "batch_size": resolve.batch_size(settings)}
    said = decided | _said_of_encoder(settings)
    said |= {f"{settings.decoder}.{name}": value for name, value in resolve.decoder_options(settings).items()}
    fabric.print(", ".join(f"train.{name} = {value}" for name, value in said.items()))
    setup = Setup(network, _inputs(settings, network, data), data, fabric)
    chances = setup.inputs.mirror_chances
    if chances is not None:
        upright = len(set(data.train.image[chances[data.train.image] == 0].tolist()))
        fabric.print(f"{upright:,} images are never mirrored, because a caption says left or right")
    phases = [
        *_labelling(settings, setup),
        *_cross_entropy(settings, setup),
        *_self_critical(settings, setup),
    ]
    options = _options(
        LoopOptions,
        settings,
        compile=settings.compute.compile,
        batch_size=decided["batch_size"],
        ema=resolve.ema(settings),
    )
    return Trainer(setup, phases, options, checkpoint)


def _options(kind: Callable[..., Options], settings: Settings, **decided: Any) -> Options:
    """A dataclass of options: what is not decided is the setting in `train` of that name."""
    names = {field.name for field in fields(kind)} - decided.keys() - {"seed"}  # type: ignore[arg-type]
    return kind(seed=settings.seed, **{name: getattr(settings.train, name) for name in names}, **decided)


def _labelling(settings: Settings, setup: "Setup") -> "Iterator[Phase]":
    from captioning.training.labelling import Labelling, LabellingOptions

    epochs, network, rate = resolve.label_epochs(settings), setup.network, settings.train.label_lr
    if not epochs or network.encoder is None or network.heads is None or network.heads.labels is None:
        return
    decided = {"batch_size": resolve.batch_size(settings), "captions_per_image": resolve.captions_per_image(settings)}
    modules: list[tuple[nn.Module, float]] = [(network.encoder, rate), (network.heads.labels, rate)]
    options = _options(LabellingOptions, settings, label_epochs=epochs, **decided)
    yield Labelling(setup, modules, options)


def _cross_entropy(settings: Settings, setup: "Setup") -> "Iterator[Phase]":
    from captioning.training.cross_entropy import CrossEntropy, CrossEntropyOptions

    train, epochs = settings.train, resolve.epochs(settings)
    rates = {"encoder": train.encoder_lr}
    modules = [(module, rates.get(name, train.lr)) for name, module in setup.network.named_children()]
    decided = {"batch_size": resolve.batch_size(settings), "captions_per_image": resolve.captions_per_image(settings)}
    options = _options(CrossEntropyOptions, settings, epochs=epochs, **decided)
    if epochs:
        yield CrossEntropy(setup, modules, options)


def _self_critical(settings: Settings, setup: "Setup") -> "Iterator[Phase]":
    from captioning.training.rewards import CiderReward
    from captioning.training.self_critical import SelfCritical, SelfCriticalOptions

    chosen = settings.train.self_critical.model_dump()
    rates = {name: chosen.pop(key) for name, key in (("encoder", "encoder_lr"), ("decoder", "lr"))}
    modules = [(module, rates[name]) for name, module in setup.network.named_children() if rates.get(name)]
    options = _options(SelfCriticalOptions, settings, **chosen)
    if options.epochs:
        reward = CiderReward(setup.data.train, setup.data.vocabulary)
        yield SelfCritical(setup, modules, reward, options)


def _said_of_encoder(settings: Settings) -> dict[str, Any]:
    """How a trained encoder is trained, to be printed."""
    if not resolve.trainable(settings):
        return {}
    tuned = resolve.fine_tune(settings).model_dump()
    return {"batchnorm": resolve.batchnorm(settings)} | {f"fine_tune.{name}": value for name, value in tuned.items()}


def _fit(settings: Settings, trainer: "Trainer", resolved: dict[str, Any], key: str) -> None:
    """Train, log each epoch, and draw the first validation pictures with their captions at each better epoch."""
    from captioning.training.epoch_log import EpochLog
    from captioning.training.tracking.live import Tracker
    from captioning.training.tracking.sinks import Trackers
    from captioning.vision.images import decode

    name = f"{settings.dataset}-{settings.encoder}-{settings.decoder}-{key}"
    images = splits.read_images(SPLIT / "images.csv")
    files = images[images["split"] == "val"]["file"].tolist()[: settings.train.samples]
    with (
        Pictures(DATA) as pictures,
        Tracker(OUT, SPEEDS) as tracker,
        Trackers(settings.train.trackers, name, resolved) as others,
    ):
        shown = [decode(pictures.read(file), file) for file in files]
        trainer.fit(EpochLog(tracker, others, shown).end_of_epoch)


def _save(settings: Settings, trainer: "Trainer", resolved: dict[str, Any], started: dict[str, Any]) -> None:
    """Write the model folder with the state of the best epoch."""
    from captioning.captioner import model

    network, data, machine = trainer.network, trainer.data, settings.compute
    network.load_state_dict(trainer.best)
    encoder = network.encoder or _encoder(settings, data.store)
    best = trainer.progress.best_epoch
    card = model.Card(
        encoder=settings.encoder,
        decoder=settings.decoder,
        decoder_options=resolve.decoder_options(settings),
        transform=asdict(data.store.transform),
        settings=resolved,
        compute=compute.describe(
            portable=machine.portable, threads=machine.threads, processes=trainer.fabric.world_size
        ),
        provenance={
            "weights": read_json(WEIGHTS / "weights.json"),
            "features": digest(FEATURES / "index.json"),
            **started,
        },
        scores={"epoch": best + 1, **trainer.progress.history[best]},
    )
    states = encoder.body.state_dict(), network.decoder.state_dict()
    model.save(OUT / "model", card, *states, data.vocabulary, trainer.validation.kept_features())


if __name__ == "__main__":
    run(main)
