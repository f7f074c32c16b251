"""The command `captioning`."""

from captioning.cli.app import main

__all__ = ["main"]
