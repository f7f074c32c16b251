"""Several trained models as one captioner, and the checks that they fit together.

B images, S side in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioning.captioner import cards, model
from captioning.captioner.confidence import Evidence
from captioning.captioner.model import Captioner
from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.ensemble import Ensemble
from captioning.search import Caption, SearchOptions, in_words, n_best
from captioning.system import scripts
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded, of_regions
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.encodings import Encode, mirrored_encoder, mirrored_pixels, stored_encoder
from captioning.vision.features.store import FeatureStore
from captioning.vision.features.unlikeness import Detector, statistics


@dataclass(frozen=True)
class Captioners:
    """Models that share a vocabulary; their probabilities are averaged. Each reads an image by its own transform.

    mirror: each reads the mirrored image too, as if it were one more member (Krizhevsky et al. 2012, section 4.1).
    """

    members: tuple[Captioner, ...]
    mirror: bool = False

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of all members."""
        return self.members[0].vocabulary

    @property
    def decoder(self) -> Ensemble:
        """The members' decoders as one; it reads the output of `readers`, in their order."""
        views = len(self._views())
        return Ensemble([member.decoder for member in self.members for _ in range(views)])

    def readers(self, store: FeatureStore, device: torch.device) -> list[Encode]:
        """Each member's encoder output for the store's rows, and for the mirrored images if they are read too.

        Raises UserError where they are, and the store is of features without them.
        """
        return [view(store, member.encoder, device) for member in self.members for view in self._views()]

    def _views(self) -> tuple[Callable[[FeatureStore, Encoder, torch.device], Encode], ...]:
        return (stored_encoder, mirrored_encoder) if self.mirror else (stored_encoder,)

    def pixels(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """An image → uint8 (3, S, S) for each member."""
        return tuple(member.transform.pixels(image) for member in self.members)

    def captions(self, pixels: Sequence[Tensor], options: SearchOptions, keys: Sequence[int]) -> list[list[Caption]]:
        """uint8 pixels (B, 3, S, S) for each member → B lists of captions, best first; see `search.n_best` for keys."""
        return self.decode(self.encode(pixels), options, keys)

    @torch.inference_mode()
    def encode(self, pixels: Sequence[Tensor]) -> list[Encoded]:
        """uint8 pixels (B, 3, S, S) for each member → the features of each member, and of each of its views."""
        views = (pixels, mirrored_pixels(pixels)) if self.mirror else (pixels,)
        seen = zip(self.members, *views, strict=True)
        regions = [member.encoder(own) for member, *each in seen for own in each]  # (B, R, D) each
        return [of_regions(part) for part in regions]

    @torch.inference_mode()
    def decode(self, encoded: Sequence[Encoded], options: SearchOptions, keys: Sequence[int]) -> list[list[Caption]]:
        """What `encode` returned → B lists of captions, best first."""
        hypotheses = n_best(self.decoder, encoded, options, keys)
        return [in_words(self.vocabulary, candidates) for candidates in hypotheses]

    def distances(self, pixels: Sequence[Tensor]) -> list[float]:
        """uint8 pixels (B, 3, S, S) for each member → how far each image is from the training images, (B,).

        In thresholds: above 1 it is unlike them. The member that is nearest decides; members without statistics of
        training images do not count, and 0 is the answer where no member has any.
        """
        pairs = zip(self._detectors, pixels, strict=True)
        measured = [detector.relative(statistics(own)) for detector, own in pairs if detector is not None]
        return torch.stack(measured).amin(0).tolist() if measured else [0.0] * len(pixels[0])

    def confidences(self, captions: Sequence[Caption], distance: float) -> list[float | None]:
        """How likely it is that each caption of an image is acceptable: of a single model that is calibrated.

        None for each caption of several models, or of a model without calibration. distance: see `distances`.
        """
        calibration = self.members[0].calibration
        if calibration is None or len(self.members) > 1:
            return [None] * len(captions)
        known = [Evidence(one.log_probability, len(scripts.split(one.text)), distance) for one in captions]
        return [calibration.confidence(evidence) for evidence in known]

    @cached_property
    def _detectors(self) -> list[Detector | None]:
        return [None if member.statistics is None else Detector(member.statistics) for member in self.members]


def load(folders: Sequence[Path], *, mirror: bool = False) -> Captioners:
    """Load model folders. Raises UserError when their vocabularies differ, or a folder is not whole."""
    first, *others = folders
    for folder in others:
        _same(first, folder, "vocab.txt", "has another vocabulary; train both on the same captions and vocab.min_count")
    return Captioners(tuple(model.load(folder) for folder in folders), mirror)


def check_store(folders: Sequence[Path], captioners: Captioners, store: FeatureStore) -> None:
    """Raise UserError unless all can read the feature store, which the first model was trained on.

    Stored pixels are of one transform, stored features of one encoder too.
    """
    for folder, member in zip(folders[1:], captioners.members[1:], strict=True):
        if member.transform != store.transform:
            raise UserError(
                f"evaluate.ensemble: {folder}: has another image transform than data/features ({member.transform}, "
                f"not {store.transform}); use `captioning predict` with several --model"
            )
        if store.pixels is None:
            _same(folders[0], folder, "encoder.safetensors", "has another encoder than data/features")


def _same(first: Path, folder: Path, name: str, complaint: str) -> None:
    ours, theirs = (cards.read(path).files[name] for path in (first, folder))
    if ours != theirs:
        raise UserError(f"{folder / name}: not that of {first}: this model {complaint}")
