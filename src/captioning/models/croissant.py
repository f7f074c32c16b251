"""Metadata of `scenes` as Croissant 1.0: JSON-LD that data set catalogues and loaders read.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html
"""

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from captioning.data.splits.captions import SPLITS, read_captions
from captioning.system.errors import UserError
from captioning.system.files import digest

_ARCHIVE, _CAPTIONS, _FACTS = "scenes.zip", "captions.csv", "facts.jsonl"
_FORMATS = {_ARCHIVE: "application/zip", _CAPTIONS: "text/csv", _FACTS: "application/jsonlines"}
_ALIASES = (
    "citeAs column conformsTo=dct equivalentProperty extract field fileProperty fileObject fileSet format includes "
    "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate "
    "separator source subField transform"
)


def metadata(data: Path, home: Path) -> dict[str, Any]:
    """The JSON-LD of the scenes in folder `data`, for a file in folder `home`: paths are relative to that.

    Counts and digests are those of the files. Raises UserError if they are not there.
    """
    for name in _FORMATS:
        if not (data / name).is_file():
            raise UserError(
                f"{data} has no {name}: Croissant is for `scenes`; run dvc repro download with dataset=scenes"
            )
    table = read_captions(data / _CAPTIONS)
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "scenes",
        "description": _description(table),
        "creator": {"@type": "sc:Organization", "name": "The captioning developers"},
        "license": "https://spdx.org/licenses/MIT.html",
        "version": version("captioning"),
        "citeAs": f"The captioning developers: captioning, version {version('captioning')}. Software.",
        "keywords": ["image captioning", "drawn scenes", "synthetic data"],
        "inLanguage": "en",
        "isLiveDataset": False,
        "distribution": [*(_file(data / name, home) for name in _FORMATS), _images()],
        "recordSet": [_splits(), _image_records(), _caption_records(), _fact_records()],
    }


def _context() -> dict[str, Any]:
    """The context that the specification gives."""
    pairs = [alias.partition("=") for alias in _ALIASES.split()]
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        **{name: f"{prefix or 'cr'}:{name}" for name, _, prefix in pairs},
    }


def _description(table: pd.DataFrame) -> str:
    counts = table.drop_duplicates("image_id")["split"].value_counts()
    sizes = ", ".join(f"{counts.get(split, 0):,} {split}" for split in SPLITS)
    return (
        f"Drawn scenes of children, animals, things, places and weather: {counts.sum():,} images ({sizes}), with "
        f"{len(table):,} English captions by a grammar, and the facts of each image. No composition is in two splits."
    )


def _file(path: Path, home: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": Path(os.path.relpath(path, home)).as_posix(),
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS[path.name],
        "sha256": digest(path),
    }


def _images() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "image-files",
        "name": "image-files",
        "containedIn": {"@id": _ARCHIVE},
        "encodingFormat": "image/png",
        "includes": "scenes/*.png",
    }


def _splits() -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}
    return {
        **_records("splits", "What each image is for.", [field], "name"),
        "dataType": "cr:Split",
        "data": [{"splits/name": split} for split in SPLITS],
    }


def _image_records() -> dict[str, Any]:
    fields = [
        _field("images/name", "sc:Text", "image-files", {"fileProperty": "filename"}),
        _field("images/content", "sc:ImageObject", "image-files", {"fileProperty": "content"}),
    ]
    return _records("images", "The images, by file name.", fields, "name")


def _caption_records() -> dict[str, Any]:
    image = _column("captions", "image", "file", "sc:Text", _CAPTIONS)
    image["source"]["transform"] = {"regex": "(?:.*/)?(.*)"}
    fields = [
        _column("captions", "image_id", "image_id", "sc:Text", _CAPTIONS),
        _column("captions", "caption", "caption", "sc:Text", _CAPTIONS),
        image | {"references": {"field": {"@id": "images/name"}}},
        _column("captions", "split", "split", "sc:Text", _CAPTIONS) | {"references": {"field": {"@id": "splits/name"}}},
    ]
    return _records("captions", "A record a caption, several an image.", fields)


def _fact_records() -> dict[str, Any]:
    names = {"image_id": "sc:Text", "seed": "sc:Text", "place": "sc:Text", "weather": "sc:Text"}
    fields = [_column("facts", name, name, kind, _FACTS) for name, kind in names.items()]
    return _records("facts", "What was drawn; the file also has the things and the actors.", fields, "image_id")


def _records(name: str, description: str, fields: Iterable[Mapping[str, Any]], key: str = "") -> dict[str, Any]:
    made = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "field": list(fields)}
    return made | ({"key": {"@id": f"{name}/{key}"}} if key else {})


def _column(records: str, name: str, column: str, kind: str, file: str) -> dict[str, Any]:
    return _field(f"{records}/{name}", kind, file, {"column": column})


def _field(name: str, kind: str, source: str, extract: Mapping[str, str]) -> dict[str, Any]:
    place = {"fileSet" if source == "image-files" else "fileObject": {"@id": source}}
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": name.partition("/")[2],
        "dataType": kind,
        "source": {**place, "extract": dict(extract)},
    }
