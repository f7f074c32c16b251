"""Scheduled sampling and word dropout: what is replaced, how much of it, by what, and what stays as it is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captioning.data.text.vocabulary import BOS, EOS, PAD, UNK
from captioning.decoders.base import Decoder
from captioning.training.network import Network
from captioning.training.scheduled_sampling import ScheduledSampling, Teacher
from tests.variants import VARIANTS, WORDS, build, captions, pictures

SPECIAL = torch.tensor([PAD, BOS, EOS])


def said(count: int, longest: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Whole captions (count, longest + 2) of 1 to `longest` words, padded, and their owners."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.cat([captions(count, longest + 1, seed), torch.full((count, 1), EOS)], dim=1)
    ends = torch.randint(2, longest + 2, (count,), generator=generator)
    tokens[torch.arange(count), ends] = EOS
    tokens[torch.arange(longest + 2) > ends.unsqueeze(1)] = PAD
    return tokens, torch.arange(count) % 3


def read(teacher: Teacher, tokens: Tensor, owner: Tensor, decoder: Decoder | None = None) -> Tensor:
    return teacher.inputs(decoder or build("lstm").train(), pictures(3), tokens, owner)


def sampler(probability: float, word_dropout: float = 0.0) -> Teacher:
    teacher = Teacher(word_dropout, ScheduledSampling(probability, 1, 1))
    teacher.begin(1)
    return teacher


TEACHERS = {"sampling": (1.0, 0.0), "dropout": (0.0, 0.999999), "both": (0.5, 0.5)}


@pytest.mark.parametrize("shares", TEACHERS.values(), ids=TEACHERS)
@given(seed=st.integers(0, 50), longest=st.integers(1, 8))
def test_only_words_are_replaced_and_by_words(shares: tuple[float, float], seed: int, longest: int) -> None:
    tokens, owner = said(5, longest, seed)
    before = tokens.clone()
    found = read(sampler(*shares), tokens, owner)
    assert torch.equal(tokens, before)  # targets are cut from the same tensor
    assert found.shape == (5, longest + 1)
    fixed = torch.isin(tokens[:, :-1], SPECIAL)
    assert torch.equal(found[fixed], tokens[:, :-1][fixed])
    assert not torch.isin(found[~fixed], SPECIAL).any()
    assert ((found >= 0) & (found < WORDS)).all()
    assert shares[1] or not (found == UNK).any()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_that_is_replaced(share: float) -> None:
    """Sampled words may be the true ones, so that replaced positions are those whose logits rule the true one out."""
    torch.manual_seed(0)
    tokens, owner = said(600, 9)
    words = ~torch.isin(tokens[:, :-1], SPECIAL)
    assert words.sum() > 2500
    dropped = read(Teacher(word_dropout=share), tokens, owner)[words]
    assert (dropped == UNK).float().mean().item() == pytest.approx(share, abs=0.03)
    decoder = build("lstm").train()
    decoder.output.bias.data[7] = 100.0  # type: ignore[union-attr, index]
    tokens[tokens == 7] = 8
    sampled = read(sampler(share), tokens, owner, decoder)[words]
    changed = sampled != tokens[:, :-1][words]
    assert changed.float().mean().item() == pytest.approx(share, abs=0.03)
    assert (sampled[changed] == 7).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sampled_word_is_what_the_decoder_says_there(variant: str) -> None:
    """A decoder that is sure which word follows another is read to say so, in the place after that other."""
    decoder, tokens = build(variant, dropout=0.5), captions(4, 7)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    following = 4 + (tokens - 3) % (WORDS - 4)  # the word after w in the list; after `<bos>`, one of them
    owner = torch.arange(4) % 3
    decoder.eval()
    for _ in range(150):
        logits = decoder(pictures(3), tokens, owner)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    likely = decoder(pictures(3), tokens, owner).softmax(2).gather(2, following.unsqueeze(2)).min()
    assert likely > 0.9
    state = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    whole = torch.cat([tokens, torch.full((4, 1), EOS)], dim=1)
    found = sampler(1.0).inputs(decoder.train(), pictures(3), whole, owner)
    assert (found[:, 1:] == following[:, :-1]).float().mean() > 0.8
    assert decoder.training
    assert all(torch.equal(state[name], tensor) for name, tensor in decoder.state_dict().items())


def test_the_share_rises_in_equal_steps_to_its_largest() -> None:
    schedule = ScheduledSampling(0.6, 2, 4)
    assert [schedule.at(epoch) for epoch in range(1, 7)] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.6, 0.6])
    assert [ScheduledSampling(0.5, 3, 3).at(epoch) for epoch in (2, 3, 4)] == [0.0, 0.5, 0.5]
    teacher = Teacher(0.1, schedule)
    teacher.begin(3)
    assert teacher.epoch_scalars() == {"train/scheduled_sampling": pytest.approx(0.4)}
    assert Teacher(0.1).epoch_scalars() == {}


def step(teacher: Teacher | None) -> tuple[list[Tensor], Tensor]:
    """Gradients of a training step, and the random state after it."""
    network = Network(None, build("lstm", dropout=0.3), label_smoothing=0.1, teacher=teacher)
    network.begin_captions(1)
    torch.manual_seed(5)
    tokens, owner = said(6, 7)
    encoded = pictures(3)
    assert encoded.regions is not None
    losses = network((encoded.mean, encoded.regions), tokens, owner)
    parameters = list(network.parameters())
    total = torch.stack([loss.value for loss in losses.values()]).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return list(gradients), torch.get_rng_state()


def test_a_share_of_zero_is_teacher_forcing_to_the_byte() -> None:
    plain, random = step(None)
    for teacher in (Teacher(0.0, ScheduledSampling(0.0, 1, 1)), Teacher(0.0, ScheduledSampling(0.5, 2, 4))):
        found, state = step(teacher)
        assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
        assert torch.equal(random, state)
    changed, _ = step(Teacher(0.0, ScheduledSampling(0.5, 1, 1)))
    assert not all(torch.equal(a, b) for a, b in zip(plain, changed, strict=True))


def test_what_is_validated_is_read_as_it_is() -> None:
    network = Network(None, build("lstm"), teacher=sampler(0.9, 0.9)).eval()
    plain = Network(None, build("lstm")).eval()
    tokens, owner = said(6, 7)
    found, expected = (made((pictures(3).mean,), tokens, owner)["caption"].value for made in (network, plain))
    assert torch.equal(found, expected)


def test_in_half_precision_the_pass_without_a_gradient_takes_none_away() -> None:
    """Autocast keeps the weights that it has cast: those of the first pass know no gradient."""
    network = Network(None, build("transformer"), teacher=sampler(0.5))
    network.begin_captions(1)
    tokens, owner = said(6, 7)
    encoded = pictures(3)
    assert encoded.regions is not None
    with torch.autocast("cpu", torch.bfloat16):
        network((encoded.mean, encoded.regions), tokens, owner)["caption"].value.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_compiled_it_reads_the_same_words() -> None:
    found = []
    for compiled in (False, True):
        network = Network(None, build("transformer"), teacher=Teacher(0.1, ScheduledSampling(0.6, 2, 4)))
        trained = torch.compile(network, backend="eager") if compiled else network
        tokens, owner = said(6, 7)
        encoded = pictures(3)
        assert encoded.regions is not None
        torch.manual_seed(2)
        for epoch in range(1, 6):
            network.begin_captions(epoch)
            found.append(trained((encoded.mean, encoded.regions), tokens, owner)["caption"].value.item())
    assert found[:5] == found[5:]
    assert len(set(found)) == 5
