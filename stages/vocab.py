"""vocab: the words of the training captions → data/vocab/vocab.txt."""

from pathlib import Path

from captioning import splits
from captioning.captions import read_captions
from captioning.schema import Settings
from captioning.vocabulary import Vocabulary
from stages import run

CAPTIONS = Path("data/download/captions.csv")
OUT = Path("data/vocab/vocab.txt")


def main(settings: Settings) -> None:
    table = splits.assign(read_captions(CAPTIONS), settings.split.limit)
    training = table[table["split"] == "train"]["words"]
    vocabulary = Vocabulary.count(training, settings.vocab.min_count)
    vocabulary.write(OUT)
    print(f"{len(vocabulary)} words, those seen {settings.vocab.min_count} times in {len(training)} training captions")


if __name__ == "__main__":
    run(main)
