"""Self-critical training: what is drawn is the model's distribution, and the gradient is that of the expected reward.

Where a vocabulary has two words and a caption at most two, all captions can be enumerated, and nothing is left to luck.
"""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from captioning import decoders
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import Decoder, select
from captioning.search import SearchOptions, search
from captioning.training import self_critical
from captioning.training.inputs import FeatureInputs, PixelInputs
from captioning.training.network import Network
from captioning.training.phase import Data, Setup
from captioning.training.rewards import CiderReward
from captioning.training.self_critical import (
    SelfCritical,
    SelfCriticalOptions,
    draw,
    leave_one_out,
    log_likelihood,
    sample,
)
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features import encodings
from tests.special import BOS, EOS, PAD, UNK
from tests.test_training import EPOCHS, Memory, fitted, trainer
from tests.variants import VARIANTS, build, images

every = pytest.mark.parametrize("variant", VARIANTS)
LONGEST = 9


def numbers(images: int, samples: int, longest: int = LONGEST) -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).integers(1 << 32, size=(images, samples, longest)))


def test_words_are_drawn_as_often_as_they_are_probable() -> None:
    """Random numbers at even distances give each word its share, to within one of them."""
    count = 1 << 12
    probabilities = torch.tensor([0.0, 0.25, 0.0, 0.6, 0.15, 0.0]).expand(count, -1)
    even = torch.arange(count) * ((1 << 32) // count)
    found = torch.bincount(draw(probabilities, even), minlength=6)
    assert (found - count * probabilities[0]).abs().max() <= 1
    edges = torch.tensor([0, (1 << 32) - 1])
    assert draw(probabilities[:2], edges).tolist() == [1, 4]  # never a word of probability 0


@every
def test_drawn_captions_end_or_are_cut_and_say_no_special_word(variant: str) -> None:
    decoder = build(variant).eval()
    tokens = sample(decoder, images(40), numbers(40, 4))
    assert len(tokens) == 160
    assert (tokens[:, 0] == BOS).all()
    said, ended = tokens[:, 1:], (tokens == EOS).any(1)
    assert not torch.isin(said, torch.tensor([BOS, UNK])).any()
    for caption, has_end in zip(said.tolist(), ended.tolist(), strict=True):
        words = caption.index(EOS) if has_end else LONGEST
        assert PAD not in caption[:words]
        assert set(caption[words + 1 :]) <= {PAD}
    assert 0 < ended.sum() < 160
    assert len(torch.unique(tokens, dim=0)) > 100


@every
def test_what_is_differentiated_is_what_was_drawn_from(variant: str) -> None:
    """log p by `forward` is the sum of what `step` said while drawing, with the words that are never said left out."""
    decoder, encoded, owner = build(variant, dropout=0.5).eval(), images(3), torch.arange(3).repeat_interleave(4)
    tokens = sample(decoder, encoded, numbers(3, 4))
    state, total = select(decoder.init(encoded), owner), torch.zeros(12)
    for place in range(tokens.shape[1] - 1):
        logits, state = decoder.step(tokens[:, place], state)
        logits[:, [PAD, BOS, UNK]] = -1e9
        chosen = logits.log_softmax(1).gather(1, tokens[:, place + 1 : place + 2]).squeeze(1)
        total += torch.where(tokens[:, place + 1] == PAD, 0.0, chosen)
    found = log_likelihood(decoder(encoded, tokens[:, :-1], owner), tokens[:, 1:], Vocabulary.special)
    torch.testing.assert_close(found, total, atol=1e-4, rtol=1e-4)


@every
def test_a_caption_does_not_depend_on_those_drawn_beside_it(variant: str) -> None:
    decoder, encoded, random = build(variant).eval(), images(6), numbers(6, 3)
    together = sample(decoder, encoded, random)
    for image in range(6):
        assert encoded.regions is not None
        one = Encoded(encoded.mean[image : image + 1], encoded.regions[image : image + 1])
        alone = sample(decoder, one, random[image : image + 1])
        mine = together[3 * image : 3 * image + 3]
        assert torch.equal(mine[:, : alone.shape[1]], alone)
        assert (mine[:, alone.shape[1] :] == PAD).all()


def test_padding_changes_no_likelihood_and_no_gradient() -> None:
    decoder, owner = build("transformer").eval(), torch.arange(3)
    tokens = torch.tensor([[BOS, 5, 6, EOS], [BOS, EOS, PAD, PAD], [BOS, 7, 8, 9]])
    longer = torch.cat([tokens, torch.full((3, 4), PAD)], dim=1)
    found = []
    for given in (tokens, longer):
        likelihood = log_likelihood(decoder(images(3), given[:, :-1], owner), given[:, 1:], Vocabulary.special)
        gradients = torch.autograd.grad(likelihood.sum(), list(decoder.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients)
        found.append((likelihood, *gradients))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


WORD, OTHER = len(SPECIAL), len(SPECIAL) + 1
TINY = Vocabulary((*SPECIAL, "ape", "bee"))
ALL = [  # captions of at most two words or ends: what can be drawn
    (EOS, PAD),
    *itertools.product((WORD, OTHER), (WORD, OTHER, EOS)),
]
FABRIC = Fabric(accelerator="cpu", devices=1)


def tiny(
    samples: int, baseline: str, fabric: Fabric = FABRIC, name: str = "lstm"
) -> tuple[SelfCritical, Decoder, Encoded]:
    """The phase on two images, a model of two words, and rewards that differ from caption to caption."""
    torch.manual_seed(4)
    sizes = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.5}
    own: dict[str, dict[str, Any]] = {"neuraltalk": {"cell": "rnn"}, "lstm": {"layers": 2, "picture": "yunjey"}}
    decoder = decoders.build(name, TINY, 3, own[name] | sizes)
    captions = EncodedCaptions.encode([["ape"], ["ape", "bee"], ["bee"]], [0, 0, 1], TINY, 1)
    means = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float16)
    store = SimpleNamespace(means=means, regions=None, places=None, tags=None, neighbours=None)
    data = Data(captions, captions, store, np.arange(2), [0, 1], None, TINY)  # type: ignore[arg-type]
    network = Network(None, decoder)
    setup = Setup(network, FeatureInputs(data.store, by_image=False), data, fabric)
    options = SelfCriticalOptions(3, 1, 2, samples, baseline, 0.0, 0)
    phase = SelfCritical(setup, [(network, 0.1)], CiderReward(captions, TINY), options)
    phase.enter(network)
    phase.prepare(0)
    mean = torch.from_numpy(means[:1]).float()
    return phase, decoder, Encoded(mean, None)


def expected(phase: SelfCritical, decoder: Decoder, encoded: Encoded) -> tuple[Tensor, list[Tensor]]:
    """Of the first image: p of each caption, and the gradient of Σ p(y) r(y), all captions enumerated."""
    tokens = torch.tensor([(BOS, *caption) for caption in ALL])
    owner = torch.zeros(len(ALL), dtype=torch.long)
    p = log_likelihood(decoder(encoded, tokens[:, :-1], owner), tokens[:, 1:], Vocabulary.special).exp()
    rewards = torch.from_numpy(phase._reward.score(np.array([0]), tokens[:, 1:].numpy(), owner.numpy())).float()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert rewards.unique().numel() > 3
    return p.detach(), list(torch.autograd.grad((p * rewards).sum(), list(decoder.parameters())))


@pytest.mark.parametrize(("samples", "baseline"), [(1, "greedy"), (2, "greedy"), (2, "leave_one_out")])
def test_the_gradient_is_that_of_the_expected_reward(
    samples: int, baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over all that can be drawn, by its probability, of what a step differentiates: no baseline biases it."""
    phase, decoder, encoded = tiny(samples, baseline)
    p, exact = expected(phase, decoder, encoded)
    found = [torch.zeros_like(gradient) for gradient in exact]
    largest = 0.0
    for drawn in itertools.product(range(len(ALL)), repeat=samples):
        tokens = torch.tensor([(BOS, *ALL[index]) for index in drawn])
        monkeypatch.setattr(self_critical, "sample", lambda *_, tokens=tokens: tokens)
        (loss,) = phase.losses(phase.module, np.array([0]), 0).minimised.values()
        for total, gradient in zip(found, torch.autograd.grad(loss.value, list(decoder.parameters())), strict=True):
            total -= p[list(drawn)].prod() * gradient
            largest = max(largest, gradient.abs().max().item())
    assert largest > 0.1
    for total, gradient in zip(found, exact, strict=True):
        torch.testing.assert_close(total, gradient, atol=1e-5, rtol=1e-3)


def test_captions_come_as_often_as_they_are_probable() -> None:
    phase, decoder, encoded = tiny(2, "greedy")
    p, _ = expected(phase, decoder, encoded)
    count = 20_000
    tokens = sample(decoder, encoded, numbers(1, count, 2))[:, 1:]
    found = torch.tensor([(tokens == torch.tensor(caption)).all(1).sum() for caption in ALL])
    assert found.sum() == count
    assert ((found - count * p) / (count * p * (1 - p)).sqrt()).abs().max() < 4  # standard deviations


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert leave_one_out(rewards).tolist() == [[4.0, 3.5, 1.5], [1.5, 1.5, 0.0]]


def test_a_step_tells_rewards_of_what_it_drew() -> None:
    phase, decoder, encoded = tiny(3, "greedy")
    losses = phase.losses(phase.module, np.array([1, 0]), 0)
    again = phase.losses(phase.module, np.array([0, 1]), 0)
    assert losses.images == 2
    assert losses.logged.keys() == {"reward/sample", "reward/baseline", "words/sample"}
    for name, mean in losses.logged.items():
        assert mean.value == again.logged[name].value  # nothing is dropped out, and rows decide what is drawn
    other = phase.losses(phase.module, np.array([1, 0]), 1)
    assert any(other.logged[name].value != mean.value for name, mean in losses.logged.items())
    (ids,) = [hypothesis.ids for hypothesis in search(decoder, encoded, SearchOptions(beam_size=1, max_words=2))]
    greedy = phase._reward.score(np.array([0]), np.array([[*ids, EOS]]), np.array([0]))
    (first,) = phase.losses(phase.module, np.array([0]), 0).logged["reward/baseline"].value.view(1).tolist()
    assert first == pytest.approx(greedy[0], abs=1e-6)


@pytest.mark.parametrize("pixels", [False, True])
def test_both_passes_see_the_same_changed_images(pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step; in the next one they are others, and validation sees them as they are."""
    made = trainer(Memory(), pixels, epochs=0, critical=1, drawn=True)
    encode = "encode_pixels" if pixels else "encode_features"
    seen, encoded = [], getattr(encodings, encode)

    def spy(*given: Any) -> Encoded:
        seen.append(given[-1][0].clone())
        return encoded(*given)  # type: ignore[no-any-return]

    monkeypatch.setattr(encodings, encode, spy)
    rows = np.arange(18)
    made.phase.prepare(0)
    for _ in range(2):
        made.phase.losses(made.wrapped, rows, 0)
    drawn, differentiated, later, _ = seen
    assert torch.equal(drawn, differentiated)
    assert not torch.equal(drawn, later)
    inputs = PixelInputs(made.data.store) if pixels else FeatureInputs(made.data.store, by_image=False)
    (stored, *_) = inputs.read(rows, made.fabric.device)
    upright = (drawn == stored).flatten(1).all(1)
    assert not upright.all()
    if not pixels:
        mirrored = torch.from_numpy(made.data.store.mirrored_means[rows])  # type: ignore[index]
        assert torch.equal(upright, ~(drawn == mirrored).all(1))
    made.validation.run()
    (stored, *_) = inputs.read(made.data.val_rows, made.fabric.device)
    assert torch.equal(seen[-1], stored)


def test_half_precision_draws_and_differentiates_alike() -> None:
    """Sampling reads the logits that the gradient is of, and rewards and probabilities are in full precision."""
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    losses = []
    for chosen in (fabric, FABRIC):
        phase, decoder, _ = tiny(5, "leave_one_out", chosen, "neuraltalk")
        (mean,) = phase.losses(chosen.setup(phase.module), np.array([0, 1]), 0).minimised.values()
        assert mean.value.dtype == torch.float32
        losses.append(mean.value.item())
        chosen.backward(mean.value)
        assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters() if parameter.grad is not None)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


@pytest.mark.parametrize(("pixels", "baseline"), [(False, "leave_one_out"), (False, "greedy"), (True, "leave_one_out")])
def test_the_expected_reward_rises(pixels: bool, baseline: str) -> None:
    changes: dict[str, Any] = {"epochs": 4, "critical": 12, "baseline": baseline, "samples": 5, "patience": 50}
    made = trainer(Memory(), pixels, select="cider", **changes)
    progress, _ = fitted(made)
    rewards = [row["train/reward/sample"] for row in progress.history if "train/reward/sample" in row]
    assert len(rewards) == 12
    assert np.mean(rewards[-3:]) > 1.5 * rewards[0]
    critical = progress.history[-1]
    assert critical.keys() >= {"train/reward/baseline", "train/words/sample", "train/loss/self_critical", "train/lr"}
    assert "train/loss/caption" not in critical
    assert "train/gradient_norm/presence" not in critical


def test_the_phase_starts_from_the_best_model_with_a_new_optimizer() -> None:
    made = trainer(Memory(), critical=1, epochs=6)
    enter, seen = made._enter, []

    def spy(phase: Any) -> None:
        enter(phase)
        same = all(torch.equal(made.network.state_dict()[name], tensor) for name, tensor in made.best.items())
        averaged = all(torch.equal(made.average.state[name], tensor) for name, tensor in made.best.items())
        seen.append((same, averaged, len(made.optimizer.state_dict()["state"]), made.progress.best_epoch))

    made._enter = spy  # type: ignore[method-assign]
    progress, _ = fitted(made)
    assert [entry[:3] for entry in seen] == [(True, True, 0)]
    assert progress.begin == 6
    scores = [row["val/bleu_1"] for row in progress.history]
    assert scores[progress.best_epoch] == max(scores)


def test_recurrent_dropout_is_off_in_the_phase_and_as_it_was_after_it() -> None:
    """torch's recurrent networks stay in train mode, without dropout; resumed in the phase too."""
    phase, decoder, _ = tiny(2, "leave_one_out")
    lstm = decoder.get_submodule("lstm")
    assert isinstance(lstm, torch.nn.LSTM)
    assert (lstm.training, lstm.dropout, decoder.training) == (True, 0.0, False)
    network = phase._setup.network
    phase.leave(network)
    assert lstm.dropout == 0.5
    phase.enter(network)
    phase.prepare(0)
    assert (lstm.training, lstm.dropout) == (True, 0.0)


def test_a_phase_is_left_before_the_next_one_begins_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = trainer(Memory(), critical=1, epochs=1), []
    for index, phase in enumerate(made.phases):
        for name in ("enter", "leave"):
            call = getattr(phase, name)
            spy = lambda network, call=call, note=(index, name): (calls.append(note), call(network))  # noqa: E731
            monkeypatch.setattr(phase, name, spy)
    fitted(made)
    assert calls == [(0, "leave"), (1, "enter"), (1, "leave")]  # the first was entered when the trainer was made


def test_patience_counts_the_epochs_of_the_phase() -> None:
    """A phase that makes nothing better goes on for `patience` epochs, however old the best model is."""
    made = trainer(Memory(), critical=30, patience=3)
    made.phases[1].factor = lambda *_: 0.0  # type: ignore[method-assign]
    progress, _ = fitted(made)
    assert progress.best_epoch < progress.begin == EPOCHS
    assert len(progress.history) == EPOCHS + 3
