"""The phase of labels: it trains encoder and heads alone, its last epoch is kept, and captions follow from it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.vocabulary import numbered
from captioning.data.datasets.scenes.composition import compose
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.training.cross_entropy import CrossEntropy
from captioning.training.encoder.blocks import ALL, NONE
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.training.inputs import PixelInputs
from captioning.training.labelling import Labeller, Labelling
from captioning.training.labels import ImageLabels
from captioning.training.network import Network
from captioning.training.phase import Setup
from captioning.training.trainer import Trainer
from captioning.vision.encoders.encoders import Encoder
from tests.test_encoders import images
from tests.test_encoders import made as encoder
from tests.test_training import EPOCHS, KillError, Memory, fitted, trainer

SCENES = dict(enumerate(compose(18, 1)))


def copied(made: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.network.state_dict().items()}


def test_labels_are_learnt_without_a_caption_and_the_last_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """More epochs than `patience`, which has no score to wait for."""
    made = trainer(Memory(), True, dropout=0.0, labelled=True, label_epochs=12, epochs=0)
    (phase,) = made.phases
    assert isinstance(phase, Labelling)
    monkeypatch.setattr(made.validation, "run", lambda: pytest.fail("captions were validated"))
    before = copied(made)
    progress, told = fitted(made)
    assert (progress.best_epoch, progress.best_captions) == (11, [])
    assert [captions for _, captions in told] == [None] * 12
    for name in ("image_labels", "region_labels"):
        losses = [row[f"train/loss/{name}"] for row in progress.history]
        assert losses[-1] < 0.9 * losses[0], name
    unlike = [name for name, tensor in made.best.items() if not torch.equal(tensor, before[name])]
    assert {name.split(".")[0] for name in unlike} == {"encoder", "heads"}
    now = made.network.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in now if name.startswith(("decoder", "heads.presence")))


def test_captions_follow_from_the_last_epoch_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(Memory(), True, labelled=True, label_epochs=2, epochs=2)
    _, captions = made.phases
    assert isinstance(captions, CrossEntropy)
    kept: list[dict[str, Tensor]] = []
    begun: list[tuple[int, dict[str, Tensor]]] = []

    def prepare(epoch: int, prepare: Any = captions.prepare) -> None:
        begun.append((epoch, copied(made)))
        prepare(epoch)

    monkeypatch.setattr(captions, "prepare", prepare)
    progress = made.fit(lambda *_: kept.append(dict(made.best)))
    assert [epoch for epoch, _ in begun] == [0, 1]
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in begun[0][1].items())
    assert ["val/bleu_1" in row for row in progress.history] == [False, False, True, True]
    assert progress.best_epoch >= 2
    assert len(progress.best_captions) == 6


ALL_PHASES: dict[str, Any] = {
    "labelled": True,
    "label_epochs": 1,
    "epochs": 2,
    "critical": 1,
    "start_epoch": 2,
    "drawn": True,
    "captions_per_image": 2,
}


def test_stopped_in_any_of_three_phases_it_ends_with_the_same_bytes() -> None:
    memory = Memory()
    whole = trainer(memory, True, **ALL_PHASES)
    progress, _ = fitted(whole)
    assert memory.saves > len(progress.history) == 4
    for last in range(1, memory.saves + 1):
        stopped = Memory(last)
        with pytest.raises(KillError):
            fitted(trainer(stopped, True, **ALL_PHASES))
        stopped.last = 10**9
        again = trainer(stopped, True, **ALL_PHASES)
        resumed, _ = fitted(again)
        assert resumed == progress
        assert all(torch.equal(again.best[name], tensor) for name, tensor in whole.best.items())


def test_epochs_of_captions_count_from_one_after_those_of_labels() -> None:
    """The encoder learns labels from the first epoch on, and captions from `start_epoch` on."""
    made = trainer(Memory(), True, labelled=True, label_epochs=2, epochs=EPOCHS, start_epoch=3, drawn=True)
    history = fitted(made)[0].history
    assert ["train/gradient_norm/encoder" in row for row in history] == [True, True, False, False, True, True]
    assert ["train/gradient_norm/decoder_lstm" in row for row in history] == [False] * 2 + [True] * EPOCHS


@pytest.mark.parametrize("per_image", [None, 1, 2, 5])
def test_an_epoch_of_labels_has_each_image_once_and_as_many_steps_as_one_of_captions(per_image: int | None) -> None:
    made = trainer(Memory(), True, labelled=True, captions_per_image=per_image)
    labels, captions = (phase.plan(0) for phase in made.phases)
    rows = made.data.train.image[np.concatenate(labels)]
    assert sorted(rows.tolist()) == list(range(18))
    assert [len(chosen) for chosen in labels] == [len(set(made.data.train.image[chosen])) for chosen in captions]
    assert not np.array_equal(rows, made.data.train.image[np.concatenate(made.phases[0].plan(1))])


def network(body: Encoder, labels: ImageLabels | None, facts: float = 1.0, block: str = ALL) -> Network:
    torch.manual_seed(0)
    training = EncoderTraining(body, from_block=block)
    decoder = LstmDecoder(numbered(12), body.dim, LstmOptions(8, 8, 1, 0.0, "nic"))
    return Network(training, decoder, EncoderHeads(training, numbered(12), labels, word_presence=1.0, facts=facts))


def targets(labels: ImageLabels, body: Encoder, count: int) -> tuple[Tensor, ...]:
    """What heads learn of the first images."""
    inputs = PixelInputs(SimpleNamespace(), labels=labels, grid=body.grid)  # type: ignore[arg-type]
    return inputs.labels(np.arange(count), torch.device("cpu"))


@pytest.mark.parametrize(("moved", "grid"), [(False, True), (True, True), (False, False)])
def test_every_weight_of_the_phase_has_a_gradient(moved: bool, grid: bool) -> None:
    """Several processes wait for each of them."""
    body = encoder("shufflenet_v2_x0_5", 64)
    body.grid = body.grid if grid else None
    labels = ImageLabels(SCENES, 18, moved=moved)
    made = network(body, labels)
    made.begin_labels()
    module = Labeller(made)
    losses = module((images(4, 64),), *targets(labels, body, 4))
    assert set(losses) == {"image_labels"} | ({"region_labels"} if grid and not moved else set())
    torch.stack([loss.value for loss in losses.values()]).sum().backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


def test_beside_captions_labels_weigh_what_the_setting_says() -> None:
    tokens, owner = torch.tensor([[1, 5, 6, 2], [1, 7, 8, 2]]), torch.tensor([0, 1])
    found, labels = [], ImageLabels(SCENES, 18, moved=False)
    for facts in (0.0, 1.0, 2.0):
        body = encoder("shufflenet_v2_x0_5", 64)
        made = network(body, labels, facts)
        made.begin_captions(1)
        losses = made((images(2, 64),), tokens, owner, *targets(labels, body, 2))
        found.append([losses[name].value.item() for name in ("image_labels", "region_labels")])
    assert found[0] == [0, 0]
    assert min(found[1]) > 0
    assert found[2] == pytest.approx([2 * loss for loss in found[1]])
    assert set(made.eval()((images(2, 64),), tokens, owner)) == {"caption", "presence"}


def test_without_labels_or_a_trained_block_there_are_no_heads() -> None:
    labels = ImageLabels(SCENES, 18, moved=False)
    for block, given in ((NONE, labels), (ALL, None)):
        heads = network(encoder("shufflenet_v2_x0_5", 64), given, block=block).heads
        assert heads is not None
        assert heads.labels is None
    assert PixelInputs(SimpleNamespace()).labels(np.arange(2), torch.device("cpu")) == ()  # type: ignore[arg-type]


def test_a_network_is_on_its_device_in_a_phase_that_trains_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phase's own module is moved by Fabric; the rest of the network would stay behind."""
    made = trainer(Memory(), True, labelled=True)
    moved: list[Any] = []
    monkeypatch.setattr(made.network, "to", lambda device: moved.append(device) or made.network)
    setup = Setup(made.network, PixelInputs(made.data.store), made.data, made.fabric)
    Trainer(setup, made.phases, made.options, SimpleNamespace())  # type: ignore[arg-type]
    assert moved == [made.fabric.device]
