"""Captions that `neighbours` lends to other decoders: what they count, how likely they are, and what is said then."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.vocabulary import numbered
from captioning import decoders
from captioning.captioner import ensembles, model
from captioning.captioner.cards import Card
from captioning.cli.app import app
from captioning.data.text.caption_space import LIKE
from captioning.decoders.neighbours import NeighboursDecoder
from captioning.search import Hypothesis, SearchOptions, n_best
from captioning.search.beam import beam_search
from captioning.search.consensus import SEARCHED, likeness, weights
from captioning.search.ensemble import Ensemble
from captioning.search.lending import AGREEMENT, LIKELIHOOD, Lent, by_agreement, forced, joined
from captioning.settings import resolve
from captioning.settings.rules import check_lenders
from captioning.system.errors import UserError
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.images import Transform
from stages import check
from tests import variants
from tests.imports import ROOT
from tests.test_neighbours import OPTIONS as RETRIEVAL
from tests.test_neighbours import WORDS, training
from tests.test_neighbours import fitted as lender
from tests.test_neighbours import images as features

CONSENSUS = SearchOptions(beam_size=5, n_best=3, max_words=9, rank_by="consensus")


def speaker(name: str = "lstm") -> decoders.base.Decoder:
    torch.manual_seed(3)
    return decoders.build(variants.VARIANTS[name][0], numbered(WORDS), 12, variants.options(name)).eval()


def regions(encoded: Encoded) -> Encoded:
    """The same images, with three regions each."""
    return encoded._replace(regions=torch.randn(len(encoded.mean), 3, 12, generator=torch.Generator().manual_seed(6)))


def test_what_is_lent_are_captions_of_near_images_and_nearer_ones_count_more() -> None:
    decoder, encoded = lender(), features(4)
    near = decoder._nearest(encoded.mean)
    _, tokens, owner = training()
    own = {k: [tuple(row[1 : 1 + int((row > 3).sum())].tolist()) for row in tokens[owner == k]] for k in range(40)}
    for image, (captions, counts, candidates) in enumerate(decoder.lend(encoded)):
        rows = near.indices[image].tolist()
        assert sorted(captions) == sorted(ids for row in rows for ids in own[row])
        assert sum(counts) == pytest.approx(1)
        assert candidates == [ids for ids, _ in ((tuple(ids), nats) for ids, nats in decoder.listed(encoded)[image])]
        of_image = {row: sum(c for ids, c in zip(captions, counts, strict=True) if ids in own[row]) for row in rows}
        expected = torch.softmax(LIKE * near.values[image].double(), 0).tolist()
        assert list(of_image.values()) == pytest.approx(expected)
        assert list(of_image.values()) == sorted(of_image.values(), reverse=True)


@pytest.mark.parametrize("name", ["lstm", "attention-soft", "transformer", "neuraltalk-rnn", "updown"])
def test_a_captions_likelihood_is_that_of_the_search_and_of_teacher_forcing(name: str) -> None:
    decoder, encoded = speaker(name), regions(features(3))
    found = beam_search(decoder, encoded, replace(CONSENSUS, n_best=5, rank_by="likelihood"))
    captions = [[one.ids for one in listed] for listed in found]
    captions[1] = captions[1][:2]
    nats = forced(decoder, encoded, captions)
    assert [len(row) for row in nats] == [len(row) for row in captions]
    for row, listed in zip(nats, found, strict=True):
        assert row == pytest.approx([one.log_probability for one in listed[: len(row)]], abs=1e-4)
    special = decoder.vocabulary.special
    [ids] = captions[0][:1]
    tokens = torch.tensor([[special.bos, *ids]])
    one = Encoded(*(None if part is None else part[:1] for part in encoded))
    logits = torch.log_softmax(decoder(one, tokens, torch.zeros(1, dtype=torch.long)), 2)
    expected = logits[0, torch.arange(len(ids) + 1), torch.tensor([*ids, special.eos])].sum().item()
    assert nats[0][0] == pytest.approx(expected, abs=1e-4)
    assert forced(decoder, encoded, [[], [], []]) == [[], [], []]


def test_the_score_is_the_likeness_to_what_votes_and_the_likelihood_of_a_word() -> None:
    """By loops, for one image."""
    decoder, encoded, vocabulary = speaker(), features(1), numbered(WORDS)
    found = [Hypothesis((5, 6, 7), 0.0, -4.0), Hypothesis((8, 6), 0.0, -5.0)]
    lent = Lent([(5, 6, 9), (8, 6), (5, 6, 9)], [0.5, 0.2, 0.3], [(5, 6, 9)])
    [judged] = by_agreement(decoder, encoded, [found], [lent], SEARCHED, CONSENSUS)
    nats = {one.ids: one.log_probability for one in found} | {(5, 6, 9): forced(decoder, encoded, [[(5, 6, 9)]])[0][0]}
    own = dict(zip([(5, 6, 7), (8, 6)], weights(found, SEARCHED), strict=True))
    assert {one.ids for one in judged} == nats.keys()
    for one in judged:
        model_vote = sum(own[ids] * likeness([one.ids, ids], vocabulary)[0, 1] for ids in own)
        theirs = zip(lent.captions, lent.weights, strict=True)
        vote = sum(count * likeness([one.ids, ids], vocabulary)[0, 1] for ids, count in theirs)
        word = nats[one.ids] / (len(one.ids) + 1)
        assert one.score == pytest.approx((1 - AGREEMENT) * model_vote + AGREEMENT * vote + LIKELIHOOD * word)
        assert one.log_probability == pytest.approx(nats[one.ids])


def test_several_lenders_count_the_same() -> None:
    first, second = Lent([(5,), (6,)], [0.75, 0.25], [(5,)]), Lent([(7,)], [1.0], [(7,), (5,)])
    assert joined([first, second]) == Lent([(5,), (6,), (7,)], [0.375, 0.125, 0.5], [(5,), (7,)])


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_beside_others_neighbours_lend_and_are_not_averaged(method: str) -> None:
    decoder, other, encoded = speaker(), lender(), features(3)
    options = replace(CONSENSUS, method=method, beam_size=5)
    ensemble = Ensemble([other, decoder])
    found = n_best(ensemble, [encoded, encoded], options)
    alone = n_best(decoder, encoded, options)
    assert [[one.ids for one in listed] for listed in found] != [[one.ids for one in listed] for listed in alone]
    lent = [set(captions) for captions, _, _ in other.lend(encoded)]
    assert any(one.ids in captions for listed, captions in zip(found, lent, strict=True) for one in listed)
    each = [
        n_best(ensemble, [row, row], options, [k])[0]
        for k, row in enumerate(Encoded(encoded.mean[[k]]) for k in range(3))
    ]
    assert [[one.ids for one in listed] for listed in each] == [[one.ids for one in listed] for listed in found]
    with pytest.raises(UserError, match=r"only lends captions to others: rank by consensus, or leave it out"):
        n_best(ensemble, [encoded, encoded], replace(options, rank_by="likelihood"))
    twice = Ensemble([other, other])  # none but neighbours: as before, the mean of their probabilities
    assert not twice.lenders
    assert len(n_best(twice, [encoded, encoded], replace(options, rank_by="likelihood"))) == 3


def test_what_is_lent_is_said_only_where_the_options_allow_it() -> None:
    decoder, other, encoded = speaker(), lender(), features(3)
    required = other.listed(encoded)[0][0][0][0]
    for options in (
        replace(CONSENSUS, must=((required,),)),
        replace(CONSENSUS, min_words=5),
        replace(CONSENSUS, max_words=4),
    ):
        for listed in n_best(Ensemble([decoder, other]), [encoded, encoded], options):
            for one in listed:
                assert options.min_words <= len(one.ids) <= options.max_words
                assert all(phrase[0] in one.ids for phrase in options.must)


def saved(path: Path, name: str) -> str:
    """A model with random weights, on features of squeezenet1_1."""
    transform = Transform(32, 32, "bilinear", (0.5,) * 3, (0.2,) * 3)
    encoder = encoders.build("squeezenet1_1", transform=transform, weights={}, seed=1)
    settings = RETRIEVAL if name == "neighbours" else variants.options(name)
    torch.manual_seed(3)
    decoder = decoders.build(name, numbered(WORDS), encoder.dim, settings)
    if isinstance(decoder, NeighboursDecoder):
        _, tokens, owner = training()
        decoder.fit(torch.randn(40, encoder.dim, generator=torch.Generator().manual_seed(2)), tokens, owner)
    card = Card("squeezenet1_1", name, settings, asdict(transform), {}, {"portable": True, "threads": 1}, {}, {})
    model.save(path, card, encoder.body.state_dict(), decoder.state_dict(), numbered(WORDS))
    return str(path)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_role_of_each_member_is_told(tmp_path: Path, mirror: bool) -> None:
    folders = {name: Path(saved(tmp_path / name, name)) for name in ("lstm", "neighbours", "updown")}

    def roles(*names: str) -> list[str]:
        return ensembles.load([folders[name] for name in names], mirror=mirror).roles

    averaged = "probabilities averaged"
    assert roles("lstm", "neighbours") == ["searched", "lends captions"]
    assert roles("neighbours", "lstm") == ["lends captions", "searched"]
    assert roles("lstm", "neighbours", "updown") == [averaged, "lends captions", averaged]
    assert roles("neighbours", "neighbours") == [averaged, averaged]
    assert roles("lstm") == ["searched"]


def test_an_ensemble_with_neighbours_needs_consensus_before_any_stage_runs(tmp_path: Path) -> None:
    saved(tmp_path / "near", "neighbours")
    said = r"\Aevaluate.rank_by = likelihood: a model of neighbours .*; write consensus, or take it out of"
    for names in (["lstm", "neighbours"], ["lstm", "oscar", "neighbours"], ["neighbours", "lstm"]):
        with pytest.raises(UserError, match=said):
            check_lenders(names, "likelihood")
        check_lenders(names, "consensus")
    for names in (["neighbours"], ["neighbours", "neighbours"], ["lstm", "lstm"]):
        check_lenders(names, "likelihood")
    settings = resolve.load(ROOT / "params.yaml", {"evaluate.ensemble": str(tmp_path)})
    with pytest.raises(UserError, match=said):
        check._search(settings)
    check._search(
        resolve.load(ROOT / "params.yaml", {"evaluate.ensemble": str(tmp_path), "evaluate.rank_by": "consensus"})
    )


def test_the_command_captions_with_a_model_and_neighbours(tmp_path: Path) -> None:
    models = ["--model", saved(tmp_path / "own", "lstm"), "--model", saved(tmp_path / "near", "neighbours")]
    files = [str(tmp_path / f"{k}.png") for k in range(2)]
    for k, file in enumerate(files):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file)
    command = ["predict", *files, "--format", "jsonl", "--n-best", "3", "--max-words", "8"]
    done = CliRunner().invoke(app, [*command, *models, "--rank-by", "consensus"])
    assert done.exit_code == 0, done.exception
    both = [json.loads(line)["captions"] for line in done.stdout.splitlines()]
    alone = CliRunner().invoke(app, [*command, *models[:2], "--rank-by", "consensus"])
    assert both != [json.loads(line)["captions"] for line in alone.stdout.splitlines()]
    assert all(caption["log_probability"] < 0 for captions in both for caption in captions)
    refused = CliRunner().invoke(app, [*command, *models])
    assert refused.exit_code == 1
    assert "rank by consensus, or leave it out" in f"{refused.output}{refused.exception}"
