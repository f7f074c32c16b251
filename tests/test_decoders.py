"""The seam, over every decoder: `step` unrolled is `forward`, padding is not read, captions can be learnt, and kept."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.vocabulary import numbered
from captioning import decoders
from captioning.captioner import ensembles, model
from captioning.captioner.cards import Card
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import AttendingDecoder, Decoder, for_captions, select
from captioning.search import SearchOptions, search
from captioning.settings import resolve
from captioning.system.errors import UserError
from captioning.training.network import Network
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoded import Encoded, of_regions
from captioning.vision.images import Transform
from tests.imports import ROOT
from tests.special import EOS, PAD
from tests.variants import ATTENDING, FEATURES, REGIONS, VARIANTS, WORDS, build, captions, images, options

every = pytest.mark.parametrize("variant", VARIANTS)
attending = pytest.mark.parametrize("variant", ATTENDING)
OWNER = torch.tensor([0, 0, 1, 2, 2])


@every
def test_step_unrolled_equals_forward(variant: str) -> None:
    """What a decoder keeps from word to word (states, keys, values) changes nothing that it says."""
    decoder = build(variant, dropout=0.5).eval()
    tokens = captions(5, 9)
    logits = decoder(images(3), tokens, OWNER)  # (C, T, V)
    assert logits.shape == (5, 9, WORDS)
    state = select(decoder.init(images(3)), OWNER)
    for t in range(9):
        one, state = decoder.step(tokens[:, t], state)
        torch.testing.assert_close(one, logits[:, t], atol=1e-5, rtol=1e-5)


@every
def test_step_leaves_the_state_that_it_was_given(variant: str) -> None:
    decoder = build(variant).eval()
    _, state = decoder.step(captions(3, 1)[:, 0], decoder.init(images(3)))
    before = [tensor.clone() for tensor in state]
    first, _ = decoder.step(torch.tensor([5, 6, 7]), state)
    decoder.step(torch.tensor([8, 9, 10]), state)
    again, _ = decoder.step(torch.tensor([5, 6, 7]), state)
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))


@every
def test_a_caption_reads_its_own_image(variant: str) -> None:
    decoder, tokens = build(variant).eval(), captions(5, 4)
    encoded = images(3)
    assert encoded.regions is not None
    repeated = Encoded(encoded.mean[OWNER], encoded.regions[OWNER])
    torch.testing.assert_close(decoder(encoded, tokens, OWNER), decoder(repeated, tokens, torch.arange(5)))
    other = decoder(images(3, seed=5), tokens, OWNER)
    assert (other - decoder(encoded, tokens, OWNER)).abs().amax((1, 2)).min() > 1e-4


@attending
def test_captions_side_by_side_read_the_regions_of_their_image_once(variant: str) -> None:
    """The state is one an image then, and what is said is the same as in any other order."""
    decoder, tokens, encoded = build(variant).eval(), captions(6, 4), images(3)
    owner, order = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([5, 0, 3, 1, 4, 2])
    first = decoder.init(encoded)
    lengths = [len(tensor) for tensor in for_captions(first, owner, decoder.shared)]
    assert lengths == [6] * (len(first) - decoder.shared) + [3] * decoder.shared
    assert {len(tensor) for tensor in for_captions(first, owner[order], decoder.shared)} == {6}
    said = decoder(encoded, tokens, owner)
    torch.testing.assert_close(said[order], decoder(encoded, tokens[order], owner[order]))


def has_torchs_lstm(decoder: Decoder) -> bool:
    """oneDNN has no LSTM in bfloat16 under AVX2, to which tests are pinned; `compute` asks for AVX-512 there."""
    return any(isinstance(module, nn.LSTM) for module in decoder.modules())


def losses_and_gradients(decoder: Decoder, tokens: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    torch.manual_seed(3)
    network = Network(None, decoder).train()
    encoded = images(3)
    assert encoded.regions is not None
    losses = {name: loss.value for name, loss in network((encoded.mean, encoded.regions), tokens, OWNER).items()}
    parameters = list(decoder.parameters())
    total = torch.stack(list(losses.values())).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return losses, list(gradients)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not has_torchs_lstm(build(name))])
def test_in_bfloat16_losses_and_gradients_are_near_and_the_same_twice(variant: str) -> None:
    tokens = captions(5, 7)
    exact, _ = losses_and_gradients(build(variant), tokens)
    with torch.autocast("cpu", torch.bfloat16):
        (losses, gradients), (again, same) = (losses_and_gradients(build(variant), tokens) for _ in range(2))
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))
    assert all(gradient.isfinite().all() for gradient in gradients)
    torch.testing.assert_close(losses["caption"].float(), exact["caption"], atol=0.03, rtol=0.03)


@every
def test_padding_changes_no_loss_and_no_gradient(variant: str) -> None:
    """Neither how much of it there is, nor what its embedding says, unless that is the output's matrix too.

    Hard attention draws as in training.
    """
    tokens = captions(5, 7)
    tokens[torch.arange(5), torch.tensor([6, 3, 4, 6, 2])] = EOS
    tokens[(tokens == EOS).cumsum(1).cumsum(1) > 1] = PAD
    decoder = build(variant)
    losses, gradients = losses_and_gradients(decoder, tokens)
    if hasattr(decoder, "baseline"):
        decoder.baseline.zero_()
    if hasattr(decoder, "embedding"):
        with torch.no_grad():
            decoder.embedding.weight[PAD] = 9.0  # type: ignore[union-attr, operator, index]
    longer = torch.cat([tokens, torch.full((5, 4), PAD)], dim=1)
    padded_losses, padded_gradients = losses_and_gradients(decoder, longer)
    assert losses.keys() == padded_losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(padded_losses[name], loss, msg=name)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    for gradient, padded in zip(gradients, padded_gradients, strict=True):
        torch.testing.assert_close(padded, gradient, atol=2e-6, rtol=1e-4)


@every
def test_it_learns_a_handful_of_captions(variant: str) -> None:
    decoder, encoded = build(variant), images(4)
    tokens = torch.cat([captions(4, 6, seed=2), torch.full((4, 1), EOS)], dim=1)
    assert encoded.regions is not None
    network, owner = Network(None, decoder), torch.arange(4)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(150):
        losses = network((encoded.mean, encoded.regions), tokens, owner)
        optimizer.zero_grad()
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
        optimizer.step()
    found = search(decoder.eval(), encoded, SearchOptions(beam_size=1, max_words=8))
    assert [list(h.ids) for h in found] == tokens[:, 1:-1].tolist()


@every
def test_search_is_the_same_alone_and_in_a_batch(variant: str) -> None:
    decoder, encoded = build(variant).eval(), images(5)
    assert encoded.regions is not None
    search_options = SearchOptions(beam_size=3, max_words=8, min_words=2)
    together = search(decoder, encoded, search_options)
    alone = [
        search(decoder, Encoded(encoded.mean[i : i + 1], encoded.regions[i : i + 1]), search_options)[0]
        for i in range(5)
    ]
    assert [h.ids for h in together] == [h.ids for h in alone]
    assert [h.score for h in together] == pytest.approx([h.score for h in alone], abs=1e-4)


@every
def test_dropout_is_on_in_training_only(variant: str) -> None:
    decoder, tokens = build(variant, dropout=0.5), captions(5, 4)
    decoder.train()
    assert not torch.equal(decoder(images(3), tokens, OWNER), decoder(images(3), tokens, OWNER))
    decoder.eval()
    assert torch.equal(decoder(images(3), tokens, OWNER), decoder(images(3), tokens, OWNER))


@every
def test_a_saved_model_says_the_same(variant: str, tmp_path: Path) -> None:
    transform = Transform(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    encoder = encoders.build("squeezenet1_1", transform=transform, weights={}, seed=1)
    vocabulary = Vocabulary((*SPECIAL, *(f"word{i}" for i in range(WORDS - len(SPECIAL)))))
    name, made = VARIANTS[variant][0], options(variant)
    decoder = decoders.build(name, vocabulary, encoder.dim, made)
    decoder.expect(torch.arange(WORDS))
    card = Card("squeezenet1_1", name, made, asdict(transform), {}, {"portable": True, "threads": 1}, {}, {})
    model.save(tmp_path / "model", card, encoder.body.state_dict(), decoder.state_dict(), vocabulary)
    captioner = model.load(tmp_path / "model")
    encoded = Encoded(torch.randn(2, encoder.dim), torch.randn(2, REGIONS, encoder.dim))
    tokens = captions(2, 4)
    assert torch.equal(
        captioner.decoder(encoded, tokens, torch.arange(2)), decoder.eval()(encoded, tokens, torch.arange(2))
    )
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    found = ensembles.load([tmp_path / "model"]).captions([pixels], SearchOptions(2, max_words=4, min_words=1), [1, 2])
    assert [len(captions) for captions in found] == [1, 1]


@attending
def test_attention_is_a_distribution_over_regions_and_follows_them(variant: str) -> None:
    """Regions in another order: the weights move with them, and nothing else changes."""
    decoder = build(variant).eval()
    assert isinstance(decoder, AttendingDecoder)
    encoded, tokens, order = images(3), captions(5, 4), torch.tensor([3, 0, 4, 1, 2])
    assert encoded.regions is not None
    moved = Encoded(encoded.mean, encoded.regions[:, order])
    weights = decoder.attention(encoded, tokens, OWNER)
    assert weights.shape == (5, 4, REGIONS)
    torch.testing.assert_close(weights.sum(2), torch.ones(5, 4))
    assert weights.std(2).min() > 1e-4
    torch.testing.assert_close(decoder.attention(moved, tokens, OWNER), weights[:, :, order])
    torch.testing.assert_close(decoder(moved, tokens, OWNER), decoder(encoded, tokens, OWNER), atol=1e-5, rtol=1e-5)


@attending
def test_regions_outside_of_the_mask_count_for_nothing(variant: str) -> None:
    """Two regions more that are masked: the same logits, in training's pass and in search's, and no weight."""
    decoder, tokens = build(variant).eval(), captions(5, 6)
    plain = images(3)
    assert plain.regions is not None
    padded = torch.cat([plain.regions, 9 * torch.ones(3, 2, FEATURES)], dim=1)
    masked = of_regions(padded, torch.tensor([[True] * REGIONS + [False] * 2] * 3))
    torch.testing.assert_close(masked.mean, plain.mean)
    torch.testing.assert_close(decoder(masked, tokens, OWNER), decoder(plain, tokens, OWNER), atol=1e-5, rtol=1e-5)
    logits, _ = decoder.step(tokens[:3, 0], decoder.init(masked))
    torch.testing.assert_close(logits, decoder.step(tokens[:3, 0], decoder.init(plain))[0], atol=1e-5, rtol=1e-5)
    assert isinstance(decoder, AttendingDecoder)
    weights = decoder.attention(masked, tokens, OWNER)
    assert weights[:, :, REGIONS:].max() == 0
    torch.testing.assert_close(weights.sum(2), torch.ones(5, 6))
    assert (decoder(masked._replace(mask=None), tokens, OWNER) - decoder(plain, tokens, OWNER)).abs().max() > 1e-3


@attending
def test_without_regions_it_says_what_to_set(variant: str) -> None:
    with pytest.raises(UserError, match=r"set features\.regions to auto or true"):
        build(variant).init(Encoded(torch.randn(2, FEATURES), None))


@pytest.mark.parametrize("name", decoders.DECODERS)
def test_the_shipped_section_of_each_decoder_builds_it(name: str) -> None:
    """And `features.regions: auto` stores regions for exactly those that attend."""
    for dataset in ("scenes", "flickr8k"):
        settings = resolve.load(ROOT / "params.yaml", {"decoder": name, "dataset": dataset})
        decoder = decoders.build(name, numbered(WORDS), FEATURES, vars(resolve.decoder_options(settings)))
        assert settings.features.regions == isinstance(decoder, AttendingDecoder)


@every
def test_hypotheses_of_an_image_share_what_the_decoder_says_is_of_the_image(variant: str) -> None:
    """Two hypotheses an image beside one copy of the shared tensors, against a copy for each hypothesis."""
    decoder, words = build(variant).eval(), captions(6, 4)
    each, rows = decoder.init(images(3)), torch.tensor([0, 0, 1, 1, 2, 2])
    copied, own = select(each, rows), len(each) - decoder.shared
    together = (*copied[:own], *each[own:])
    assert (decoder.shared > 0) == (variant in ATTENDING)
    for place in range(4):
        expected, copied = decoder.step(words[:, place], copied)
        logits, together = decoder.step(words[:, place], together)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert all(a is b for a, b in zip(together[own:], each[own:], strict=True))
