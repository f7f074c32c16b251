"""Weights of a text model, or of an Oscar or VinVL, as they are published: a state dict with BERT's names.

Old files say gamma and beta for a norm's weight and bias. A bare BERT has names without `bert.`, and no head of masked
words; only Oscar and VinVL have an embedding of regions. What a file lacks as a whole is drawn. What is missing in
part, has another shape, or is unknown is refused by its name. `training_args.bin`, which is beside published models, is
never opened.

V pieces, W width.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from captioning.data.text import wordpieces
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings import text_models
from captioning.system import state_dicts
from captioning.system.errors import UserError

_WORDS, _BIAS, _MASK = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "mask"
_TIED = "cls.predictions.decoder.weight"
_OPTIONAL = ("bert.img_embedding.", "bert.LayerNorm."), ("cls.predictions.",)  # absent from a file as a whole, or there
_UNUSED = re.compile(  # sentence pairs, the mask's copy, and buffers
    r"bert\.pooler\.|cls\.seq_relationship\.|cls\.predictions\.decoder\.|bert\.embeddings\.position_ids$"
)
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")


def take_up(folder: Path, vocabulary: Vocabulary, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A decoder's state dict, with what the folder has in place of what was drawn. Later layers are left out.

    The rows of a piece are found by its name. A word that is a token of its own gets the mean of its pieces' rows.
    Raises UserError that names a tensor which is missing, misshapen or unknown.
    """
    file, pieces = text_models.weights(folder), {piece: row for row, piece in enumerate(text_models.pieces(folder))}
    theirs = {_name(name): tensor.float() for name, tensor in state_dicts.read(file).items()}
    expected = _expected(own, theirs)
    _check(file, {name: _shape(name, own, len(pieces)) for name in expected}, theirs, len(_layers(own)))
    taken = {name: theirs[name] for name in expected - {_WORDS, _BIAS}}
    rows = [_rows(token, pieces) for token in vocabulary.words]
    taken |= {name: _of_tokens(own[name], theirs[name], rows) for name in expected & {_WORDS, _BIAS}}
    return {**own, **taken, _MASK: theirs[_WORDS][pieces["[MASK]"]]}


def _name(name: str) -> str:
    """The name of a tensor in newer files."""
    name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name.removeprefix("module.")))
    return name if name.startswith(("bert.", "cls.")) else f"bert.{name}"


def _expected(own: Iterable[str], theirs: Iterable[str]) -> set[str]:
    """What a file must have: all of ours, but a part that it lacks as a whole."""
    lacking = tuple(
        prefix for group in _OPTIONAL if not any(name.startswith(group) for name in theirs) for prefix in group
    )
    return {name for name in own if name != _MASK and not name.startswith(lacking)}


def _shape(name: str, own: Mapping[str, Tensor], pieces: int) -> tuple[int, ...]:
    """The shape of a tensor in a file, which has rows for all of its pieces."""
    shape = tuple(own[name].shape)
    return (pieces, *shape[1:]) if name in (_WORDS, _BIAS) else shape


def _layers(names: Iterable[str]) -> set[int]:
    return {int(match[1]) for name in names if (match := _LAYER.match(name))}


def _check(file: Path, shapes: Mapping[str, tuple[int, ...]], theirs: Mapping[str, Tensor], layers: int) -> None:
    """Raise UserError unless a file has what it must, in these shapes, and nothing that is not understood."""
    for name, shape in sorted(shapes.items()):
        if name not in theirs:
            raise UserError(f"{file}: it has no tensor {name}")
        if tuple(theirs[name].shape) != shape:
            raise UserError(f"{file}: {name} has the shape {tuple(theirs[name].shape)}, and {shape} is wanted here")
    for name in sorted(theirs.keys() - shapes.keys()):
        layer = _LAYER.match(name)
        if not _UNUSED.match(name) and not (layer and int(layer[1]) >= layers):
            raise UserError(f"{file}: {name} is in it, and no such tensor is wanted here (decoders.oscar.image_norm?)")
    if _TIED in theirs and not torch.equal(theirs[_TIED], theirs[_WORDS]):
        raise UserError(f"{file}: {_TIED} differs from the word embeddings, and only a tied output can be read")


def _rows(token: str, pieces: Mapping[str, int]) -> list[int]:
    """The rows of a file that a token of the vocabulary begins with."""
    return [pieces[piece] for piece in ([token] if token in pieces else wordpieces.spell(token, pieces) or [])]


def _of_tokens(drawn: Tensor, table: Tensor, rows: list[list[int]]) -> Tensor:
    """Rows of the file's pieces (V', …) → those of our tokens (V, …), which stay as drawn where there are none."""
    return torch.stack([table[found].mean(0) if found else drawn[index] for index, found in enumerate(rows)])
