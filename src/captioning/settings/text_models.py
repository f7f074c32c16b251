"""The folder of a text model of the BERT family, in the Hugging Face layout: what its vocab.txt and config.json say.

Oscar and VinVL (Li et al. 2020; Zhang et al. 2021) publish such folders too, with further keys in config.json.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.system.errors import UserError, quote, reason, shown

PIECES = "vocab.txt"
NONE = Path("data/check")  # what `vocab.text` names where there is no text model
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LARGEST = 1 << 20  # of a size
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_KEYS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a text model. image_norm: are regions normalised, as in Oscar+ (VinVL), or not, as in Oscar?"""

    width: int
    layers: int
    heads: int
    feed_forward: int
    image_norm: bool


def named(text: Path) -> Path | None:
    """The folder that `vocab.text` names; None: there is no text model."""
    return None if text == NONE else text


def pieces(folder: Path) -> list[str]:
    """The word pieces of vocab.txt, in its order. Raises UserError where it is missing, or of another kind."""
    path = folder / PIECES
    known = [line.removesuffix("\r") for line in _read(path).removesuffix("\n").split("\n")]
    if lacking := set(_SPECIAL) - set(known):
        raise UserError(f"{path}: no vocabulary of BERT's word pieces, for {', '.join(sorted(lacking))} is not in it")
    if cased := next((piece for piece in known if piece != piece.lower() and not piece.startswith("[")), None):
        raise UserError(f"{path}: {cased!r} has a capital, and captions are in lower case; take an uncased text model")
    return known


def sizes(folder: Path) -> Sizes:
    """What config.json says. Raises UserError where it is missing, or of another kind of model."""
    path = folder / "config.json"
    text = _read(path)
    try:
        config = json.loads(text)
        kind, function = config.get("model_type", "bert"), config.get("hidden_act", "gelu")
        read = {name: _size(key, config[key]) for name, key in _KEYS.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise UserError(f"{path}: not the configuration of a BERT ({shown(reason(fault))})") from None
    if (kind, function) != ("bert", "gelu"):
        raise UserError(f"{path}: model_type {kind!r} with hidden_act {function!r}; only bert with gelu can be read")
    return Sizes(**read, image_norm=_normalises(config))


def _size(key: str, value: object) -> int:
    """A size, which is a whole number. Raises ValueError for another value."""
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise ValueError(f"{key} is {quote(value)}")
    return value


def weights(folder: Path) -> Path:
    """The file of weights in a folder. Raises UserError where there is none."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"vocab.text = {folder}: neither {' nor '.join(_WEIGHTS)} is in it")


def _normalises(config: dict[str, Any]) -> bool:
    """A model that has read images says whether it did so; for one that has not, it is chosen here: yes."""
    return bool(config.get("use_img_layernorm", "img_feature_dim" not in config))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{path}: cannot be read ({reason(fault)}); vocab.text is the folder of a BERT") from None
