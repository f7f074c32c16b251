"""`captioning models`: the models that there are."""

from captioning.models import choice, inventory
from captioning.system.errors import UserError


def models() -> None:
    """List the models: shipped with captioning, trained in this project, released by tag.

    Each name can follow `captioning predict --model`. The one that is used without a name has an asterisk.
    """
    entries = inventory.entries()
    if not entries:
        raise UserError("no model: none is shipped with this copy, and none is trained here; run `dvc repro`")
    default = choice.default().title.removesuffix(" (shipped)")
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{'*' if entry.name == default else ' '} {entry.name:<{width}}  {entry.description()}")
