"""From the section `train` of the settings to the phases of a training, and to what they share."""

from collections.abc import Iterator

from torch import nn

from captioning.decoders.base import RetrievalDecoder
from captioning.settings.schema import Compute
from captioning.settings.training import Train
from captioning.training.cross_entropy import CrossEntropy, CrossEntropyOptions
from captioning.training.fitting import Fitting
from captioning.training.labelling import Labelling, LabellingOptions
from captioning.training.phase import Phase, Setup
from captioning.training.pretraining import Pretraining, PretrainingOptions
from captioning.training.rewards import CiderReward
from captioning.training.self_critical import SelfCritical, SelfCriticalOptions
from captioning.training.trainer import LoopOptions

IMAGES = 32  # of a step of self-critical training
SAMPLES = 5  # captions sampled for each of them, each of which is compared with the others


def loop(seed: int, train: Train, machine: Compute) -> LoopOptions:
    """What all phases share."""
    return LoopOptions(
        seed=seed,
        batch_size=train.batch_size,
        clip_norm=train.optimizer.clip_norm,
        select=train.select,
        patience=train.patience,
        checkpoint_steps=train.checkpoint_steps,
        ema=train.optimizer.ema,
        compile=machine.compile,
    )


def phases(seed: int, train: Train, label_epochs: int, setup: Setup) -> list[Phase]:
    """Labels, pretraining, cross-entropy and self-critical training, as far as each has epochs; or one fit."""
    labelled = _labelling(seed, train, label_epochs, setup)
    if isinstance(setup.network.decoder, RetrievalDecoder):
        return [*labelled, Fitting(setup, setup.network.decoder, train.batch_size)]
    return [
        *labelled,
        *_pretraining(seed, train, setup),
        *_cross_entropy(seed, train, setup),
        *_self_critical(seed, train, setup),
    ]


def _labelling(seed: int, train: Train, epochs: int, setup: Setup) -> Iterator[Phase]:
    network, rate = setup.network, train.labels.lr
    if not epochs or network.encoder is None or network.heads is None or network.heads.labels is None:
        return
    modules: list[tuple[nn.Module, float]] = [(network.encoder, rate), (network.heads.labels, rate)]
    options = LabellingOptions(
        seed=seed,
        label_epochs=epochs,
        batch_size=train.batch_size,
        captions_per_image=_captions_per_image(train),
        weight_decay=train.optimizer.weight_decay,
        warmup_steps=train.optimizer.warmup_steps,
    )
    yield Labelling(setup, modules, options)


def _captions_per_image(train: Train) -> int | None:
    return None if train.captions_per_image == "all" else train.captions_per_image


def _pretraining(seed: int, train: Train, setup: Setup) -> Iterator[Phase]:
    if not train.pretraining.epochs:
        return
    options = PretrainingOptions(
        seed=seed,
        epochs=train.pretraining.epochs,
        batch_size=train.batch_size,
        captions_per_image=_captions_per_image(train),
        lr=train.optimizer.lr,
        weight_decay=train.optimizer.weight_decay,
        warmup_steps=train.optimizer.warmup_steps,
    )
    yield Pretraining(setup, options)


def _cross_entropy(seed: int, train: Train, setup: Setup) -> Iterator[Phase]:
    if not train.epochs:
        return
    rates = {"encoder": train.encoder.lr}
    modules = [(module, rates.get(name, train.optimizer.lr)) for name, module in setup.network.named_children()]
    options = CrossEntropyOptions(
        seed=seed,
        epochs=train.epochs,
        batch_size=train.batch_size,
        captions_per_image=_captions_per_image(train),
        weight_decay=train.optimizer.weight_decay,
        warmup_steps=train.optimizer.warmup_steps,
    )
    yield CrossEntropy(setup, modules, options)


def _self_critical(seed: int, train: Train, setup: Setup) -> Iterator[Phase]:
    section = train.self_critical
    if not section.epochs:
        return
    rates = {"encoder": section.encoder_lr, "decoder": section.lr}
    modules = [(module, rates[name]) for name, module in setup.network.named_children() if rates.get(name)]
    options = SelfCriticalOptions(
        seed=seed,
        epochs=section.epochs,
        batch_size=IMAGES,
        samples=SAMPLES,
        baseline="leave_one_out",
        weight_decay=train.optimizer.weight_decay,
        warmup_steps=train.optimizer.warmup_steps,
    )
    yield SelfCritical(setup, modules, CiderReward(setup.data.train, setup.data.vocabulary), options)
