"""download: the data set's archives and its table of captions → data/download/."""

from pathlib import Path

from captioning.data.datasets import registry
from captioning.data.datasets.base import Options
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system.files import scratch, write_json, write_text
from stages import run

OUT = Path("data/download")


def main(settings: Settings) -> None:
    dataset = registry.get(settings.dataset)
    split = resolve.split(settings)
    options = Options(
        source=resolve.source(settings),
        skip_corrupt=settings.download.skip_corrupt,
        scenes=settings.download.scenes,
        split=split,
        folder=settings.download.folder,
    )
    prepared = dataset.prepare(OUT, options, scratch("downloads"))
    write_text(OUT / "captions.csv", prepared.table.to_csv(index=False, lineterminator="\n"))
    write_json(OUT / "source.json", prepared.record())
    images = prepared.table.drop_duplicates("image_id")["split"].value_counts()
    for note in prepared.notes:
        print(note)
    print(f"{settings.dataset}, download.split = {split}: {len(prepared.table)} captions of {images.to_dict()} images")


if __name__ == "__main__":
    run(main)
