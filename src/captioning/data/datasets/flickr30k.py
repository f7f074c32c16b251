"""Flickr30k: 31,783 photographs with five captions each (Young, Lai, Hodosh and Hockenmaier 2014), Karpathy's split.

The photographs are given out by form only, so the user brings them. For non-commercial research and education.
"""

from pathlib import Path

from captioning.data.datasets import karpathy, published, tokens
from captioning.data.datasets.base import Options, Prepared
from captioning.data.datasets.published import Photograph, Workspace
from captioning.data.network.downloads import Fetched
from captioning.system.documents import decode_text
from captioning.system.errors import UserError
from captioning.system.packing import pack

name = "flickr30k"
FORM = "https://forms.illinois.edu/sec/229675"
_PHOTOGRAPHS, _CAPTIONS, _DOCUMENT = "flickr30k-images.zip", "results_20130124.token", "dataset_flickr30k.json"
_BROUGHT = [  # what the user may have, best first
    f"{stem}{end}"
    for stem in ("flickr30k-images", "flickr30k_images")
    for end in (".tar.gz", ".tgz", ".tar", ".zip", "")
]
_COUNTS = {"train": (29_000, 145_000), "val": (1014, 5070), "test": (1000, 5000)}  # images, captions


def prepare(folder: Path, options: Options, cache: Path) -> Prepared:
    """Pack the user's photographs into `folder` and return the caption table, as `Dataset` says.

    The captions are those of `results_20130124.token` where the user's folder has it, else those of Karpathy's
    document.
    """
    splits = {"karpathy": _assemble}
    return published.gather_split(Workspace(name, options.source, cache), folder, options, splits)


def _assemble(space: Workspace) -> Prepared:
    photographs = space.find(*_BROUGHT)
    if photographs is None:
        raise UserError(
            f"no {_BROUGHT[0]} (nor .tar, .zip, or a folder) in the folder named by download.source or "
            f"CAPTIONING_SOURCE: Flickr30k's photographs are given out by form only; fill in {FORM} and put it there"
        )
    document = karpathy.bring(space, _DOCUMENT)
    entries, location = karpathy.read(space.folder / document.name, _DOCUMENT)
    captions = {entry.filename: entry.captions for entry in entries}
    files = [document]
    if table := space.find(_CAPTIONS):
        files.append(space.take(table, _CAPTIONS))
        location = f"{space.folder / _CAPTIONS}"
        captions = tokens.parse_captions(decode_text((space.folder / _CAPTIONS).read_bytes(), location), location)
    files.append(space.take(photographs, _PHOTOGRAPHS, pack))
    return _tabulated(space, files, entries, captions, location)


def _tabulated(
    space: Workspace,
    files: list[Fetched],
    entries: list[karpathy.Entry],
    captions: dict[str, list[str]],
    location: str,
) -> Prepared:
    table, notes = published.tabulate(
        [
            Photograph(
                Path(entry.filename).stem, _PHOTOGRAPHS, entry.filename, entry.used_as, captions.get(entry.filename, [])
            )
            for entry in entries
        ],
        space.folder,
        location,
    )
    splits = {entry.filename: entry.used_as for entry in entries}
    differences = published.differences(tokens.counts(captions, splits), _COUNTS)
    unknown = tokens.without_image(captions, published.images(space.folder / _PHOTOGRAPHS))
    return Prepared(table, files, [*differences, *notes, *unknown])
