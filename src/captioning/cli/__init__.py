"""The command `captioning`."""

from captioning.cli.entry import main

__all__ = ["main"]
