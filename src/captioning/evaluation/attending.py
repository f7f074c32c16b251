"""Where a decoder looked at each word of a caption: at the regions of a grid, or at those of objects.

B images, H, W rows and columns of the region grid, R regions, T words.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from captioning.captioner.model import Captioner
from captioning.system import scripts
from captioning.vision.encoders.encoded import Encoded


class Attended(NamedTuple):
    """The words of a caption with `<eos>`, and where the decoder looked when it chose each: sums of 1.

    The weights of a grid are (T, H, W); with captions of neighbours, whose share is left out, their sums are below 1.
    Those of objects are (T, R), and boxes (R, 4) are where they are, as shares of what the encoder sees; the first is
    the whole image.
    """

    words: tuple[str, ...]
    weights: np.ndarray
    boxes: np.ndarray | None = None


def refusal(captioner: Captioner) -> str | None:
    """Why there is nothing to draw for this model, in words; None where there is."""
    if captioner.attending is None:
        return f"the decoder {captioner.card.decoder} does not attend to regions, so it has no attention to draw"
    if captioner.encoder.grid is None and captioner.card.vector_width is None:
        return f"the regions of the encoder {captioner.card.encoder} form no grid, so attention cannot be laid on them"
    return None


def attend(captioner: Captioner, encoded: Encoded, caption: str) -> Attended:
    """The attention over one image, `encoded`, by one teacher-forced pass over the caption that was found for it.

    The model must be one that `refusal` has nothing against.
    """
    return attend_all(captioner, encoded, [caption])[0]


@torch.inference_mode()
def attend_all(captioner: Captioner, encoded: Encoded, captions: Sequence[str]) -> list[Attended]:
    """As `attend`, for B images, `encoded`, each with its caption."""
    decoder, vocabulary = captioner.attending, captioner.vocabulary
    assert decoder is not None
    ids = [vocabulary.encode(scripts.split(caption)) for caption in captions]
    rows = [torch.tensor([vocabulary.special.bos, *own]) for own in ids]
    tokens = pad_sequence(rows, batch_first=True, padding_value=vocabulary.special.pad).to(encoded.mean.device)
    weights = decoder.attention(encoded, tokens, torch.arange(len(tokens), device=tokens.device)).float().cpu()
    return [_of_words(captioner, encoded, image, own, weights[image]) for image, own in enumerate(ids)]


def _of_words(captioner: Captioner, encoded: Encoded, image: int, ids: list[int], weights: torch.Tensor) -> Attended:
    """Weights of tokens (T', R) → of the words that they spell."""
    vocabulary = captioner.vocabulary
    spans = [*vocabulary.spans(ids), (vocabulary.text(vocabulary.special.eos), [len(ids)])]
    words = tuple(word for word, _ in spans)
    of_words = torch.stack([weights[places].mean(0) for _, places in spans]).numpy()  # (T, R)
    if encoded.boxes is None or encoded.mask is None:
        grid = captioner.encoder.grid
        assert grid is not None
        return Attended(words, of_words[:, : math.prod(grid)].reshape(-1, *grid))
    there = encoded.mask[image].cpu().numpy()
    return Attended(words, of_words[:, there], encoded.boxes[image].float().cpu().numpy()[there])
