"""Models that caption together, whatever runs them: torch, or the engine of an exported model.

B images, K statistics of an image, S side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from PIL import Image

from captioning.captioner import cards
from captioning.captioner.cards import Card
from captioning.captioner.confidence import Calibration, Evidence
from captioning.data.text.vocabulary import Vocabulary
from captioning.search import Caption, Ensemble, SearchOptions, Speaker, check_lenders, in_words, n_best
from captioning.system import scripts
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.unlikeness import Detector, KeptStatistics
from captioning.vision.images import Transform

if TYPE_CHECKING:
    from captioning.data.objects.detectors import ObjectDetector
    from captioning.vision.encoders.at_boxes import Places

    Placed = Places | Encoded | None
    """Where the objects of images are, for a member that reads objects, or what its detector has made of them."""


class Member(Protocol):
    """A model: its record, and what it does to images."""

    @property
    def card(self) -> Card:
        """What model.json says."""

    @property
    def transform(self) -> Transform:
        """How an image becomes pixels."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its words."""

    @property
    def statistics(self) -> KeptStatistics | None:
        """Those of its training images, if it keeps them."""

    @property
    def calibration(self) -> Calibration | None:
        """How sure a caption is, if that was fitted."""

    @property
    def decoder(self) -> Speaker[Encoded]:
        """What `search` decodes with."""

    def encode(self, pixels: np.ndarray, places: "Placed" = None, /) -> Encoded:
        """uint8 pixels (B, 3, S, S), and places of objects for a model that reads them → what the decoder reads."""

    def measure(self, pixels: np.ndarray, /) -> np.ndarray:
        """uint8 pixels (B, 3, S, S) → their statistics (B, K)."""


M = TypeVar("M", bound=Member)


@dataclass(frozen=True)
class Several(Generic[M]):
    """Models that share a vocabulary; their probabilities are averaged. Each reads an image by its own transform.

    mirror: each reads the mirrored image too, as if it were one more member (Krizhevsky et al. 2012, section 4.1).
    """

    members: tuple[M, ...]
    mirror: bool = False

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of all members."""
        return self.members[0].vocabulary

    @property
    def decoder(self) -> Ensemble[Encoded]:
        """The members' decoders as one; it reads what `encode` returns."""
        views = 2 if self.mirror else 1
        return Ensemble([member.decoder for member in self.members for _ in range(views)])

    @property
    def roles(self) -> list[str]:
        """What each member does for a caption, in words: see `Ensemble`."""
        lenders = self.decoder.lenders
        lending = [any(member.decoder is lender for lender in lenders) for member in self.members]
        others = "searched" if lending.count(False) == 1 else "probabilities averaged"
        return ["lends captions" if lends else others for lends in lending]

    def check_ranking(self, rank_by: str) -> None:
        """Raise UserError where a member lends captions to others, and these are not ranked by consensus."""
        check_lenders(self.decoder, rank_by)

    @property
    def objects(self) -> dict[str, str]:
        """What kind of objects with boxes a member reads, as `tables.identity` has it; empty where none does."""
        return next((member.card.placed_objects for member in self.members if member.card.placed_objects), {})

    @property
    def detector(self) -> "ObjectDetector | None":
        """What finds these objects in an image, if a member has it."""
        return None

    def pixels(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """An image → uint8 (3, S, S) for each member."""
        return tuple(member.transform.pixels(image) for member in self.members)

    def captions(
        self,
        pixels: Sequence[Any],
        options: SearchOptions,
        keys: Sequence[int],
        places: "Sequence[Placed] | None" = None,
    ) -> list[list[Caption]]:
        """uint8 pixels (B, 3, S, S) for each member → B lists of captions, best first; see `search.n_best` for keys.

        places: of objects, for each member.
        """
        return self.decode(self.encode(pixels, places), options, keys)

    def encode(self, pixels: Sequence[Any], places: "Sequence[Placed] | None" = None) -> list[Encoded]:
        """uint8 pixels (B, 3, S, S) for each member → the features of each member, and of each of its views."""
        there = places or [None] * len(self.members)
        return [
            member.encode(*view)
            for member, own, placed in zip(self.members, map(np.asarray, pixels), there, strict=True)
            for view in self._views(own, placed)
        ]

    def _views(self, pixels: np.ndarray, places: "Placed") -> list[tuple[np.ndarray, "Placed"]]:
        """What a member reads of images (B, 3, S, S), and of the mirrored ones if they are read too."""
        if not self.mirror:
            return [(pixels, places)]
        flipped = np.ascontiguousarray(pixels[:, :, :, ::-1])
        assert not isinstance(places, Encoded)  # `ensembles.load` refuses it
        return [(pixels, places), (flipped, None if places is None else places.mirrored())]

    def decode(self, encoded: Sequence[Encoded], options: SearchOptions, keys: Sequence[int]) -> list[list[Caption]]:
        """What `encode` returned → B lists of captions, best first."""
        hypotheses = n_best(self.decoder, encoded, options, keys)
        return [in_words(self.vocabulary, candidates) for candidates in hypotheses]

    def distances(self, pixels: Sequence[Any]) -> list[float]:
        """uint8 pixels (B, 3, S, S) for each member → how far each image is from the training images, (B,).

        In thresholds: above 1 it is unlike them. The member that is nearest decides; members without statistics of
        training images do not count, and 0 is the answer where no member has any.
        """
        triples = zip(self.members, self._detectors, map(np.asarray, pixels), strict=True)
        measured = [detector.relative(member.measure(own)) for member, detector, own in triples if detector is not None]
        return np.min(measured, axis=0).tolist() if measured else [0.0] * len(pixels[0])

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


def check_vocabularies(folders: Sequence[Path]) -> None:
    """Raise UserError when the models of these folders do not share a vocabulary."""
    first, *others = folders
    for folder in others:
        check_same(
            first, folder, "vocab.txt", "has another vocabulary; train both on the same captions and vocab.min_count"
        )


def check_same(first: Path, folder: Path, name: str, complaint: str) -> None:
    """Raise UserError, with the complaint, unless two model folders have the same file of this name."""
    ours, theirs = (cards.read(path).files[name] for path in (first, folder))
    if ours != theirs:
        raise UserError(f"{folder / name}: not that of {first}: this model {complaint}")
