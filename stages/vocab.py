"""vocab: the words of the training captions → data/vocab/vocab.txt."""

import sys
from pathlib import Path

from captioning.data.splits import splits
from captioning.data.splits.captions import read_captions
from captioning.data.text import coverage
from captioning.settings.schema import Settings
from captioning.system.sealed import write_table

CAPTIONS = Path("data/download/captions.csv")
OUT = Path("data/vocab/vocab.txt")


def main(settings: Settings) -> None:
    table = splits.assign(read_captions(CAPTIONS), settings.split.limit)
    training = table[table["split"] == "train"]["words"].tolist()
    min_count = settings.vocab.min_count
    _warn(coverage.unspaced(training))
    vocabulary = coverage.count(training, min_count)
    write_table(OUT, vocabulary.text_file())
    print(f"{len(vocabulary)} words, those seen {min_count} times in {len(training)} training captions")
    _warn(coverage.unknown(training, vocabulary, min_count))


def _warn(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
