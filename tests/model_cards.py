"""Model cards that tests change, as a program would that knows of their digest."""

import json
from pathlib import Path
from typing import Any

from captioning.captioner import cards
from captioning.system.files import write_json
from captioning.system.sealed import write_document


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of a model folder's card; DVC's cache, which may hold the same file, keeps the old one."""
    card = json.loads((folder / cards.NAME).read_text())
    write_document(folder / cards.NAME, card | changes)


def make_older(folder: Path, *removed: str) -> None:
    """Leave a card of format 1, which has no digest of its own, without the digests of some files."""
    card = json.loads((folder / cards.NAME).read_text())
    files = {name: value for name, value in card.pop("files").items() if name not in removed}
    write_json(folder / cards.NAME, card | {"format": 1, "sha256": files})
