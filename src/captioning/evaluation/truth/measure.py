"""How much of what captions say is true, over many: shares, and precision and recall of each kind of claim."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from captioning.data.datasets.scenes.composition import Scene
from captioning.data.text.tokenizer import tokenize
from captioning.evaluation.truth import reading
from captioning.evaluation.truth.claims import KINDS, Claim, facts, judge
from captioning.metrics.score import Scores

Id = TypeVar("Id", bound=Hashable)


class Counts(NamedTuple):
    """Of one kind: claims, true claims, facts of the scenes, and facts that true claims mention."""

    claims: int = 0
    true: int = 0
    facts: int = 0
    mentioned: int = 0

    @property
    def precision(self) -> float | None:
        """The share of claims that are true; None where nothing is claimed."""
        return self.true / self.claims if self.claims else None

    @property
    def recall(self) -> float | None:
        """The share of facts that are mentioned; None where there is nothing to mention."""
        return self.mentioned / self.facts if self.facts else None


@dataclass(frozen=True)
class Truth(Generic[Id]):
    """The truth of many captions. true: all that is said is true. readable: it is a sentence of the grammar."""

    true: Mapping[Id, bool]
    readable: Mapping[Id, bool]
    different: int  # captions, by their words
    counts: Mapping[str, Counts]  # of each of KINDS

    @property
    def share(self) -> float:
        """The share of captions in which all that is said is true."""
        return sum(self.true.values()) / len(self.true)

    @property
    def unreadable(self) -> float:
        """The share of captions that are no sentence of the grammar."""
        return 1 - sum(self.readable.values()) / len(self.readable)

    @property
    def scores(self) -> Scores[Id]:
        """`true_captions` of the corpus, and `true`, 0 or 1, of each image."""
        return Scores({"true_captions": self.share}, {"true": {name: int(true) for name, true in self.true.items()}})

    def record(self) -> dict[str, Any]:
        """All of it but the single captions, for JSON."""
        shares = {"true_captions": self.share, "unreadable_captions": self.unreadable}
        rows = {kind: {"precision": row.precision, "recall": row.recall} for kind, row in self.counts.items()}
        return {**shares, "captions": len(self.true), "different_captions": self.different, **rows}


def score(captions: Mapping[Id, str], scenes: Mapping[Id, Scene]) -> Truth[Id]:
    """Judge each caption, raw or tokenised, by the scene of the same id.

    Precision and recall are micro-averaged: claims and facts are summed over captions. About 0.3 ms a caption.
    """
    judged = {name: judge(caption, scenes[name]) for name, caption in captions.items()}
    rows = [_count(claims, scenes[name]) for name, (_, claims) in judged.items()]
    return Truth(
        true={name: true for name, (true, _) in judged.items()},
        readable={name: bool(reading.sentences(caption)) for name, caption in captions.items()},
        different=len({tuple(tokenize(caption)) for caption in captions.values()}),
        counts={kind: Counts(*map(sum, zip(*(row[kind] for row in rows), strict=True))) for kind in KINDS},
    )


def _count(claims: list[Claim], scene: Scene) -> dict[str, Counts]:
    """Of one caption."""
    return {kind: _of_kind([c for c in claims if c.kind == kind], known) for kind, known in facts(scene).items()}


def _of_kind(claims: list[Claim], known: frozenset[tuple[Hashable, ...]]) -> Counts:
    true = [claim for claim in claims if claim.true]
    mentioned = known.intersection(fact for claim in true for fact in claim.facts)
    return Counts(len(claims), len(true), len(known), len(mentioned))


def table(rows: Mapping[str, Truth[Any]]) -> str:
    """An aligned text table, a system a line: shares, different captions, and precision/recall of each kind."""
    head = ["", "true", "unreadable", "different", *KINDS]
    body = [
        [name, f"{row.share:.3f}", f"{row.unreadable:.3f}", str(row.different), *map(_both, row.counts.values())]
        for name, row in rows.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in [head, *body]]
    return "\n".join(" ".join(line) for line in lines)


def _both(counts: Counts) -> str:
    values = (counts.precision, counts.recall)
    return "/".join("–" if value is None else f"{value:.2f}" for value in values)
