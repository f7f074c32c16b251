"""Free-running captions for many images: what `train` validates with, and what `evaluate` scores."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric

from captioning.captioner.several import Several
from captioning.data.text.vocabulary import Vocabulary
from captioning.search import Caption, SearchOptions, Speaker, in_words, n_best
from captioning.system import distributed
from captioning.vision.features.encodings import Encode

T = TypeVar("T")


@torch.inference_mode()
def decode_rows(
    encode: Callable[[np.ndarray], T],
    decoder: Speaker[T],
    vocabulary: Vocabulary,
    rows: np.ndarray,
    options: SearchOptions,
    batch_size: int,
    fabric: Fabric,
) -> list[list[Caption]]:
    """Captions for each of `rows`, best first, searched `batch_size` images at a time; processes take batches in turns.

    No caption is fed back to the decoder but its own words: there is no teacher forcing here.
    """
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    captions = [
        [in_words(vocabulary, hypotheses) for hypotheses in n_best(decoder, encode(batch), options, batch.tolist())]
        for batch in batches[fabric.global_rank :: fabric.world_size]
    ]
    gathered = distributed.gather(fabric, captions)
    turns = (divmod(index, fabric.world_size) for index in range(len(batches)))
    return [[Caption(*caption) for caption in best] for turn, rank in turns for best in gathered[rank][turn]]


def captions_of_rows(
    captioners: Several[Any],
    readers: Sequence[Encode],
    rows: np.ndarray,
    options: SearchOptions,
    batch_size: int,
    fabric: Fabric,
) -> list[list[Caption]]:
    """Captions of rows of the feature store, as `decode_rows` has them. readers: what `Captioners.readers` returned."""
    return decode_rows(
        lambda batch: [read(batch) for read in readers],
        captioners.decoder,
        captioners.vocabulary,
        rows,
        options,
        batch_size,
        fabric,
    )
