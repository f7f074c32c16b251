"""How well scores agree with people: Kendall's tau-c on Flickr8k-Expert (Hodosh et al. 2013).

    python -m benchmarks.agreement FOLDER [BERT]

FOLDER has Flickr8k.token.txt, and ExpertAnnotations.txt: an image, a caption of another or the same image, and the
ratings of three experts from 1 to 4, a line a pair. Each rating is compared with the score of the caption against the
image's five references. A caption of the image itself is left out (Anderson et al. 2016, section 4.2; Hessel et al.
2021, section 4.1). BERT is the folder of a text model, for BERTScore.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.stats import kendalltau

from captioning import metrics
from captioning.models.learned_scores import BertScore

RATINGS, CAPTIONS = "ExpertAnnotations.txt", "Flickr8k.token.txt"
_EXPERTS = 3


class Judged(NamedTuple):
    """A caption beside an image, and what each expert says."""

    image: str
    caption: str
    ratings: tuple[int, ...]


def read(folder: Path) -> tuple[dict[str, list[str]], list[Judged]]:
    """References by image, and the pairs that count. Ends the program, with file and line, where one is malformed."""
    captions = dict(_rows(folder / CAPTIONS, 2))
    references: dict[str, list[str]] = {}
    for name, text in captions.items():
        references.setdefault(_image(name), []).append(text)
    judged = []
    for number, (image, name, *ratings) in enumerate(_rows(folder / RATINGS, 2 + _EXPERTS), start=1):
        if name not in captions or image not in references or not all(rating in "1234" for rating in ratings):
            sys.exit(
                f"error: {folder / RATINGS}, line {number}: an unknown image or caption, or a rating beyond 1 to 4"
            )
        if _image(name) != image:
            judged.append(Judged(image, captions[name], tuple(map(int, ratings))))
    return references, judged


def _image(name: str) -> str:
    return name.partition("#")[0]


def _rows(path: Path, columns: int) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    wrong = next((number for number, row in enumerate(rows, start=1) if len(row) != columns), None)
    if wrong is not None:
        sys.exit(f"error: {path}, line {wrong}: expected {columns} columns")
    return rows


def scores(
    references: Mapping[str, Sequence[str]], judged: Sequence[Judged], bert: Path | None
) -> dict[str, list[float]]:
    """Each score of each pair. The idf of CIDEr is that of the references of all pairs, one for each pair."""
    pairs = {str(number): references[one.image] for number, one in enumerate(judged)}
    said = {str(number): one.caption for number, one in enumerate(judged)}
    found = metrics.score(pairs, said).per_image
    if metrics.java_available():
        found |= metrics.java_scores(pairs, said).per_image
    if bert is not None:
        found |= BertScore(bert).score(pairs, said, {})
    return {name: [of[number] for number in said] for name, of in found.items()}


def tau(values: Sequence[float], judged: Sequence[Judged]) -> float:
    """Kendall's tau-c between a score and all ratings, each of which is a pair of its own."""
    ratings = [rating for one in judged for rating in one.ratings]
    return float(kendalltau([value for value in values for _ in range(_EXPERTS)], ratings, variant="c").statistic)


def main(folder: Path, bert: Path | None = None) -> None:
    references, judged = read(folder)
    print(f"{len(judged):,} pairs, {_EXPERTS} ratings each\n\n| score | tau-c |\n|---|---|")
    for name, values in scores(references, judged, bert).items():
        print(f"| {metrics.NAMES.get(name, name)} | {tau(values, judged):.3f} |")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
