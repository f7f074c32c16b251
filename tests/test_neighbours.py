"""The decoder `neighbours`: what it looks up, how candidates vote, and that every search finds them in order."""

import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.vocabulary import numbered
from captioning import decoders
from captioning.captioner import model
from captioning.captioner.cards import Card
from captioning.data.text import caption_space
from captioning.data.text.ngram_vectors import NgramVectors, image_means
from captioning.decoders.base import select
from captioning.decoders.neighbours import RANKED, STEP, NeighboursDecoder, vote
from captioning.search import SearchOptions, n_best
from captioning.search.beam import beam_search
from captioning.settings import resolve
from captioning.system.errors import UserError
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.images import Transform
from tests.imports import ROOT
from tests.special import BOS, EOS, PAD, UNK

WORDS, FEATURES, IMAGES, EACH = 30, 12, 40, 5
SPECIAL = numbered(WORDS).special
OPTIONS = {"neighbours": 6, "ridge": 1.0, "dimensions": 16}


def training(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features (I, D), captions (C, 1 + T) and owners (C,): five captions of 3 to 6 words for each image."""
    draw = np.random.default_rng(seed)
    tokens = np.full((IMAGES * EACH, 8), PAD)
    for row in tokens:
        words = draw.integers(4, WORDS, draw.integers(3, 7))
        row[: len(words) + 2] = [BOS, *words, EOS]
    return torch.from_numpy(draw.normal(size=(IMAGES, FEATURES))).float(), torch.from_numpy(tokens), owners()


def owners() -> Tensor:
    return torch.arange(IMAGES).repeat_interleave(EACH)


def fitted(**changes: float) -> NeighboursDecoder:
    decoder = decoders.build("neighbours", numbered(WORDS), FEATURES, {**OPTIONS, **changes})
    assert isinstance(decoder, NeighboursDecoder)
    decoder.fit(*training())
    return decoder.eval()


def images(count: int = 3) -> Encoded:
    return Encoded(torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(4)))


def said(row: Tensor) -> tuple[int, ...]:
    """The words of a row of tokens."""
    return tuple(token for token in row.tolist() if token not in (PAD, BOS, EOS))


def by_hand(captions: list[tuple[int, ...]], owner: list[int], order: int) -> list[dict[tuple[int, ...], float]]:
    """Each caption as a normalised tf-idf vector of one order, with counters."""
    grams = [Counter(zip(*(words[i:] for i in range(order)), strict=False)) for words in captions]
    seen = Counter(
        gram
        for image in set(owner)
        for gram in {g for g, own in zip(grams, owner, strict=True) if own == image for g in g}
    )
    images = len(set(owner))
    vectors = [{gram: n * math.log(images / seen[gram]) for gram, n in found.items()} for found in grams]
    norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in vectors]
    return [{gram: value / norm for gram, value in vector.items()} for vector, norm in zip(vectors, norms, strict=True)]


def test_the_similarity_of_captions_is_that_of_counters() -> None:
    _, tokens, owner = training()
    captions, rows = [said(row) for row in tokens], [3, 77, 4, 150, 8]
    expected = np.zeros((len(rows), len(rows)))
    for order in range(1, 5):
        vectors = by_hand(captions, owner.tolist(), order)
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                expected[i, j] += sum(value * vectors[b].get(gram, 0.0) for gram, value in vectors[a].items()) / 4
    found = NgramVectors(tokens[:, 1:], owner, IMAGES, 4, SPECIAL).similarity(torch.tensor(rows))
    others = ~np.eye(len(rows), dtype=bool)
    np.testing.assert_allclose(found.numpy()[others], expected[others], atol=1e-5)


def test_the_vector_of_an_image_is_the_mean_of_its_captions() -> None:
    _, tokens, owner = training()
    means = image_means(tokens[:, 1:], owner, IMAGES, 2, SPECIAL).to_dense()
    captions = [said(row) for row in tokens]
    vectors = [by_hand(captions, owner.tolist(), order) for order in (1, 2)]
    sums: Counter[tuple[int, ...]] = Counter()
    for place in range(EACH):
        for order in vectors:
            sums.update({gram: value / EACH for gram, value in order[place].items()})
    found = means[0][means[0] != 0]
    np.testing.assert_allclose(sorted(found.tolist()), sorted(v for v in sums.values() if v), atol=1e-5)


def test_the_ridge_is_least_squares_with_a_penalty() -> None:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 7, generator=draw), torch.randn(50, 3, generator=draw)
    more = torch.cat([x, math.sqrt(2.5) * torch.eye(7)])
    targets = torch.cat([y - y.mean(0), torch.zeros(7, 3)])
    torch.testing.assert_close(
        caption_space._ridge(x, y, 2.5), torch.linalg.lstsq(more, targets).solution, atol=1e-5, rtol=1e-4
    )


def test_the_space_keeps_the_scalar_products_that_its_width_can_hold() -> None:
    draw = torch.Generator().manual_seed(1)
    low = torch.randn(30, 5, generator=draw) @ torch.randn(5, 80, generator=draw)
    found = caption_space.reduced(low.to_sparse(), 8)
    assert found.shape == (30, 8)
    torch.testing.assert_close(found @ found.T, low @ low.T, atol=1e-3, rtol=1e-3)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_a_vote_is_the_sum_of_similarityes_to_others(size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    similarity, owner, lengths = draw.random((size, size)), draw.integers(0, 3, size), draw.integers(1, 20, size)
    found = vote(*map(torch.from_numpy, (similarity, owner, lengths)))
    for i in range(size):
        of_others = [
            similarity[i, j] * (0.5 if owner[i] == owner[j] else 1.0) * math.exp(-((lengths[i] - lengths[j]) ** 2) / 72)
            for j in range(size)
            if j != i
        ]
        assert found[i].item() == pytest.approx(sum(of_others), abs=1e-5)


def test_candidates_are_captions_of_the_nearest_images_and_the_first_agrees_most() -> None:
    decoder, (_, tokens, owner) = fitted(), training()
    _, _, candidates, _ = decoder.init(images())
    near = decoder._nearest(images().mean).indices
    vectors = NgramVectors(tokens[:, 1:], owner, IMAGES, 4, SPECIAL)
    for image in range(3):
        rows = torch.isin(owner, near[image]).nonzero().squeeze(1)
        votes = vote(vectors.similarity(rows), owner[rows], (tokens[rows] != PAD).sum(1))
        best = [said(tokens[rows[place]]) for place in votes.argsort(descending=True, stable=True)]
        assert [said(row) for row in candidates[image]] == best[:RANKED]


def test_an_image_that_is_in_training_is_its_own_nearest() -> None:
    means, _, _ = training()
    decoder = fitted()
    assert decoder._nearest(means).indices[:, 0].tolist() == list(range(IMAGES))


@pytest.mark.parametrize("beam", [1, 3, 8])
def test_a_search_finds_the_candidates_in_their_order(beam: int) -> None:
    decoder = fitted()
    _, _, candidates, nats = decoder.init(images())
    found = n_best(decoder, images(), SearchOptions(beam_size=beam, n_best=beam, max_words=10))
    for image, hypotheses in enumerate(found):
        assert [h.ids for h in hypotheses] == [said(row) for row in candidates[image, :beam]]
        assert [h.log_probability for h in hypotheses] == pytest.approx(nats[image, :beam].tolist(), abs=1e-4)
    assert nats[:, 0].max() == pytest.approx(math.log(1 - math.exp(-STEP)), abs=1e-6)


def test_a_list_obeys_lengths_and_phrases() -> None:
    decoder = fitted()
    everything = [ids for ids, _ in decoder.listed(images(1))[0]]
    phrase = tuple(everything[3][:2])

    def found(**options: Any) -> list[tuple[int, ...]]:
        (hypotheses,) = n_best(
            decoder, images(1), SearchOptions(beam_size=25, n_best=25, **{"max_words": 10, **options})
        )
        return [hypothesis.ids for hypothesis in hypotheses]

    assert found() == [tuple(ids) for ids in everything]
    assert found(max_words=4) == [tuple(ids) for ids in everything if len(ids) <= 4]
    assert found(min_words=5) == [tuple(ids) for ids in everything if len(ids) >= 5]
    assert found(must=(phrase,)) == [
        tuple(i) for i in everything if any(tuple(i[j : j + 2]) == phrase for j in range(6))
    ]
    assert found(must=((phrase[0],) * 3,)) == [()]
    assert found(repeat_ngram=1) == [tuple(ids) for ids in everything if len({*ids}) == len(ids)]


def test_greedy_search_by_steps_says_the_first_candidate() -> None:
    """As an ensemble does, which knows no lists."""
    decoder = fitted()
    found = beam_search(decoder, images(), SearchOptions(beam_size=1, max_words=10))
    assert [h.ids for (h,) in found] == [tuple(listed[0][0]) for listed in decoder.listed(images())]


def test_what_is_drawn_is_a_candidate() -> None:
    decoder = fitted()
    candidates = {said(row) for row in decoder.init(images(1))[2][0]}
    options = SearchOptions(method="sample", beam_size=1, n_best=20, max_words=10, seed=3)
    (drawn,) = n_best(decoder, images(1), options, keys=[1])
    assert {h.ids for h in drawn} <= candidates


def test_step_unrolled_equals_forward() -> None:
    decoder, (_, tokens, _) = fitted(), training()
    owner = torch.tensor([0, 0, 1, 2, 2])
    logits = decoder(images(), tokens[:5, :6], owner)  # (C, T, V)
    state = select(decoder.init(images()), owner)
    for place in range(6):
        one, state = decoder.step(tokens[:5, place], state)
        assert torch.equal(one, logits[:, place])
    assert logits.isfinite().all()


def test_hypotheses_of_an_image_share_its_candidates() -> None:
    decoder, (_, tokens, _) = fitted(), training()
    each, rows = decoder.init(images()), torch.tensor([0, 0, 1, 1, 2, 2])
    copied, own = select(each, rows), len(each) - decoder.shared
    together = (*copied[:own], *each[own:])
    for place in range(4):
        expected, copied = decoder.step(tokens[:6, place], copied)
        logits, together = decoder.step(tokens[:6, place], together)
        assert torch.equal(logits, expected)


def test_a_cut_caption_and_one_with_an_unknown_word_are_never_said() -> None:
    means, tokens, owner = training()
    tokens[0, 2], tokens[1][tokens[1] == EOS] = UNK, 5
    decoder = decoders.build("neighbours", numbered(WORDS), FEATURES, OPTIONS)
    assert isinstance(decoder, NeighboursDecoder)
    decoder.fit(means, tokens, owner)
    assert len(decoder.captions) == len(tokens) - 2
    assert not (decoder.captions == UNK).any()


def test_captions_that_are_alike_are_one_candidate() -> None:
    means, tokens, owner = training()
    tokens[:] = tokens[0]
    tokens[7] = training()[1][7]
    decoder = decoders.build("neighbours", numbered(WORDS), FEATURES, {**OPTIONS, "neighbours": IMAGES})
    assert isinstance(decoder, NeighboursDecoder)
    decoder.fit(means, tokens, owner)
    (found,) = n_best(decoder, images(1), SearchOptions(beam_size=4, n_best=4, max_words=10))
    assert [h.ids for h in found[:2]] == [said(tokens[0]), said(tokens[7])]
    assert decoder.init(images(1))[0].sum() == 2


def test_a_saved_model_says_the_same(tmp_path: Path) -> None:
    """Its tensors are as long as its training data, which the options do not say."""
    encoder = encoders.build(
        "squeezenet1_1", transform=Transform(32, 32, "bilinear", (0.5,) * 3, (0.2,) * 3), weights={}, seed=1
    )
    decoder = decoders.build("neighbours", numbered(WORDS), encoder.dim, OPTIONS)
    assert isinstance(decoder, NeighboursDecoder)
    _, tokens, owner = training()
    decoder.fit(torch.randn(IMAGES, encoder.dim, generator=torch.Generator().manual_seed(2)), tokens, owner)
    compute = {"portable": True, "threads": 1}
    card = Card("squeezenet1_1", "neighbours", OPTIONS, asdict(encoder.transform), {}, compute, {}, {})
    model.save(tmp_path / "model", card, encoder.body.state_dict(), decoder.state_dict(), numbered(WORDS))
    read = model.load(tmp_path / "model").decoder
    encoded = Encoded(torch.randn(2, encoder.dim, generator=torch.Generator().manual_seed(3)))
    for kept, made in zip(read.init(encoded), decoder.init(encoded), strict=True):
        assert torch.equal(kept, made)


def test_rewards_are_refused_where_nothing_learns_by_gradients() -> None:
    changes = {"decoder": "neighbours", "train.self_critical.epochs": 2}
    with pytest.raises(UserError, match=r"train\.self_critical\.epochs = 2.*neighbours has no gradients"):
        resolve.load(ROOT / "params.yaml", changes)
