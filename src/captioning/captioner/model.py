"""A trained model as one folder on disk, and the captioner that it becomes in memory.

    model/model.json            what rebuilds it: encoder, transform, decoder, settings, digests
    model/encoder.safetensors   the encoder's weights
    model/decoder.safetensors   the decoder's weights
    model/vocab.txt             the vocabulary
    model/statistics.safetensors  statistics of training images, for `unlikeness`; older folders have none
    model/confidence.json       of a released model: how sure a caption is
    model/detector.json, detector.safetensors   what finds the objects that the model reads, if a detector found them
    model/words.json, words.safetensors         what predicts its tags, if they are words
    model/retrieval.json, retrieval.safetensors what finds captions of like images, if it reads those

The encoder has a file of its own: experiments that share a frozen one share its bytes in the DVC cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from captioning import decoders
from captioning.captioner import cards, confidence
from captioning.captioner.cards import CONFIDENCE, DETECTOR, FILES, STATISTICS, Card
from captioning.captioner.confidence import Calibration
from captioning.data.objects import beside, detectors
from captioning.data.objects.beside import Beside
from captioning.data.objects.detectors import ObjectDetector, PublishedDetector
from captioning.data.objects.tables import PUBLISHED
from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import AttendingDecoder, Decoder
from captioning.system.errors import UserError, reason, shown
from captioning.system.files import atomic, write_bytes
from captioning.vision.encoders import encoders
from captioning.vision.encoders.at_boxes import Places
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.encodings import encode_pixels
from captioning.vision.features.unlikeness import KeptStatistics, statistics
from captioning.vision.images import Transform

_RESTORE = "restore the folder"


@dataclass(frozen=True)
class Captioner:
    """Images to captions: encoder, decoder, transform and vocabulary, in eval mode."""

    encoder: Encoder
    decoder: Decoder
    transform: Transform
    vocabulary: Vocabulary
    card: Card
    statistics: KeptStatistics | None = None
    calibration: Calibration | None = None
    detector: ObjectDetector | None = None
    beside: Beside | None = None

    @property
    def attending(self) -> AttendingDecoder | None:
        """The decoder, if it attends to regions."""
        return self.decoder if isinstance(self.decoder, AttendingDecoder) else None

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray, places: Places | Encoded | None = None) -> Encoded:
        """uint8 pixels (B, 3, S, S) → what the decoder reads of them: regions of the grid, or of `places`.

        What a detector has made of the same images stays as it is.
        """
        if isinstance(places, Encoded):
            return places
        return self.completed(encode_pixels(self.encoder, (torch.from_numpy(pixels), *(places or ()))))

    def completed(self, encoded: Encoded) -> Encoded:
        """An encoder's output, with what the decoder reads beside it."""
        return encoded if self.beside is None else self.beside.added(encoded, self.vocabulary)

    def measure(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 pixels (B, 3, S, S) → their statistics (B, K), which `unlikeness` compares."""
        measured: np.ndarray = statistics(torch.from_numpy(pixels)).numpy()
        return measured


def save(
    folder: Path,
    card: Card,
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    vocabulary: Vocabulary,
    statistics: KeptStatistics | None = None,
    calibration: Calibration | None = None,
    detector: Path | None = None,
    beside_encoder: Beside | None = None,
) -> None:
    """Write a model folder; it appears when it is whole. The same model gives the same bytes.

    detector: the folder of what found the objects that the model reads. beside_encoder: what the model reads beside the
    output of its encoder.
    """
    with atomic(folder) as temporary:
        temporary.mkdir()
        write_bytes(temporary / "encoder.safetensors", save_tensors(_plain(encoder)))
        write_bytes(temporary / "decoder.safetensors", save_tensors(_plain(decoder)))
        vocabulary.write(temporary / "vocab.txt")
        if statistics is not None:
            write_bytes(temporary / STATISTICS, save_tensors(_plain(statistics.tensors())))
        if calibration is not None:
            confidence.write(temporary, calibration)
        if detector is not None:
            detectors.bring(detector, temporary)
        more = () if beside_encoder is None else beside.write(temporary, beside_encoder)
        optional: dict[str, object] = {STATISTICS: statistics, CONFIDENCE: calibration}
        optional |= dict.fromkeys(DETECTOR, detector)
        cards.write(temporary, card, (*FILES, *(name for name, part in optional.items() if part is not None), *more))


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}


class Saved(NamedTuple):
    """What a model folder has: card, vocabulary, the weights of both networks, and the rest where there is any."""

    card: Card
    vocabulary: Vocabulary
    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    statistics: KeptStatistics | None
    calibration: Calibration | None
    detector: ObjectDetector | None = None
    beside: Beside | None = None


def read(folder: Path) -> Saved:
    """Read a model's folder.

    Raises UserError when a file is missing, or is not the one that model.json was written with.
    """
    record = cards.read(folder)
    cards.check_files(folder, record)
    encoder, decoder = (_tensors(folder / f"{name}.safetensors") for name in ("encoder", "decoder"))
    statistics = KeptStatistics.of(_tensors(folder / STATISTICS)) if STATISTICS in record.files else None
    calibration = confidence.read(folder) if CONFIDENCE in record.files else None
    detector = detectors.read(folder, _RESTORE) if DETECTOR[0] in record.files else None
    more = beside.read(folder, frozenset(record.files), _RESTORE)
    vocabulary = Vocabulary.read(folder / "vocab.txt")
    return Saved(record.card, vocabulary, encoder, decoder, statistics, calibration, detector, more)


def load(folder: Path) -> Captioner:
    """Rebuild a model from its folder, in eval mode. Raises UserError as `read` does, and when the parts do not fit."""
    saved = read(folder)
    try:
        return _rebuilt(_comparable(saved))
    except (TypeError, KeyError, ValueError, RuntimeError, AttributeError) as fault:
        message = shown(reason(fault, first_line=True))
        raise UserError(
            f"{folder}: its weights do not fit what model.json says ({message}); restore the folder"
        ) from fault


def _comparable(saved: Saved) -> Saved:
    """Without statistics that an older version measured otherwise, and without the confidence that rests on them."""
    kept, side = saved.statistics, saved.card.transform["image_size"]
    if kept is None or kept.are_of(side):
        return saved
    return saved._replace(statistics=None, calibration=None)


def _rebuilt(saved: Saved) -> Captioner:
    card, vocabulary, weights, trained, *_ = saved
    transform = Transform(**card.transform)
    encoder = encoders.build(card.encoder, transform=transform, weights=weights)
    boxed, more = bool(card.placed_objects), saved.beside
    if more is not None and more.dim != encoder.dim:
        raise ValueError(f"{card.objects['kind']} read {more.dim} numbers, and the encoder has {encoder.dim}")
    numbers = (card.vector_width or encoder.dim) + (0 if more is None else more.width)
    by_detector = card.vector_width is not None and card.objects["kind"] != PUBLISHED
    if by_detector and not isinstance(saved.detector, PublishedDetector):
        raise ValueError(f"it reads vectors of {card.reads}, and has no such detector")
    decoder = decoders.build(card.decoder, vocabulary, numbers, card.decoder_options, boxed=boxed)
    decoder.load_state_dict(trained)
    optional = saved.statistics, saved.calibration, saved.detector, more
    return Captioner(encoders.folded(encoder), decoder.eval(), transform, vocabulary, card, *optional)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as fault:
        raise UserError(f"{path}: not a safetensors file ({reason(fault)})") from None
