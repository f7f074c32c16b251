"""train: a model, selected by its validation score → data/train/."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from captioning.captioner import model
from captioning.captioner.cards import Card
from captioning.data.datasets.scenes import facts
from captioning.data.objects import detectors, placing, tables
from captioning.data.splits import coco
from captioning.data.splits.images import read_images
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.evaluation.truth import measure
from captioning.metrics import References
from captioning.settings.resolve import decoder_options, for_training
from captioning.settings.rules import LABELLED, learns
from captioning.settings.schema import Compute, Settings
from captioning.settings.training import INITIAL, Train
from captioning.system import compute
from captioning.system.archives import ImageArchives
from captioning.system.checkpoints import Checkpoint
from captioning.system.files import digest, run_key
from captioning.system.sealed import check_table
from captioning.training import beside, build, labelling, machine, plan, warm_start
from captioning.training.epoch_log import EpochLog
from captioning.training.labels import ImageLabels
from captioning.training.optimization import count_parameters
from captioning.training.phase import Data, Setup
from captioning.training.tracking.live import Tracker
from captioning.training.tracking.sinks import Trackers
from captioning.training.trainer import Trainer
from captioning.vision.encoders import backbones, encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.encoders.weights import read_record, read_weights
from captioning.vision.features.encodings import stored_pixels
from captioning.vision.features.placement import settle
from captioning.vision.features.store import FeatureStore
from captioning.vision.features.unlikeness import KeptStatistics, spread, statistics
from captioning.vision.images import decode
from stages import code

DATA = Path("data/download")
WEIGHTS = INITIAL
VOCABULARY = Path("data/vocab/vocab.txt")
SPLIT = Path("data/split")
FEATURES = Path("data/features")
OBJECTS = Path("data/objects")
OUT = Path("data/train")
SPEEDS = Path("logs/train")
READ = ("images.csv", "references_val.json", "train.npz", "val.npz")  # of SPLIT
SAMPLES = 12  # validation images in the logged grid


class Training(NamedTuple):
    """A training that can begin, and what the model records of it. resolved: the settings. origins: of the weights."""

    trainer: Trainer
    initial: Encoder
    resolved: dict[str, Any]
    origins: dict[str, Any]


def main(settings: Settings) -> None:
    training = prepare(settings, Checkpoint)
    trainer, checkpoint = training.trainer, training.trainer.checkpoint
    if not trainer.fabric.is_global_zero:
        trainer.fit(lambda *_: None)
        return
    name = f"{settings.dataset}-{settings.encoder}-{settings.decoder}-{checkpoint.key}"
    _fit(trainer, settings.train.trackers, name, training.resolved)
    _save(training, settings.compute)
    checkpoint.clear()


def prepare(settings: Settings, checkpoint: Callable[[str], Checkpoint]) -> Training:
    """Read what is trained on, and build what is trained. checkpoint: made of the key of this training."""
    computing, train = settings.compute, settings.train
    fabric = compute.start(
        seed=settings.seed,
        threads=computing.threads,
        device=computing.device,
        precision=computing.precision,
        idle=train.encoder.start_epoch > 1,
    )
    label_epochs = labelling.epochs(train.labels.epochs, light=backbones.is_light(settings.encoder))
    resolved = for_training(settings)
    resolved["train"]["labels"]["epochs"] = label_epochs
    data = _data(train if _learns_labels(settings) else None, fabric, beside.FITS.get(settings.objects))
    weights = read_record(WEIGHTS)
    initial = _initial_encoder(settings.encoder, settings.seed, data.store)
    network = build.network(settings, data, initial)
    started = warm_start.begin(settings, network, data, initial, _objects(data), fabric.print)
    setup = Setup(network, build.inputs(settings, network, data), data, fabric)
    _print_settings(settings, setup, label_epochs)
    phases = plan.phases(settings.seed, train, label_epochs, setup)
    kept = checkpoint(_key({**resolved, **started}, fabric))
    trainer = Trainer(setup, phases, plan.loop(settings.seed, train, computing), kept)
    return Training(trainer, initial, resolved, {"weights": weights, **started})


def _key(settings: dict[str, Any], fabric: Fabric) -> str:
    """A key of all that the trained weights depend on. The index of the features has the digests of its arrays."""
    inputs = [
        VOCABULARY,
        *WEIGHTS.glob("weights.*"),
        FEATURES / "index.json",
        OBJECTS / tables.CARD,
        *(SPLIT / name for name in READ),
    ]
    labels = [DATA / facts.FILE] if (DATA / facts.FILE).exists() else []
    return run_key({**settings, **machine.deciding(fabric)}, [*sorted(inputs), *labels], code("train"))


def _learns_labels(settings: Settings) -> bool:
    return learns(settings) and settings.dataset in LABELLED


def _data(labelled: Train | None, fabric: Fabric, fit: beside.Fit | None) -> Data:
    """labelled: how the encoder is trained that learns the labels; None: none does. fit: of what is beside features."""
    check_table(VOCABULARY, "run `dvc repro -f vocab`")
    images = read_images(SPLIT / "images.csv")
    validation, train = images[images["split"] == "val"], EncodedCaptions.read(SPLIT / "train.npz")
    ids, vocabulary = images["image_id"].tolist(), Vocabulary.read(VOCABULARY)
    val = EncodedCaptions.read(SPLIT / "val.npz")
    store = _store(ids, vocabulary)
    made = None if fit is None else fit(beside.Captioned(store, train, val, vocabulary), fabric.print)
    return Data(
        train=train,
        val=val,
        store=settle(store, fabric.device),
        val_rows=validation.index.to_numpy(),
        val_ids=validation["coco_id"].tolist(),
        score=_scores(validation),
        vocabulary=vocabulary,
        labels=_labels(labelled, ids, train) if labelled else None,
        beside=made,
    )


def _scores(validation: pd.DataFrame) -> Callable[[Mapping[int, str]], Mapping[str, float]]:
    """What scores captions of the validation images; of drawn scenes, by what is true of them too."""
    references = References(coco.read_references(SPLIT / "references_val.json"))
    scenes = facts.of_images(DATA / facts.FILE, validation)

    def score(captions: Mapping[int, str]) -> Mapping[str, float]:
        scores = references.score(captions)
        return (scores | measure.score(captions, scenes).scores if scenes else scores).corpus

    return score


def _store(ids: list[str], vocabulary: Vocabulary) -> FeatureStore:
    """The feature store, and where the objects of its images are."""
    return placing.enter(FeatureStore(FEATURES, ids), OBJECTS, vocabulary)


def _initial_encoder(name: str, seed: int, store: FeatureStore) -> Encoder:
    """The encoder as it is before training: ImageNet's, a file's, or drawn from the seed."""
    weights = read_weights(WEIGHTS / "weights.safetensors")
    return encoders.build(name, transform=store.transform, weights=weights, seed=seed)


def _labels(train: Train, image_ids: list[str], captions: EncodedCaptions) -> ImageLabels:
    """What the data set records of the training images."""
    moved = train.augment.flip > 0 or train.augment.crop < 1
    return ImageLabels.read(DATA / facts.FILE, image_ids, captions, moved=moved)


def _objects(data: Data) -> dict[str, str]:
    """What kind of objects the vectors are of, or what is read beside them; empty for none."""
    return tables.identity(tables.read_card(OBJECTS)) if data.beside is None else beside.identity(data.beside)


def _print_settings(settings: Settings, setup: Setup, label_epochs: int) -> None:
    """Print what is trained, and how `auto` was decided."""
    train, options, data = settings.train, vars(decoder_options(settings)), setup.data
    parameters = count_parameters(setup.network)
    setup.fabric.print(f"{parameters:,} trainable parameters, {len(data.train):,} training captions")
    decided: dict[str, Any] = {"labels.epochs": label_epochs} if label_epochs else {}
    decided |= {"pretraining.epochs": train.pretraining.epochs} if train.pretraining.epochs else {}
    decided |= {"epochs": train.epochs, "batch_size": train.batch_size}
    if settings.features.trainable:
        decided |= {"encoder.from_block": train.encoder.from_block, "encoder.start_epoch": train.encoder.start_epoch}
    shown = {f"train.{name}": value for name, value in decided.items()}
    shown |= {f"decoders.{settings.decoder}.{name}": value for name, value in options.items()}
    setup.fabric.print(", ".join(f"{name} = {value}" for name, value in shown.items()))
    chances = setup.inputs.mirror_chances
    if chances is not None:
        upright = len(set(data.train.image[chances[data.train.image] == 0].tolist()))
        setup.fabric.print(f"{upright:,} images are never mirrored, because a caption says left or right")


def _fit(trainer: Trainer, trackers: tuple[str, ...], name: str, resolved: dict[str, Any]) -> None:
    """Train, log each epoch, and draw the first validation images with their captions at each better epoch."""
    images = read_images(SPLIT / "images.csv")
    files = images[images["split"] == "val"]["file"].tolist()[:SAMPLES]
    with (
        ImageArchives(DATA) as image_files,
        Tracker(OUT, SPEEDS) as tracker,
        Trackers(trackers, name, resolved) as others,
    ):
        shown = [decode(image_files.read(file), file) for file in files]
        trainer.fit(EpochLog(tracker, others, shown).end_of_epoch)


def _save(training: Training, settings: Compute) -> None:
    """Write the model folder with the state of the best epoch."""
    trainer, initial, resolved, origins = training
    network, data = trainer.network, trainer.data
    network.load_state_dict(trainer.best)
    encoder = network.encoder or initial
    best, decoder = trainer.progress.best_epoch, resolved["decoder"]
    card = Card(
        encoder=resolved["encoder"],
        decoder=decoder,
        decoder_options=resolved["decoders"][decoder],
        transform=asdict(data.store.transform),
        settings=resolved,
        compute=machine.recorded(settings, trainer.fabric),
        provenance={
            "features": digest(FEATURES / "index.json"),
            **({"objects": objects} if (objects := _objects(data)) else {}),
            **({"vector_width": data.store.dim} if data.store.by_no_encoder else {}),
            **origins,
        },
        scores={"epoch": best + 1, **trainer.progress.history[best]},
    )
    states = encoder.body.state_dict(), network.decoder.state_dict()
    detector = detectors.of(OBJECTS)
    model.save(OUT / "model", card, *states, data.vocabulary, _statistics(data), None, detector, data.beside)


def _statistics(data: Data) -> KeptStatistics:
    """Statistics of some training and validation images, by which images of another kind are recognised later."""
    files, store = read_images(SPLIT / "images.csv")["file"].to_numpy(), data.store
    with ImageArchives(DATA) as image_files:

        def pixels(row: int) -> Tensor:
            """(1, 3, S, S), from the store where it has pixels."""
            if store.pixels is not None:
                return stored_pixels(store, np.array([row]))[0]
            image = decode(image_files.read(files[row]), files[row])
            return torch.from_numpy(store.transform.pixels(image)).unsqueeze(0)

        def of(rows: np.ndarray) -> Tensor:
            return torch.cat([statistics(pixels(row)) for row in spread(rows)])

        return KeptStatistics(of(np.unique(data.train.image)), of(data.val_rows))
