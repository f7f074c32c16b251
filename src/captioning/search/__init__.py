"""Search for captions, written once over a decoder's `step`: `search`, and `n_best` for several captions an image.

`options.method` is one of `beam` (beam search, or greedy), `diverse` (groups of beams that avoid each other's words) or
`sample` (words are drawn). `beam` also finds captions with required phrases. `options.rank_by` decides which of the
captions is the best.
"""

from collections.abc import Sequence
from dataclasses import replace

from captioning.search.base import Caption, Hypothesis, Lister, Speaker, T, in_words, ranked
from captioning.search.beam import beam_search
from captioning.search.consensus import DRAWN, SEARCHED, by_consensus
from captioning.search.constrained import constrained_search
from captioning.search.diverse import diverse_search
from captioning.search.ensemble import Ensemble
from captioning.search.lending import by_agreement
from captioning.search.listed import listed
from captioning.search.sampling import sample
from captioning.settings.search import SearchOptions
from captioning.system.errors import UserError

__all__ = [
    "Caption",
    "Ensemble",
    "Hypothesis",
    "SearchOptions",
    "Speaker",
    "check_lenders",
    "in_words",
    "n_best",
    "search",
]


def search(
    decoder: Speaker[T], encoded: T, options: SearchOptions, keys: Sequence[int] | None = None
) -> list[Hypothesis]:
    """The best caption for each of the B images: the first of `n_best`.

    Where the bans leave no caption at all, it is empty and its score −∞.
    """
    return [hypotheses[0] for hypotheses in n_best(decoder, encoded, options, keys)]


def n_best(
    decoder: Speaker[T], encoded: T, options: SearchOptions, keys: Sequence[int] | None = None
) -> list[list[Hypothesis]]:
    """At most `options.n_best` captions for each of the B images, all different, the best first.

    keys: (B,) natural numbers that, with the seed, decide what is drawn for an image; absent: its index in the batch.
    There are fewer captions where the search finds no more, and always one (see `search`).
    Raises UserError when no caption can have all phrases of `options.must`.
    """
    check_lenders(decoder, options.rank_by)
    if options.rank_by == "likelihood":
        return [ranked(hypotheses, options.n_best) for hypotheses in _hypotheses(decoder, encoded, options, keys)]
    drawn = options.method == "sample"
    candidates = _hypotheses(decoder, encoded, options if drawn else replace(options, n_best=options.beam_size), keys)
    power = DRAWN if drawn else SEARCHED
    if isinstance(decoder, Ensemble) and decoder.lenders:
        judged = by_agreement(decoder, encoded, candidates, decoder.lent(encoded), power, options)
        return [ranked(hypotheses, options.n_best) for hypotheses in judged]
    return [ranked(by_consensus(hypotheses, power, decoder.vocabulary), options.n_best) for hypotheses in candidates]


def check_lenders(decoder: object, rank_by: str) -> None:
    """Raise UserError where a model that looks captions up is beside others, and consensus does not rank captions."""
    if isinstance(decoder, Ensemble) and decoder.lenders and rank_by != "consensus":
        raise UserError("a model of neighbours only lends captions to others: rank by consensus, or leave it out")


def _hypotheses(
    decoder: Speaker[T], encoded: T, options: SearchOptions, keys: Sequence[int] | None
) -> list[list[Hypothesis]]:
    """What the method finds for each of the B images, in no order."""
    if options.method == "sample":
        return sample(decoder, encoded, options, keys)
    if options.method == "diverse":
        return diverse_search(decoder, encoded, options)
    if isinstance(decoder, Lister):
        return listed(decoder, encoded, options)
    if options.must or options.some_of:
        return constrained_search(decoder, encoded, options)
    return beam_search(decoder, encoded, options)
