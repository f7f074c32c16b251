"""The .yaml file that names the files of a published data set of objects, which lie beside it.

    label: train.label.tsv          objects               feature: train.feature.tsv      vectors
    caption: train_caption.json     captions              cbs_box, cbs_constraint, cbs_tokenforms, cbs_hierarchy: nocaps

`img`, `hw`, `linelist` and `labelmap` are in the files of detectors; `hw` are the sizes of images.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from captioning.system.errors import UserError, quote, reason, shown
from captioning.system.files import write_text
from captioning.system.image_names import leads_outside

KEYS = (
    "label",
    "feature",
    "caption",
    "cbs_box",
    "cbs_constraint",
    "cbs_tokenforms",
    "cbs_hierarchy",
    "img",
    "hw",
    "linelist",
    "labelmap",
)


def read_sources(path: Path) -> dict[str, Path]:
    """Key → file. Raises UserError, with the file, for an unknown key, and for a name that leads out of its folder."""
    values = _parsed(path)
    for key, name in values.items():
        if key not in KEYS:
            raise UserError(f"{path}: {quote(key)} is none of {', '.join(KEYS)}; remove it")
        if not isinstance(name, str) or not name.strip() or Path(name).is_absolute() or leads_outside(name):
            raise UserError(f"{path}: {key}: {quote(name)} is not the name of a file beside it; write one")
        if not name.isprintable():
            raise UserError(f"{path}: {key}: {quote(name)} has a control character in it; write the name of a file")
    return {key: path.parent / name for key, name in values.items()}


def _parsed(path: Path) -> dict[Any, Any]:
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror})") from None
    except (YAMLError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as fault:  # as 2020-99-99
        raise UserError(f"{path}: not YAML ({shown(reason(fault))})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: name` lines")
    return values


def write_sources(path: Path, files: dict[str, Path]) -> None:
    """Write the .yaml of files that lie beside it, or below its folder."""
    lines = (f"{key}: {file.relative_to(path.parent).as_posix()}\n" for key, file in files.items())
    write_text(path, "".join(lines))
