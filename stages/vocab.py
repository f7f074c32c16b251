"""vocab: the words of the training captions, or their word pieces → data/vocab/vocab.txt."""

import sys
from pathlib import Path

from captioning.data.splits import splits
from captioning.data.splits.captions import read_captions
from captioning.data.text import coverage
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings import text_models
from captioning.settings.schema import Settings, Vocab
from captioning.system.sealed import write_table

CAPTIONS = Path("data/download/captions.csv")
OUT = Path("data/vocab/vocab.txt")


def main(settings: Settings) -> None:
    table = splits.assign(read_captions(CAPTIONS), settings.split.limit)
    training = table[table["split"] == "train"]["words"].tolist()
    _warn(coverage.unspaced(training))
    vocabulary = _vocabulary(training, settings.vocab)
    write_table(OUT, vocabulary.text_file())
    _warn(coverage.unknown(training, vocabulary, settings.vocab.min_count))


def _vocabulary(training: list[list[str]], vocab: Vocab) -> Vocabulary:
    if vocab.kind == "words":
        words = coverage.count(training, vocab.min_count)
        print(f"{len(words)} words, those seen {vocab.min_count} times in {len(training)} training captions")
        return words
    folder = text_models.named(vocab.text)
    known = frozenset(text_models.pieces(folder)) if folder else None
    pieces = coverage.pieces(training, known, vocab.min_count)
    origin = f"of {folder}" if folder else "learnt from them"
    print(f"{len(pieces)} word pieces, {origin}, spell {len(training)} training captions")
    return pieces


def _warn(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
