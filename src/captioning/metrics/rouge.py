"""ROUGE-L (Lin 2004) as coco-caption computes it: beta 1.2, the best precision and the best recall taken separately."""

from collections.abc import Iterable, Mapping, Sequence

_BETA2 = 1.2**2
_EMPTY = ("",)  # coco-caption splits an empty caption into one empty word


def rouge_l(hypothesis: Sequence[str], references: Iterable[Sequence[str]]) -> float:
    """ROUGE-L of one tokenised hypothesis against its references."""
    words = hypothesis or _EMPTY
    places = word_places(words)
    recall, longest = 0.0, 0
    for reference in references:
        common = lcs_length(places, reference or _EMPTY)
        longest = max(longest, common)
        recall = max(recall, common / (len(reference) or 1))
    precision = longest / len(words)
    return (1 + _BETA2) * precision * recall / (recall + _BETA2 * precision) if longest else 0.0


def word_places(words: Sequence[str]) -> dict[str, int]:
    """For each word, the places where it stands, as the bits of one integer."""
    places: dict[str, int] = {}
    for position, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << position
    return places


def lcs_length(places: Mapping[str, int], words: Iterable[str]) -> int:
    """The length of the longest common subsequence of two sentences, the first as `word_places`.

    Bit-parallel: a row of the usual table is one integer, and its zero bits are where the table steps up
    (Hyyrö 2004, after Allison and Dix 1986).
    """
    all_places = 0
    for here in places.values():
        all_places |= here
    row = all_places
    for word in words:
        if here := places.get(word, 0):
            matched = row & here
            row = (row + matched) | (row - matched)
    return (all_places & ~row).bit_count()
