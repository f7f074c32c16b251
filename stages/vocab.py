"""vocab: the words of the training captions → data/vocab/vocab.txt."""

from pathlib import Path

from captioning.data.splits import splits
from captioning.data.splits.captions import read_captions
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings.schema import Settings
from captioning.system.sealed import write_table

CAPTIONS = Path("data/download/captions.csv")
OUT = Path("data/vocab/vocab.txt")


def main(settings: Settings) -> None:
    table = splits.assign(read_captions(CAPTIONS), settings.split.limit)
    training = table[table["split"] == "train"]["words"]
    vocabulary = Vocabulary.count(training, settings.vocab.min_count)
    write_table(OUT, vocabulary.text_file())
    print(f"{len(vocabulary)} words, those seen {settings.vocab.min_count} times in {len(training)} training captions")
