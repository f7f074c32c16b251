"""Show, Attend and Tell against its equations; the hard kind's gradient against the expectation, enumerated."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from captioning.decoders.attention import HardAttentionDecoder, SoftAttentionDecoder, doubly_stochastic_penalty
from captioning.decoders.losses import Mean, caption_loss
from captioning.vision.encoders.encoded import Encoded
from tests.special import BOS, EOS, PAD
from tests.variants import REGIONS, WORDS, build, captions, images, lstm_by_torch


def soft(**changes: Any) -> SoftAttentionDecoder:
    made = build("attention-soft", **changes)
    assert isinstance(made, SoftAttentionDecoder)
    return made


def hard(**changes: Any) -> HardAttentionDecoder:
    made = build("attention-hard", **changes)
    assert isinstance(made, HardAttentionDecoder)
    return made


def test_soft_attention_is_its_equations_one_word_at_a_time() -> None:
    model = soft().eval()
    encoded, tokens, owner = images(2), captions(3, 4), torch.tensor([1, 0, 1])
    assert encoded.regions is not None
    a, state = encoded.regions[owner], model.state_dict()
    width = state["attend.keys.bias"].shape[0]
    hidden_weight, hidden_bias = state["from_hidden.weight"], state["from_hidden.bias"]
    parts = {
        "inputs": torch.cat([state["from_word.weight"], state["from_context.weight"]], dim=1),
        "hidden": hidden_weight[width + 1 :],
        "bias": state["from_word.bias"] + hidden_bias[width + 1 :],
    }
    h, c = torch.tanh(a.mean(1) @ state["start.weight"].T + state["start.bias"]).chunk(2, dim=1)
    logits, alphas = model(encoded, tokens, owner), model.attention(encoded, tokens, owner)
    for t in range(4):
        y = state["embedding.weight"][tokens[:, t]]
        query = h @ hidden_weight[:width].T + hidden_bias[:width]
        keys = a @ state["attend.keys.weight"].T + state["attend.keys.bias"]
        alpha = torch.softmax(torch.tanh(keys + query[:, None]) @ state["attend.score.weight"][0], dim=1)
        beta = torch.sigmoid(h @ hidden_weight[width] + hidden_bias[width])
        z = beta[:, None] * torch.einsum("nr,nrd->nd", alpha, a)
        h, c = lstm_by_torch(torch.cat([y, z], dim=1), h, c, parts)
        out = h @ state["hidden_out.weight"].T + state["hidden_out.bias"] + y + z @ state["context_out.weight"].T
        expected = torch.tanh(out) @ state["output.weight"].T + state["output.bias"]
        torch.testing.assert_close(alphas[:, t], alpha)
        torch.testing.assert_close(logits[:, t], expected[:, :WORDS])


def test_the_doubly_stochastic_penalty_by_hand() -> None:
    """Two captions over two regions: sums over words (1.5, .5) and (.3, .7); the padding's weights do not count."""
    alpha = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.3, 0.7], [1.0, 0.0]]])
    counted = torch.tensor([[True, True], [True, False]])
    by_hand = ((1 - 1.5) ** 2 + (1 - 0.5) ** 2 + (1 - 0.3) ** 2 + (1 - 0.7) ** 2) / 3
    assert doubly_stochastic_penalty(alpha, counted).item() == pytest.approx(by_hand)


def test_soft_attention_is_taught_with_the_penalty() -> None:
    encoded, tokens, owner = images(2), captions(2, 5), torch.arange(2)
    tokens[0, 3:] = torch.tensor([EOS, PAD])
    model = soft(doubly_stochastic=0.7).eval()
    losses = model.losses(encoded, tokens, owner)
    alpha = model.attention(encoded, tokens[:, :-1], owner)
    by_hand = 0.7 * ((1 - alpha[0, :3].sum(0)) ** 2).sum() + 0.7 * ((1 - alpha[1].sum(0)) ** 2).sum()
    caption = caption_loss(model(encoded, tokens[:, :-1], owner), tokens, model.vocabulary.special)
    torch.testing.assert_close(losses, {"caption": caption, "attention": Mean(by_hand / 7, torch.tensor(7))})


def test_hard_attention_reads_one_region_in_training_and_all_of_them_in_captions() -> None:
    model, encoded = hard(sampling=1.0), images(3)
    drawn = model.train()._unroll(encoded, captions(6, 5), torch.arange(6) % 3).weights
    assert torch.equal(drawn.amax(2), torch.ones(6, 5))
    assert torch.equal(drawn.sum(2), torch.ones(6, 5))
    searched = model.eval()._unroll(encoded, captions(6, 5), torch.arange(6) % 3)
    assert torch.equal(searched.weights, searched.alpha)
    expected = soft().eval()
    expected.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name != "baseline"})
    assert torch.equal(searched.logits, expected(encoded, captions(6, 5), torch.arange(6) % 3))


def test_regions_are_drawn_from_alpha_for_half_of_the_captions() -> None:
    torch.manual_seed(0)
    alpha = torch.tensor([0.5, 0.3, 0.2]).repeat(40_000, 1).requires_grad_()
    chosen = hard(sampling=0.5).train()._choice(40_000)(alpha)
    drawn = chosen.amax(1) == 1
    assert not chosen.requires_grad
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(chosen[~drawn], alpha[~drawn])
    torch.testing.assert_close(chosen[drawn].mean(0), alpha[0].detach(), atol=0.02, rtol=0)


def test_a_caption_that_is_not_drawn_is_not_drawn_throughout() -> None:
    torch.manual_seed(0)
    choose = hard(sampling=0.5).train()._choice(50)
    alpha = torch.full((50, REGIONS), 1 / REGIONS)
    rows = [choose(alpha).amax(1) == 1 for _ in range(4)]
    assert 0 < rows[0].sum() < 50
    assert all(torch.equal(rows[0], row) for row in rows)


class Looks:
    """A choice that was made before: region looks[t] at step t."""

    def __init__(self, looks: tuple[int, ...]) -> None:
        self.left = list(looks)

    def __call__(self, alpha: Tensor) -> Tensor:
        return torch.eye(alpha.shape[1], dtype=alpha.dtype)[[self.left.pop(0)]]


def gradient(value: Tensor, model: HardAttentionDecoder) -> Tensor:
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def test_the_gradient_of_hard_attention_is_that_of_the_expected_likelihood() -> None:
    """Σ_s p(s) · (gradient of the losses when s was drawn) = −∇ Σ_s p(s) log p(y | s), a word; for any baseline."""
    model = hard(sampling=1.0, entropy=0.0).double().train()
    regions = 3 * images(1).regions[:, :3].double()  # type: ignore[index]
    encoded, tokens, owner = Encoded(regions.mean(1), regions), torch.tensor([[BOS, 7, 9, EOS]]), torch.tensor([0])
    estimate, exact = torch.zeros(2, sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    for looks in itertools.product(range(3), repeat=3):
        model._choice = lambda _, looks=looks: Looks(looks)  # type: ignore[method-assign, misc]
        model.baseline.fill_(-4.0)
        losses = model.losses(encoded, tokens, owner)
        drawn = gradient(torch.stack([loss.value for loss in losses.values()]).sum(), model)
        run = model._unroll(encoded, tokens[:, :-1], owner)
        p = torch.stack([run.alpha[0, t, look] for t, look in enumerate(looks)]).prod()
        exact += gradient(p * caption_loss(run.logits, tokens, model.vocabulary.special).value, model)
        estimate += p.item() * drawn
    assert exact.norm() > 1e-3
    torch.testing.assert_close(estimate, exact, atol=1e-10, rtol=1e-7)


def test_the_entropy_bonus_is_the_entropy_a_word() -> None:
    model = hard(entropy=0.5).eval()
    encoded, tokens, owner = images(2), captions(2, 4), torch.arange(2)
    tokens[0, 2:] = torch.tensor([EOS, PAD])
    alpha = model.attention(encoded, tokens[:, :-1], owner)
    entropy = torch.distributions.Categorical(probs=alpha).entropy()  # (C, T)
    by_hand = -0.5 * (entropy[0, :2].sum() + entropy[1].sum()) / 5
    torch.testing.assert_close(model.losses(encoded, tokens, owner)["entropy"].value, by_hand)


def test_the_choice_is_rewarded_by_the_likelihood_above_the_baseline() -> None:
    """Another baseline: the term differs by it times Σ s log α, a word."""
    model = hard(reinforce=0.5).eval()
    encoded, tokens, owner = images(2), captions(2, 4), torch.arange(2)
    alpha = model.attention(encoded, tokens[:, :-1], owner)
    plain = model.losses(encoded, tokens, owner)["reinforce"].value
    model.baseline.fill_(-3.0)
    lifted = model.losses(encoded, tokens, owner)["reinforce"].value
    torch.testing.assert_close(lifted - plain, -0.5 * 3.0 * (alpha * alpha.log()).sum() / 6)


def test_the_baseline_follows_the_likelihood_in_training_only() -> None:
    model = hard(sampling=0.0)
    encoded, tokens, owner = images(2), captions(2, 4), torch.arange(2)
    model.eval().losses(encoded, tokens, owner)
    logits = model(encoded, tokens[:, :-1], owner)
    likelihood = logits.log_softmax(2).gather(2, tokens[:, 1:].unsqueeze(2)).sum() / 2
    assert model.baseline.item() == 0.0
    model.train().losses(encoded, tokens, owner)
    model.losses(encoded, tokens, owner)
    assert model.baseline.item() == pytest.approx((0.9 * 0.1 + 0.1) * likelihood.item(), rel=1e-5)
    assert "baseline" in model.state_dict()
