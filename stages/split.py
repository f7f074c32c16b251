"""split: who is in which split, captions as ids, references in the COCO format, a card of the data → data/split/."""

from pathlib import Path

from captioning.data.card import fingerprints, leakage, summary
from captioning.data.splits import splits
from captioning.data.splits.captions import read_captions
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings.schema import Settings
from captioning.system.archives import ImageArchives
from captioning.system.files import write_json, write_text
from captioning.system.sealed import check_table

DATA = Path("data/download")
VOCABULARY = Path("data/vocab/vocab.txt")
OUT = Path("data/split")


def main(settings: Settings) -> None:
    split = settings.split
    captions = read_captions(DATA / "captions.csv")
    table = splits.assign(captions, split.limit)
    check_table(VOCABULARY, "run `dvc repro -f vocab`")
    vocabulary = Vocabulary.read(VOCABULARY)
    images = splits.write(OUT, table, vocabulary, split.max_words)
    counts = summary.count(splits.choose(captions, split.limit), table)
    numbers = {name: summary.describe(part, vocabulary, split.max_words) for name, part in counts.items()}
    for name, described in numbers.items():
        print(summary.line(name, described), flush=True)
    summary.write_plots(OUT / "plots", counts)
    with ImageArchives(DATA) as image_files:
        known = fingerprints.read(image_files, images["file"].tolist())
    leaks = leakage.find(table, images, known)
    print(*leakage.report(leaks, images, known), sep="\n")
    write_text(OUT / "leaks.csv", leaks.to_csv(index=False, lineterminator="\n"))
    card = {"limit": split.limit, "vocabulary": len(vocabulary), "splits": numbers}
    write_json(OUT / "summary.json", card | {"leaks": leakage.describe(leaks, known)})
