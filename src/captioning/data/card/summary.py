"""A card of the data: what is in each split, as numbers and as plots.

N images, C captions.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from captioning.data.splits.captions import SPLITS
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.files import write_text

_PERCENTILES = (50, 95, 99)
_MIN_COUNTS = range(1, 21)  # values of vocab.min_count in the plot of unknown words


class Counts(NamedTuple):
    """One split, counted. `wordless_*` are captions without a word, and images that have no others: left out."""

    per_image: np.ndarray  # (N,) captions
    lengths: np.ndarray  # (C,) words
    words: Counter[str]
    wordless_images: int
    wordless_captions: int


def count(captions: pd.DataFrame, table: pd.DataFrame) -> dict[str, Counts]:
    """Count each split.

    captions: a row a caption that was considered, with image_id and split; table: those that have words, with `words`.
    """
    return {split: _count(captions[captions["split"] == split], table[table["split"] == split]) for split in SPLITS}


def _count(captions: pd.DataFrame, table: pd.DataFrame) -> Counts:
    per_image = table["image_id"].value_counts().to_numpy(np.int64)
    return Counts(
        per_image=per_image,
        lengths=table["words"].map(len).to_numpy(np.int64),
        words=Counter(chain.from_iterable(table["words"])),
        wordless_images=captions["image_id"].nunique() - len(per_image),
        wordless_captions=len(captions) - len(table),
    )


def describe(counts: Counts, vocabulary: Vocabulary, max_words: int) -> dict[str, Any]:
    """The numbers of one split, for JSON.

    `unknown` is the share of its words that are `<unk>`, `cut` the share of its captions longer than `max_words`.
    """
    total = counts.words.total()
    unknown = sum(
        number for word, number in counts.words.items() if vocabulary.special.unk in vocabulary.encode([word])
    )
    percentiles = np.percentile(counts.lengths, _PERCENTILES, method="inverted_cdf").tolist()
    return {
        "images": len(counts.per_image),
        "images_without_words": counts.wordless_images,
        "captions": len(counts.lengths),
        "captions_without_words": counts.wordless_captions,
        "captions_per_image": _range(counts.per_image),
        "words": total,
        "words_per_caption": _range(counts.lengths)
        | {f"p{share}": value for share, value in zip(_PERCENTILES, percentiles, strict=True)},
        "distinct_words": len(counts.words),
        "unknown": unknown / total,
        "cut": float((counts.lengths > max_words).mean()),
    }


def _range(values: np.ndarray) -> dict[str, float]:
    return {"min": int(values.min()), "mean": float(values.mean()), "max": int(values.max())}


def line(split: str, numbers: Mapping[str, Any]) -> str:
    """What `describe` gave, for a person."""
    left_out = numbers["captions_without_words"]
    return (
        f"{split}: {numbers['images']:,} images, {numbers['captions']:,} captions"
        + (f" ({left_out:,} without a word are left out)" if left_out else "")
        + f", {numbers['words_per_caption']['mean']:.1f} words each; {numbers['unknown']:.2%} of the words are <unk>, "
        f"{numbers['cut']:.2%} of the captions are longer than split.max_words"
    )


def write_plots(folder: Path, splits: Mapping[str, Counts]) -> None:
    """Write a table a plot, a row a point: caption_length.tsv, captions_per_image.tsv and unknown.tsv.

    The last is the share of words that would be `<unk>`, by `vocab.min_count`.
    """
    lengths = {split: np.bincount(counts.lengths) for split, counts in splits.items()}
    sizes = {split: np.bincount(counts.per_image) for split, counts in splits.items()}
    _write(folder / "caption_length.tsv", ("split", "words", "share"), _shares(lengths))
    _write(folder / "captions_per_image.tsv", ("split", "captions", "share"), _shares(sizes))
    _write(folder / "unknown.tsv", ("split", "min_count", "share"), _unknown(splits))


def _shares(histograms: Mapping[str, np.ndarray]) -> Iterator[tuple[str, int, float]]:
    """Of every value that any split has, and those between."""
    longest = max(len(histogram) for histogram in histograms.values())
    padded = {split: np.pad(histogram, (0, longest - len(histogram))) for split, histogram in histograms.items()}
    first = min(int(np.flatnonzero(histogram)[0]) for histogram in padded.values())
    for split, histogram in padded.items():
        for value in range(first, longest):
            yield split, value, histogram[value] / histogram.sum()


def _unknown(splits: Mapping[str, Counts]) -> Iterator[tuple[str, int, float]]:
    training = splits["train"].words
    for split, counts in splits.items():
        seen = np.array([training[word] for word in counts.words])
        occurrences = np.array(list(counts.words.values()))
        for minimum in _MIN_COUNTS:
            yield split, minimum, occurrences[seen < minimum].sum() / occurrences.sum()


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[str, int, float]]) -> None:
    table = pd.DataFrame(rows, columns=list(columns))
    write_text(path, table.to_csv(sep="\t", index=False, lineterminator="\n", float_format="%.6f"))
