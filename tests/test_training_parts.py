"""Batches, losses, the learning rate and gradient norms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.losses import caption_loss
from captioning.training import batches, optimization
from captioning.training.losses import word_presence_loss
from captioning.vision.features import placement
from captioning.vision.features.store import Sharded
from tests.properties import examples
from tests.special import PAD

SPECIAL_IDS = Vocabulary.special
WORDS = Vocabulary((*SPECIAL, *"abcdefgh"))


def encoded(lengths: list[int], images: list[int]) -> EncodedCaptions:
    captions = [["a"] * length for length in lengths]
    return EncodedCaptions.encode(captions, images, WORDS, max_words=50)


PLANS = (batches.by_length, batches.by_image, batches.by_image_length)

captions_of_images = st.lists(st.integers(1, 7), min_size=2, max_size=30).map(
    lambda counts: [image for image, count in enumerate(counts) for _ in range(count)]
)


@examples(60)
@given(images=captions_of_images, size=st.integers(1, 40), seed=st.integers(0, 9))
def test_each_epoch_sees_every_caption_once(images: list[int], size: int, seed: int) -> None:
    captions = encoded([1 + (7 * i) % 13 for i in range(len(images))], images)
    for way in PLANS:
        plan = way(captions, size, (seed, 0))
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(images)))


@examples(60)
@given(images=captions_of_images, size=st.integers(1, 40))
def test_images_come_with_all_their_captions_and_never_alone(images: list[int], size: int) -> None:
    captions = encoded([3] * len(images), images)
    counts = np.bincount(images)
    for chosen in batches.by_image(captions, size, (0, 0)):
        batch = batches.collate(captions, chosen, SPECIAL_IDS)
        assert len(batch.rows) > 1
        assert np.array_equal(
            np.bincount(captions.image[chosen], minlength=len(counts))[batch.rows], counts[batch.rows]
        )


@examples(60)
@given(images=captions_of_images, size=st.integers(1, 40), per_image=st.integers(1, 8))
def test_at_most_so_many_captions_of_each_image_are_read(images: list[int], size: int, per_image: int) -> None:
    captions = encoded([3] * len(images), images)
    plan = batches.by_image(captions, size, (0, 0), per_image)
    assert all(len(set(captions.image[chosen].tolist())) > 1 for chosen in plan)
    owners = [set(captions.image[chosen].tolist()) for chosen in plan]
    assert sum(map(len, owners)) == len(set(images)) == len(set().union(*owners))
    taken = np.concatenate(plan)
    assert len(set(taken.tolist())) == len(taken)
    counts = np.minimum(np.bincount(images), per_image)
    assert np.array_equal(np.bincount(captions.image[taken]), counts)
    assert len(plan[0]) <= (max(2, size / counts.mean()) + 1) * counts.max()  # a last single image joins its batch


def test_another_seed_reads_other_captions_of_an_image() -> None:
    captions = encoded([3] * 200, [i // 5 for i in range(200)])
    first, again, other = (
        np.concatenate(batches.by_image(captions, 16, (1, epoch), 2)).tolist() for epoch in (0, 0, 1)
    )
    assert first == again
    assert 60 < len(set(first) ^ set(other)) < 140
    epochs = [batches.by_image(captions, 16, (1, epoch), 2) for epoch in range(20)]
    assert set(np.concatenate([np.concatenate(plan) for plan in epochs]).tolist()) == set(range(200))


def test_all_captions_of_each_image_are_read_in_an_order_of_the_images_alone() -> None:
    """The draws are those of a plan that knows of no limit."""
    captions = encoded([3] * 200, [(7 * i) % 40 for i in range(200)])
    order = np.random.default_rng((1, 3)).permutation(40)
    expected = np.concatenate([np.flatnonzero(captions.image == image) for image in order])
    for plan in (batches.by_image(captions, 16, (1, 3)), batches.by_image(captions, 16, (1, 3), None)):
        assert np.array_equal(np.concatenate(plan), expected)
        assert [len(chosen) for chosen in plan] == [15] * 12 + [20]  # no batch has a single image


def test_a_fused_optimizer_that_is_told_to_skip_changes_neither_weights_nor_state() -> None:
    """As on a GPU, which decides by itself; where it is not told so, the step is the usual one to the bit."""
    layers, optimizers = [], []
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(nn.Linear(3, 2))
        optimizers.append(optimization.adamw([(layers[-1], 0.1)], 0.01))
    for skipped in (0.0, 1.0, 1.0, 0.0):
        for layer, optimizer, flagged in zip(layers, optimizers, (True, False), strict=True):
            layer(torch.full((1, 3), 1 + skipped)).square().sum().backward()
            if flagged:
                optimization.skip_on_device(optimizer, torch.tensor(skipped))
            if flagged or not skipped:
                optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(one, other) for one, other in zip(*(layer.parameters() for layer in layers), strict=True))
    steps = [int(state["step"]) for optimizer in optimizers for state in optimizer.state.values()]
    assert steps == [2, 2, 2, 2]


@examples(60)
@given(images=captions_of_images, size=st.integers(1, 40))
def test_captions_of_an_image_lie_side_by_side(images: list[int], size: int) -> None:
    captions = encoded([1 + (7 * i) % 13 for i in range(len(images))], images)
    for chosen in batches.by_image_length(captions, size, (0, 0)):
        batch = batches.collate(captions, chosen, SPECIAL_IDS)
        counts = np.bincount(captions.image)[batch.rows]
        assert batch.owner.tolist() == np.repeat(np.arange(len(batch.rows)), counts).tolist()


def padding(captions: EncodedCaptions, plan: list[np.ndarray]) -> int:
    return sum(int(len(b) * captions.lengths[b].max() - captions.lengths[b].sum()) for b in plan)


def test_bucketed_batches_pad_less_than_random_ones() -> None:
    generator = np.random.default_rng(0)
    captions = encoded(generator.integers(3, 30, 4000).tolist(), list(range(4000)))
    shuffled = np.split(generator.permutation(4000), 50)
    assert padding(captions, batches.by_length(captions, 80, (0, 0))) < 0.1 * padding(captions, shuffled)


def test_bucketed_batches_of_images_pad_less_than_random_ones() -> None:
    lengths = np.random.default_rng(0).integers(3, 30, 800).repeat(5) + np.tile(np.arange(5), 800)
    captions = encoded(lengths.tolist(), np.arange(800).repeat(5).tolist())
    bucketed, random = (plan(captions, 80, (0, 0)) for plan in (batches.by_image_length, batches.by_image))
    assert padding(captions, bucketed) < 0.3 * padding(captions, random)


def test_plans_differ_by_epoch_and_agree_by_seed() -> None:
    captions = encoded([3 + i % 5 for i in range(200)], [i // 5 for i in range(200)])
    for plan in PLANS:
        first, again, other = (np.concatenate(plan(captions, 16, seed)) for seed in ((1, 0), (1, 0), (1, 1)))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_collate_pads_and_points_to_the_image() -> None:
    captions = encoded([2, 1, 3], [7, 4, 7])
    batch = batches.collate(captions, np.array([0, 1, 2]), SPECIAL_IDS)
    assert batch.rows.tolist() == [4, 7]
    assert batch.rows[batch.owner].tolist() == [7, 4, 7]
    assert batch.tokens.tolist() == [[1, 4, 4, 2, 0], [1, 4, 2, 0, 0], [1, 4, 4, 4, 2]]


@given(images=captions_of_images, world=st.integers(1, 9), count=st.integers(1, 12), seed=st.integers(0, 9))
def test_processes_share_a_step_image_by_image(images: list[int], world: int, count: int, seed: int) -> None:
    captions = encoded([2] * len(images), images)
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    parts = [batches.process_part(captions, chosen, rank, world) for rank in range(world)]
    taken = [part for part, weight in parts if weight == 1.0]
    assert sorted(np.concatenate(taken).tolist()) == sorted(chosen.tolist())
    owners = [set(captions.image[part].tolist()) for part in taken]
    assert sum(map(len, owners)) == len(set().union(*owners))  # no image is in two
    assert max(map(len, owners)) - min(map(len, owners)) <= 1
    assert len(taken) == min(world, len(set(captions.image[chosen].tolist())))
    assert all(len(part) == 1 for part, weight in parts if weight == 0.0)
    assert np.array_equal(batches.process_part(captions, chosen, 0, 1)[0], chosen)


def test_a_store_stays_on_a_device_that_has_room_for_twice_as_much() -> None:
    assert placement.fits(50, 100)
    assert not placement.fits(51, 100)
    whole = np.random.default_rng(0).random((7, 3)).astype(np.float16)
    sharded = Sharded([whole[:3], whole[3:6], whole[6:]], 3)
    rows = np.array([6, 0, 3, 3], dtype=np.int32)
    found = placement.Resident(sharded, torch.device("cpu"))[rows]
    assert found.dtype == torch.float16
    np.testing.assert_array_equal(found.numpy(), whole[rows])


def test_a_long_caption_is_cut_without_an_end() -> None:
    captions = EncodedCaptions.encode([["a", "b", "c"], ["a", "b"]], [0, 0], WORDS, max_words=2)
    assert captions.caption(0).tolist() == [1, 4, 5]
    assert captions.caption(1).tolist() == [1, 4, 5, 2]


def test_padding_changes_no_loss() -> None:
    torch.manual_seed(0)
    logits, tokens, owner = torch.randn(2, 4, 12), torch.randint(4, 12, (2, 5)), torch.tensor([0, 1])
    padded_logits = torch.cat([logits, torch.randn(2, 3, 12)], dim=1)
    padded = torch.cat([tokens, torch.full((2, 3), PAD)], dim=1)
    torch.testing.assert_close(
        caption_loss(padded_logits, padded, SPECIAL_IDS),
        caption_loss(logits, tokens, SPECIAL_IDS),
    )
    presence = torch.randn(2, 12)
    torch.testing.assert_close(
        word_presence_loss(presence, padded, owner, SPECIAL_IDS),
        word_presence_loss(presence, tokens, owner, SPECIAL_IDS),
    )


def test_caption_loss_is_the_mean_over_words_and_eos() -> None:
    logits = torch.zeros(1, 3, 10)
    tokens = torch.tensor([[1, 5, 2, 0]])
    assert caption_loss(logits, tokens, SPECIAL_IDS).value.item() == pytest.approx(math.log(10))
    logits[0, 0, 5] = 2.0
    one = math.log(9 + math.exp(2.0)) - 2.0
    assert caption_loss(logits, tokens, SPECIAL_IDS).value.item() == pytest.approx((one + math.log(10)) / 2)


def test_word_presence_reads_all_captions_of_an_image() -> None:
    """Two captions of image 0, one of image 1; special tokens are no words."""
    tokens, owner = torch.tensor([[1, 5, 2], [1, 6, 2], [1, 5, 2]]), torch.tensor([0, 0, 1])
    present = torch.zeros(2, 8)
    present[0, [5, 6]] = present[1, 5] = 1.0
    logits = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    p = logits.sigmoid()
    expected = -(present * p.log() + (1 - present) * (1 - p).log()).sum() / 3
    torch.testing.assert_close(word_presence_loss(logits, tokens, owner, SPECIAL_IDS).value, expected)
    assert word_presence_loss(logits, tokens, owner, SPECIAL_IDS).size == 3


def test_cosine_warms_up_and_falls_to_zero() -> None:
    factors = [optimization.cosine(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_only_matrices_decay() -> None:
    optimizer = optimization.adamw([(nn.Linear(3, 4), 0.1), (nn.BatchNorm1d(4), 0.2)], weight_decay=0.5)
    groups = [
        (group["weight_decay"], group["peak"], sum(p.numel() for p in group["params"]))
        for group in optimizer.param_groups
    ]
    assert groups == [(0.5, 0.1, 12), (0.0, 0.1, 4), (0.0, 0.2, 8)]
    optimization.set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05, 0.1]


def test_update_ratios_are_norms_of_changes_over_norms_of_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 7).requires_grad_(False))
    model(torch.randn(3, 5)).sum().backward()
    parts: dict[str, nn.Module] = dict(model.named_children())
    before = optimization.weights(parts)
    was = nn.utils.parameters_to_vector(model[0].parameters()).detach().clone()
    torch.optim.SGD(model[0].parameters(), lr=0.1).step()
    change = nn.utils.parameters_to_vector(model[0].parameters()).detach() - was
    ratios = optimization.update_ratios(parts, before)
    assert ratios.keys() == {"0"}  # the other module is frozen
    torch.testing.assert_close(ratios["0"], change.norm() / was.norm())


def test_gradient_norms_and_clipping_agree_with_torch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 7))
    (model(torch.randn(3, 5)).square().sum() * 10).backward()
    parts: dict[str, nn.Module] = dict(model.named_children())
    norms = optimization.gradient_norms(parts)
    everything = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(norms["all"], everything.norm())
    optimization.clip(parts.values(), norms["all"], 1.0)
    clipped = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(clipped.norm(), torch.tensor(1.0))
    torch.testing.assert_close(clipped / clipped.norm(), everything / everything.norm())


def norm_of(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))


@examples(30)
@given(widths=st.lists(st.integers(1, 90), min_size=2, max_size=5), seed=st.integers(0, 99), part=st.floats(0.1, 2))
def test_norms_and_clipped_gradients_have_the_bits_of_the_formulas(widths: list[int], seed: int, part: float) -> None:
    """Norms of modules, then the norm of these: `all` is not summed over all tensors at once."""
    torch.manual_seed(seed)
    parts: dict[str, nn.Module] = {str(i): nn.Linear(*pair) for i, pair in enumerate(pairwise(widths))}
    gradients = []
    for module in parts.values():
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter) * 10**seed**0.25
            gradients.append(parameter.grad.clone())
    norms = optimization.gradient_norms(parts)
    for i, name in enumerate(parts):
        assert torch.equal(norms[name], norm_of(gradients[2 * i : 2 * i + 2]))
    assert torch.equal(norms["all"], norm_of([norms[name] for name in parts]))
    largest = part * norms["all"].item()
    optimization.clip(parts.values(), norms["all"], largest)
    factor = torch.clamp(largest / (norms["all"] + 1e-6), max=1.0)
    clipped = [parameter.grad for module in parts.values() for parameter in module.parameters()]
    for found, before in zip(clipped, gradients, strict=True):
        assert found is not None
        assert torch.equal(found, before * factor)
