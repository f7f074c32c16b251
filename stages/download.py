"""download: the data set's archives and its table of captions → data/download/."""

from pathlib import Path

from captioning.data.datasets import registry
from captioning.data.datasets.base import Options
from captioning.settings.resolve import source
from captioning.settings.schema import Settings
from captioning.system.files import scratch, write_json
from captioning.system.sealed import write_table

OUT = Path("data/download")


def main(settings: Settings) -> None:
    dataset, download = registry.get(settings.dataset), settings.download
    options = Options(
        source=source(download.source),
        skip_corrupt=download.skip_corrupt,
        scenes=download.scenes,
        split=download.split,
        folder=download.folder,
    )
    prepared = dataset.prepare(OUT, options, scratch("downloads"))
    write_table(OUT / "captions.csv", prepared.table.to_csv(index=False, lineterminator="\n"))
    write_json(OUT / "source.json", prepared.record())
    images = prepared.table.drop_duplicates("image_id")["split"].value_counts()
    for note in prepared.notes:
        print(note)
    counts = f"{len(prepared.table)} captions of {images.to_dict()} images"
    print(f"{settings.dataset}, download.split = {download.split}: {counts}")
