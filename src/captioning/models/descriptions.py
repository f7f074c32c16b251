"""What a model is, in words, by its own record."""

from collections.abc import Mapping
from typing import Any

from captioning.captioner.cards import Card

DRAWINGS = "drawings"
CONTENT = {  # of each data set's images
    "scenes": DRAWINGS,
    "abstract_scenes": DRAWINGS,
    "flickr8k": "photographs",
    "flickr30k": "photographs",
    "coco2014": "photographs",
    "coco2017": "photographs",
    "folder": "one's own images",
}


def describe(title: str, card: Card, *, keeps_statistics: bool) -> list[str]:
    """Lines on a model, by its own record: what it is, what it was trained on, and how well that went.

    keeps_statistics: whether images can be compared with its training images, so that photographs are noticed.
    """
    parts = [f"model {title}: {card.reads} + {card.decoder}, trained on {trained_on(card.settings)}"]
    if "epoch" in card.scores:
        parts.append(f"epoch {card.scores['epoch']}")
    if "val/cider" in card.scores:
        parts.append(f"CIDEr {card.scores['val/cider']:.2f} on its validation images")
    lines = [", ".join(parts)]
    if CONTENT.get(card.settings.get("dataset", "")) == DRAWINGS and not keeps_statistics:
        lines.append("it was trained on drawings alone: its captions of photographs are guesses")
    return lines


def trained_on(settings: Mapping[str, Any]) -> str:
    """A model's data set and what its images are, as `scenes: drawings`."""
    name = settings.get("dataset", "an unknown data set")
    return f"{name}: {CONTENT[name]}" if name in CONTENT else name
