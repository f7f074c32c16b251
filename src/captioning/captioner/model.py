"""A trained model as one folder on disk, and the captioner that it becomes in memory.

    model/model.json            what rebuilds it: encoder, transform, decoder, settings, digests
    model/encoder.safetensors   the encoder's weights
    model/decoder.safetensors   the decoder's weights
    model/vocab.txt             the vocabulary
    model/statistics.safetensors  statistics of training images, for `unlikeness`; older folders have none

The encoder has a file of its own: experiments that share a frozen one share its bytes in the DVC cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from captioning import decoders
from captioning.captioner import cards
from captioning.captioner.cards import FILES, STATISTICS, Card
from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import Decoder
from captioning.system.errors import UserError, reason, shown
from captioning.system.files import atomic, write_bytes
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.unlikeness import KeptStatistics
from captioning.vision.images import Transform


@dataclass(frozen=True)
class Captioner:
    """Images to captions: encoder, decoder, transform and vocabulary, in eval mode."""

    encoder: Encoder
    decoder: Decoder
    transform: Transform
    vocabulary: Vocabulary
    card: Card
    statistics: KeptStatistics | None = None


def save(
    folder: Path,
    card: Card,
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    vocabulary: Vocabulary,
    statistics: KeptStatistics | None = None,
) -> None:
    """Write a model folder; it appears when it is whole. The same model gives the same bytes."""
    with atomic(folder) as temporary:
        temporary.mkdir()
        write_bytes(temporary / "encoder.safetensors", save_tensors(_plain(encoder)))
        write_bytes(temporary / "decoder.safetensors", save_tensors(_plain(decoder)))
        vocabulary.write(temporary / "vocab.txt")
        if statistics is not None:
            write_bytes(temporary / STATISTICS, save_tensors(_plain(statistics.tensors())))
        cards.write(temporary, card, FILES if statistics is None else (*FILES, STATISTICS))


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}


class Saved(NamedTuple):
    """What a model folder has: card, vocabulary, the weights of both networks, and statistics if it keeps them."""

    card: Card
    vocabulary: Vocabulary
    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    statistics: KeptStatistics | None


def read(folder: Path) -> Saved:
    """Read a model's folder.

    Raises UserError when a file is missing, or is not the one that model.json was written with.
    """
    record = cards.read(folder)
    cards.check_files(folder, record)
    encoder, decoder = (_tensors(folder / f"{name}.safetensors") for name in ("encoder", "decoder"))
    statistics = KeptStatistics.of(_tensors(folder / STATISTICS)) if STATISTICS in record.files else None
    return Saved(record.card, Vocabulary.read(folder / "vocab.txt"), encoder, decoder, statistics)


def load(folder: Path) -> Captioner:
    """Rebuild a model from its folder, in eval mode. Raises UserError as `read` does, and when the parts do not fit."""
    saved = read(folder)
    try:
        return _rebuilt(saved)
    except (TypeError, KeyError, ValueError, RuntimeError, AttributeError) as fault:
        message = shown(reason(fault, first_line=True))
        raise UserError(
            f"{folder}: its weights do not fit what model.json says ({message}); restore the folder"
        ) from fault


def _rebuilt(saved: Saved) -> Captioner:
    card, vocabulary, weights, trained, statistics = saved
    transform = Transform(**card.transform)
    encoder = encoders.build(card.encoder, transform=transform, weights=weights)
    decoder = decoders.build(card.decoder, vocabulary, encoder.dim, card.decoder_options)
    decoder.load_state_dict(trained)
    return Captioner(encoders.folded(encoder), decoder.eval(), transform, vocabulary, card, statistics)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as fault:
        raise UserError(f"{path}: not a safetensors file ({reason(fault)})") from None
