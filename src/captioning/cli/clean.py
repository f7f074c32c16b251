"""`captioning clean`: remove unfinished work."""

from typing import Annotated

import typer

from captioning.cli.places import in_project
from captioning.system import unfinished
from captioning.system.unfinished import shown

_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")]


@in_project
def clean(*, dry_run: _DryRun = False) -> None:
    """Remove unfinished work from .scratch/: checkpoints, feature shards and parts of downloads.

    An interrupted `dvc repro` begins its stage from the start afterwards. The last whole feature store goes too: the
    next experiment encodes the images again. Results, and files that are downloaded whole, stay. Work that a
    process is using stays too.
    """
    removed = []
    for piece in unfinished.pieces():
        described = str(piece)  # as long as it is there
        if dry_run or unfinished.remove(piece):
            removed.append(piece)
            print(described)
        else:
            print(f"{described}; kept: a process is using it")
    total = shown(sum(piece.bytes for piece in removed))
    print(f"{'would remove' if dry_run else 'removed'} {len(removed)} pieces of unfinished work, {total}")
