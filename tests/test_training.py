"""The loop: it learns, it keeps the best, and stopped at any checkpoint it ends with the same bytes."""

import signal
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from captioning.data.datasets.scenes.composition import compose
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.metrics import References
from captioning.system import compute, signals
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.training.cross_entropy import CrossEntropy, CrossEntropyOptions
from captioning.training.encoder.augmentation import Augmentation
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.epoch_sums import Sums
from captioning.training.heads import EncoderHeads
from captioning.training.inputs import FeatureInputs, Inputs, PixelInputs
from captioning.training.labelling import Labelling, LabellingOptions
from captioning.training.labels import ImageLabels
from captioning.training.network import Network
from captioning.training.phase import Data, Phase, Setup
from captioning.training.rewards import CiderReward
from captioning.training.self_critical import SelfCritical, SelfCriticalOptions
from captioning.training.trainer import LoopOptions, Progress, Trainer

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sits"]
VOCABULARY = Vocabulary((*SPECIAL, *WORDS))
EPOCHS = 4
OPTIONS: dict[str, Any] = {
    "seed": 3,
    "epochs": EPOCHS,
    "batch_size": 8,
    "captions_per_image": None,
    "label_epochs": 2,
    "weight_decay": 0.01,
    "warmup_steps": 2,
    "clip_norm": 5.0,
    "select": "bleu_1",
    "patience": 4,
    "checkpoint_steps": 2,
    "ema": 0.5,
    "samples": 3,
    "baseline": "leave_one_out",
}
CRITICAL = {"epochs": EPOCHS - 2, "critical": 2}
RATE = 0.02


class Memory:
    """A checkpoint that is kept in memory; it raises `KillError` after save number `last`."""

    def __init__(self, last: int = 10**9) -> None:
        self.state: dict[str, Any] | None = None
        self.saves, self.last = 0, last

    def save(self, state: dict[str, Any]) -> None:
        self.state = {name: _copied(value) for name, value in state.items()}
        self.saves += 1
        if self.saves == self.last:
            raise KillError

    def load(self) -> dict[str, Any] | None:
        return self.state


class KillError(Exception):
    pass


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


class Colours(nn.Module):
    """A tiny encoder: pixels (B, 3, 4, 4) → regions (B, 4, 6)."""

    dim, regions, grid = 6, 4, (2, 2)
    body = fx.GraphModule({}, fx.Graph())  # nothing that could be divided

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.conv(pixels / 255)).flatten(2).transpose(1, 2).relu()


def data(pixels: bool) -> Data:
    """Images of one colour, animal and action, each with three captions that say them."""
    generator = np.random.default_rng(0)
    words = generator.integers([0, 3, 6], [3, 6, 8], size=(24, 3))
    said = [[WORDS[index] for index in row] for row in words]
    captions = [caption for caption in said for _ in range(3)]
    rows = np.repeat(np.arange(24), 3)
    means = np.zeros((24, 8), dtype=np.float16)
    np.put_along_axis(means, words, 1.0, axis=1)
    bright = np.zeros((24, 3, 4, 4), dtype=np.uint8)
    bright[np.arange(24), words[:, 0]] = 200
    bright[np.arange(24), words[:, 1] - 3, :2] += 50
    bright += generator.integers(0, 6, bright.shape, dtype=np.uint8)  # no two images are alike
    store = SimpleNamespace(
        means=None if pixels else means,
        regions=None,
        pixels=bright if pixels else None,
        dim=8,
        transform=None,
        places=None,
        tags=None,
        neighbours=None,
    )
    store.mirrored_means, store.mirrored_regions = None if pixels else means * np.float16(0.9), None
    train, val = rows < 18, rows >= 18
    references = References({index: [" ".join(said[index])] for index in range(18, 24)})
    return Data(
        train=EncodedCaptions.encode(
            [c for c, t in zip(captions, train, strict=True) if t], rows[train].tolist(), VOCABULARY, 5
        ),
        val=EncodedCaptions.encode(
            [c for c, v in zip(captions, val, strict=True) if v], rows[val].tolist(), VOCABULARY, 5
        ),
        store=store,  # type: ignore[arg-type]
        val_rows=np.arange(18, 24),
        val_ids=list(range(18, 24)),
        score=lambda captions: references.score(captions).corpus,
        vocabulary=VOCABULARY,
    )


def options(kind: Any, changes: dict[str, Any]) -> Any:
    """A dataclass of options: OPTIONS with changes."""
    chosen = OPTIONS | changes
    return kind(**{field.name: chosen[field.name] for field in fields(kind) if field.name in chosen})


def network(
    read: Data, pixels: bool, dropout: float, start_epoch: int, drawn: bool, labelled: bool
) -> tuple[Network, Inputs]:
    """A tiny model, and its inputs. `drawn`: with every method that draws images or words at random."""
    decoder = LstmDecoder(VOCABULARY, 6 if pixels else 8, LstmOptions(12, 16, 1, dropout))
    # ahead of BatchNorm its gradient is zero but for rounding, which Adam makes as large as any other
    decoder.picture[0].bias.requires_grad_(False)
    chances = np.full(24, 0.5, np.float32) if drawn else None
    if not pixels:
        inputs = FeatureInputs(read.store, by_image=False, mirror_chances=chances)
        return Network(None, decoder), inputs
    augment = Augmentation(crop=0.5, flip=0.5, colour=0.2) if drawn else None
    labels = ImageLabels(dict(enumerate(compose(18, 1))), 24, moved=False) if labelled else None
    training = EncoderTraining(Colours(), start_epoch=start_epoch)  # type: ignore[arg-type]
    heads = EncoderHeads(training, VOCABULARY, labels, word_presence=1.0, facts=1.0)
    made = Network(training, decoder, heads)
    return made, PixelInputs(read.store, augment, chances, labels, Colours.grid)


def trainer(
    memory: Memory | Checkpoint,
    pixels: bool = False,
    dropout: float = 0.2,
    *,
    critical: int = 0,
    start_epoch: int = 1,
    drawn: bool = False,
    labelled: bool = False,
    **changes: Any,
) -> Trainer:
    """A tiny training: `critical` self-critical epochs follow those of cross-entropy, two of labels come before."""
    fabric = compute.start(seed=3, threads=1, device="cpu", precision="32-true", idle=start_epoch > 1)
    read = data(pixels)
    made, inputs = network(read, pixels, dropout, start_epoch, drawn, labelled)
    setup = Setup(made, inputs, read, fabric)
    modules = [(module, RATE) for module in made.children()]
    phases: list[Phase] = []
    if labelled:
        learnt = [(made.get_submodule(name), RATE) for name in ("encoder", "heads.labels")]
        phases.append(Labelling(setup, learnt, options(LabellingOptions, changes)))
    if options(CrossEntropyOptions, changes).epochs:
        phases.append(CrossEntropy(setup, modules, options(CrossEntropyOptions, changes)))
    if critical:
        chosen = options(SelfCriticalOptions, changes | {"epochs": critical})
        reward = CiderReward(read.train, read.vocabulary)
        phases.append(SelfCritical(setup, modules, reward, chosen))
    return Trainer(setup, phases, options(LoopOptions, changes), memory)  # type: ignore[arg-type]


def fitted(made: Trainer) -> tuple[Progress, list[tuple[Any, ...]]]:
    told: list[tuple[Any, ...]] = []
    progress = made.fit(lambda scalars, _, captions: told.append((scalars, captions)))
    return progress, told


@pytest.mark.parametrize(
    "changes",
    [{}, {"start_epoch": 3, "drawn": True}, CRITICAL, CRITICAL | {"start_epoch": 3, "drawn": True}],
    ids=["plain", "drawn", "critical", "critical_drawn"],
)
@pytest.mark.parametrize("pixels", [False, True])
def test_stopped_at_any_checkpoint_it_ends_with_the_same_bytes(pixels: bool, changes: dict[str, Any]) -> None:
    """In the middle of an epoch, between two, and between two phases."""
    memory = Memory()
    whole = trainer(memory, pixels, **changes)
    progress, told = fitted(whole)
    assert memory.saves > len(progress.history) == EPOCHS
    for last in range(1, memory.saves + 1):
        stopped = Memory(last)
        with pytest.raises(KillError):
            fitted(trainer(stopped, pixels, **changes))
        stopped.last = 10**9
        again = trainer(stopped, pixels, **changes)
        resumed, retold = fitted(again)
        assert resumed == progress
        assert [row for row, _ in retold] == [row for row, _ in told]
        best = [captions for _, captions in told if captions is not None]
        assert [captions for _, captions in retold if captions is not None][-1] == best[-1]
        assert all(torch.equal(again.best[name], tensor) for name, tensor in whole.best.items())


@pytest.mark.parametrize("step", [1, 2, 4])
def test_asked_to_leave_it_saves_the_step_first_and_ends_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Also at the last step of an epoch: validation waits for the repeated run."""
    whole = trainer(Memory(), True)
    progress, _ = fitted(whole)
    memory, taken = Memory(), iter(range(1, 10**9))
    take = Trainer._step

    def one(self: Trainer, *arguments: Any) -> int:
        images = take(self, *arguments)
        if next(taken) == step:
            signal.raise_signal(signal.SIGTERM)  # in this thread, whatever threads libraries have
        return images

    monkeypatch.setattr(Trainer, "_step", one)
    monkeypatch.setattr(signals, "_came", [])
    monkeypatch.setattr(signals, "leave_at_once", lambda: None)
    with pytest.raises(signals.Stopped):
        fitted(trainer(memory, True, checkpoint_steps=1000))
    assert next(taken) == step + 1
    again = trainer(memory, True, checkpoint_steps=1000)
    resumed, _ = fitted(again)
    assert resumed == progress
    assert all(torch.equal(again.best[name], tensor) for name, tensor in whole.best.items())
    trained = len(progress.history) * len(again.phase.plan(0))
    assert next(taken) == trained + 2  # no step is taken twice; two numbers were asked for here


@pytest.mark.parametrize("pixels", [False, True])
def test_two_trainings_are_the_same_and_learn(pixels: bool) -> None:
    first, second = (fitted(trainer(Memory(), pixels, epochs=12))[0] for _ in range(2))
    assert first == second
    losses = [row["train/loss/caption"] for row in first.history]
    assert losses[-1] < 0.6 * losses[0]
    assert first.history[first.best_epoch]["val/bleu_1"] == max(row["val/bleu_1"] for row in first.history)
    if not pixels:
        assert first.history[first.best_epoch]["val/bleu_1"] > 0.5  # a constant caption has a third of its words right


def test_what_is_drawn_changes_the_training_and_not_what_is_validated() -> None:
    plain, drawn = (trainer(Memory(), pixels=True, dropout=0.0, drawn=drawn) for drawn in (False, True))
    for made in (plain, drawn):
        made.phase.prepare(2)
    scalars, captions = drawn._validate()
    assert (scalars, captions) == plain._validate()
    losses = [fitted(made)[0].history[0]["train/loss/caption"] for made in (plain, drawn)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_an_encoder_that_starts_late_has_no_gradient_before() -> None:
    history = fitted(trainer(Memory(), pixels=True, start_epoch=3))[0].history
    assert ["train/gradient_norm/encoder" in row for row in history] == [False, False, True, True]


def test_an_encoder_that_has_not_started_does_so_in_self_critical_training() -> None:
    history = fitted(trainer(Memory(), pixels=True, start_epoch=9, drawn=True, **CRITICAL))[0].history
    assert ["train/gradient_norm/encoder" in row for row in history] == [False, False, True, True]


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    made = trainer(Memory(), epochs=40, patience=2)
    progress, _ = fitted(made)
    scores = [row["val/bleu_1"] for row in progress.history]
    assert len(scores) == progress.best_epoch + 1 + 2 < 40
    assert scores[progress.best_epoch] == max(scores)
    made.network.load_state_dict(made.best)
    assert made._validate()[1] == progress.best_captions


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched() -> None:
    made = trainer(Memory())
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    assert made.data.store.means is not None
    made.data.store.means[:] = np.inf
    with pytest.raises(
        UserError, match=r"not finite at step 0 \(epoch 1, lr 0\.01\).*caption nan.*lower train\.optimizer\.lr"
    ):
        fitted(made)
    for name in ("decoder.embedding.weight", "decoder.output.weight"):
        assert torch.equal(made.network.state_dict()[name], before[name])


def test_unchecked_a_step_with_a_bad_loss_and_those_after_it_change_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, whose losses are looked at now and then: the first bad step is named, with its own rate."""
    made = trainer(Memory(), checkpoint_steps=10**9)
    check, watch = made._check, Sums.watch
    before: list[dict[str, Tensor]] = []

    def spoil(sums: Sums, losses: dict[str, Tensor], step: int) -> Tensor:
        if step == 3:
            before.append({name: tensor.clone() for name, tensor in made.network.named_parameters()})
            losses = {name: loss * torch.nan for name, loss in losses.items()}
        return watch(sums, losses, step)

    monkeypatch.setattr(made, "_check", lambda _: None)
    monkeypatch.setattr(Sums, "watch", spoil)
    made._train_epoch()
    assert made.progress.step == 7
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in made.network.named_parameters())
    states = made.optimizer.state_dict()["state"].values()
    assert {int(state["step"]) for state in states} == {3}
    rate = RATE * made.phase.factor(3, 7)
    with pytest.raises(UserError, match=rf"not finite at step 3 \(epoch 1, lr {rate:.3g}\): caption nan"):
        check(7)


def test_each_epoch_tells_losses_scores_rate_and_norms() -> None:
    progress, _ = fitted(trainer(Memory(), pixels=True))
    names = progress.history[0].keys()
    assert {"train/loss/caption", "train/loss/presence", "val/loss/caption", "train/lr", "val/cider"} <= names
    assert {f"val/bleu_{n}" for n in (1, 2, 3, 4)} <= names
    assert {"train/gradient_norm/encoder", "train/gradient_norm/decoder_lstm", "train/gradient_norm/all"} <= names
    assert {"train/update_ratio/encoder", "train/update_ratio/decoder_lstm"} <= names
    rates = [row["train/lr"] for row in progress.history]
    assert rates == sorted(rates, reverse=True)


def test_labels_are_learnt_before_captions() -> None:
    """Until captions come, the decoder is as it was and no caption is scored. They go on from the last epoch."""
    made = trainer(Memory(), True, labelled=True)
    before = {name: tensor.clone() for name, tensor in made.network.decoder.state_dict().items()}
    rows: list[tuple[dict[str, float], bool]] = []

    def end_of_epoch(scalars: dict[str, float], _: dict[str, float], captions: list[str] | None) -> None:
        now = made.network.decoder.state_dict()
        rows.append((scalars, all(torch.equal(now[name], tensor) for name, tensor in before.items())))
        assert captions is None or len(rows) > 2

    progress = made.fit(end_of_epoch)
    assert len(rows) == 2 + EPOCHS
    assert [untouched for _, untouched in rows] == [True, True] + [False] * EPOCHS
    for scalars, _ in rows[:2]:
        assert "val/bleu_1" not in scalars
        assert "train/loss/caption" not in scalars
    for name in ("image_labels", "region_labels"):
        first, second = (scalars[f"train/loss/{name}"] for scalars, _ in rows[:2])
        assert second < first
        assert f"train/loss/{name}" in rows[-1][0]
    assert progress.best_epoch >= 2


def test_stopped_among_labels_it_ends_with_the_same_bytes() -> None:
    memory = Memory()
    whole = trainer(memory, True, labelled=True)
    _, told = fitted(whole)
    for last in range(1, memory.saves + 1, 3):
        stopped = Memory(last)
        with pytest.raises(KillError):
            fitted(trainer(stopped, True, labelled=True))
        stopped.last = 10**9
        again = trainer(stopped, True, labelled=True)
        assert [scalars for scalars, _ in fitted(again)[1]] == [scalars for scalars, _ in told]
        for name, tensor in whole.best.items():
            assert torch.equal(again.best[name], tensor), name
