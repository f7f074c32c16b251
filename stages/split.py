"""split: who is in which split, captions as ids, references in the COCO format → data/split/."""

from pathlib import Path

from captioning import splits
from captioning.settings import Settings
from captioning.vocabulary import Vocabulary
from stages import run

CAPTIONS = Path("data/download/captions.csv")
VOCABULARY = Path("data/vocab/vocab.txt")
OUT = Path("data/split")


def main(settings: Settings) -> None:
    table = splits.assign(splits.read_captions(CAPTIONS))
    images = splits.write(OUT, table, Vocabulary.read(VOCABULARY), settings.split.max_words)
    counts = images["split"].value_counts()
    print(", ".join(f"{split}: {counts[split]} images" for split in splits.SPLITS))


if __name__ == "__main__":
    run(main)
