"""What a model reads beside the output of its encoder, and makes of that output: words, or captions of neighbours."""

from pathlib import Path

from captioning.data.objects import retrieval, words
from captioning.data.objects.retrieval import Retrieval
from captioning.data.objects.words import WordTagger

Beside = WordTagger | Retrieval
"""Adds to the output of an encoder: see `added`. `dim`: D of the means that it reads. `width`: E, what it widens by."""
FILES = {WordTagger: words.FILES, Retrieval: retrieval.FILES}
"""The files of each kind, in the folder of a captioner."""


def write(folder: Path, beside: Beside) -> tuple[str, ...]:
    """Write the files of it into a folder that is there; return their names."""
    if isinstance(beside, WordTagger):
        words.write(folder, beside)
    else:
        retrieval.write(folder, beside)
    return FILES[type(beside)]


def read(folder: Path, names: frozenset[str], remedy: str) -> Beside | None:
    """What a folder with files of these names has; None for none. Raises UserError as the `read` of each kind does."""
    if words.CARD in names:
        return words.read(folder, remedy)
    return retrieval.read(folder, remedy) if retrieval.FILES[0] in names else None
