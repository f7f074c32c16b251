"""train: a model, chosen by its validation score → data/train/."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from captioning import coco, compute, splits
from captioning import settings as resolve
from captioning.archives import Pictures
from captioning.files import digest, read_json, run_key
from captioning.schema import DecoderName, Settings
from captioning.vocabulary import Vocabulary
from stages import run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from captioning.encoders import Encoder
    from captioning.features import FeatureStore
    from captioning.networks import EndToEnd, OnFeatures
    from captioning.phases import Data, Phase
    from captioning.training import Trainer

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
    from captioning.checkpoints import Checkpoint

    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    resolved = _resolved(settings)
    data = _data(fabric)
    network = _network(settings, data)
    started = _start(settings, network, data)
    inputs = [VOCABULARY, WEIGHTS / "weights.json", FEATURES / "index.json", *(SPLIT / name for name in READ)]
    checkpoint = Checkpoint(run_key({**resolved, **started, "processes": fabric.world_size}, inputs))
    trainer = _trainer(settings, network, data, fabric, checkpoint)
    if not fabric.is_global_zero:
        trainer.fit(lambda *_: None)
        return
    _fit(settings, trainer)
    _save(settings, trainer, resolved, started)
    checkpoint.clear()


def _data(fabric: "Fabric") -> "Data":
    from captioning.features import FeatureStore
    from captioning.metrics import References
    from captioning.phases import Data
    from captioning.placement import settle

    images = splits.read_images(SPLIT / "images.csv")
    validation = images[images["split"] == "val"]
    return Data(
        train=splits.EncodedCaptions.read(SPLIT / "train.npz"),
        val=splits.EncodedCaptions.read(SPLIT / "val.npz"),
        store=settle(FeatureStore(FEATURES, images["image_id"].tolist()), fabric.device),
        val_rows=validation.index.to_numpy(),
        val_ids=validation["coco_id"].tolist(),
        references=References(coco.read_references(SPLIT / "references_val.json")),
        vocabulary=Vocabulary.read(VOCABULARY),
    )


def _network(settings: Settings, data: "Data") -> "OnFeatures | EndToEnd":
    import torch

    from captioning import decoders, encoders
    from captioning.networks import EndToEnd, OnFeatures

    train, store = settings.train, data.store
    options = resolve.decoder_options(settings)
    counts = torch.from_numpy(data.train.target_counts(len(data.vocabulary)))
    if not resolve.trainable(settings):
        decoder = decoders.build(settings.decoder, len(data.vocabulary), store.dim, options)
        decoder.expect(counts)
        return OnFeatures(decoder, train.label_smoothing)
    encoder = encoders.batchnorm(_encoder(settings, store), train.batchnorm)
    decoder = decoders.build(settings.decoder, len(data.vocabulary), encoder.dim, options)
    decoder.expect(counts)
    return EndToEnd(encoder, decoder, len(data.vocabulary), train.label_smoothing, train.word_presence)


def _encoder(settings: Settings, store: "FeatureStore") -> "Encoder":
    """The encoder as it is before training: ImageNet's, a file's, or drawn from the seed."""
    from captioning import encoders
    from captioning.weights import read_weights

    weights = read_weights(WEIGHTS / "weights.safetensors")
    return encoders.build(settings.encoder, transform=store.transform, weights=weights, seed=settings.seed)


def _start(settings: Settings, network: "OnFeatures | EndToEnd", data: "Data") -> dict[str, Any]:
    """Take up the weights that `train.start` names; what is said of them in the model's provenance."""
    from captioning.start import take_up

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


def _trainer(
    settings: Settings, network: "OnFeatures | EndToEnd", data: "Data", fabric: "Fabric", checkpoint: Any
) -> "Trainer":
    from captioning.optimization import count_parameters
    from captioning.training import LoopOptions, Trainer

    fabric.print(f"{count_parameters(network):,} numbers are trained on {len(data.train):,} captions")
    decided = {"epochs": resolve.epochs(settings), "batch_size": resolve.batch_size(settings)}
    said = decided | {f"{settings.decoder}.{name}": value for name, value in resolve.decoder_options(settings).items()}
    fabric.print(", ".join(f"train.{name} = {value}" for name, value in said.items()))
    phases = [*_cross_entropy(settings, network, data, fabric), *_self_critical(settings, network, data, fabric)]
    options = _options(LoopOptions, settings, compile=settings.compute.compile, batch_size=decided["batch_size"])
    return Trainer(network, phases, data, options, fabric, checkpoint)


def _options(kind: Callable[..., Options], settings: Settings, **decided: Any) -> Options:
    """A dataclass of options: what is not decided is the setting in `train` of that name."""
    names = {field.name for field in fields(kind)} - decided.keys() - {"seed"}  # type: ignore[arg-type]
    return kind(seed=settings.seed, **{name: getattr(settings.train, name) for name in names}, **decided)


def _cross_entropy(
    settings: Settings, network: "OnFeatures | EndToEnd", data: "Data", fabric: "Fabric"
) -> "Iterator[Phase]":
    from captioning.phases import CrossEntropy, CrossEntropyOptions

    train, epochs = settings.train, resolve.epochs(settings)
    rates = {"encoder": train.encoder_lr}
    modules = [(module, rates.get(name, train.lr)) for name, module in network.named_children()]
    options = _options(CrossEntropyOptions, settings, epochs=epochs, batch_size=resolve.batch_size(settings))
    if epochs:
        yield CrossEntropy(network, modules, data, options, fabric)


def _self_critical(
    settings: Settings, network: "OnFeatures | EndToEnd", data: "Data", fabric: "Fabric"
) -> "Iterator[Phase]":
    from captioning.rewards import CiderReward
    from captioning.self_critical import SelfCritical, SelfCriticalOptions

    chosen = settings.train.self_critical.model_dump()
    rates = {name: chosen.pop(key) for name, key in (("encoder", "encoder_lr"), ("decoder", "lr"))}
    modules = [(module, rates[name]) for name, module in network.named_children() if name in rates]
    options = _options(SelfCriticalOptions, settings, **chosen)
    if options.epochs:
        reward = CiderReward(data.train, data.vocabulary)
        yield SelfCritical(network, modules, data, reward, options, fabric)


def _fit(settings: Settings, trainer: "Trainer") -> None:
    """Train, log each epoch, and draw the first validation pictures with their captions at each better epoch."""
    from captioning.images import decode, grid
    from captioning.tracking import Tracker

    images = splits.read_images(SPLIT / "images.csv")
    files = images[images["split"] == "val"]["file"].tolist()[: settings.train.samples]
    with Pictures(DATA) as pictures, Tracker(OUT, SPEEDS) as tracker:
        shown = [decode(pictures.read(file), file) for file in files]

        def end_of_epoch(scalars: dict[str, float], speeds: dict[str, float], captions: list[str] | None) -> None:
            if captions is not None:
                tracker.picture("validation.png", grid(shown, captions[: len(shown)], columns=4))
            tracker.epoch(scalars, speeds)
            print(_line(scalars, speeds), flush=True)

        trainer.fit(end_of_epoch)


def _line(scalars: dict[str, float], speeds: dict[str, float]) -> str:
    names = ("train/loss/caption", "train/reward/sample", "val/loss/caption", "val/bleu_3", "val/bleu_4", "val/cider")
    parts = [f"{name} {scalars[name]:.4f}" for name in names if name in scalars]
    return "  ".join(parts + [f"{name} {value:,.0f}" for name, value in speeds.items()])


def _resolved(settings: Settings) -> dict[str, Any]:
    """Every setting that this stage reads, with `auto` decided."""
    features = settings.features.model_dump() | {
        "weights": resolve.weights(settings),
        "trainable": resolve.trainable(settings),
        "image_size": resolve.image_size(settings),
        "regions": resolve.regions(settings),
    }
    named = {name: getattr(settings, name) for name in ("seed", "dataset", "encoder", "decoder")}
    return {
        **named,
        "compute": settings.compute.model_dump(),
        "features": features,
        "train": settings.train.model_dump(exclude=set(get_args(DecoderName)))
        | {
            "epochs": resolve.epochs(settings),
            "batch_size": resolve.batch_size(settings),
            settings.decoder: resolve.decoder_options(settings),
        },
    }


def _save(settings: Settings, trainer: "Trainer", resolved: dict[str, Any], started: dict[str, Any]) -> None:
    """Write the model folder with the state of the best epoch."""
    from captioning import model
    from captioning.networks import EndToEnd

    network, data, machine = trainer.network, trainer.data, settings.compute
    network.load_state_dict(trainer.best)
    encoder = network.encoder if isinstance(network, EndToEnd) else _encoder(settings, data.store)
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
    model.save(OUT / "model", card, encoder.body.state_dict(), network.decoder.state_dict(), data.vocabulary)


if __name__ == "__main__":
    run(main)
