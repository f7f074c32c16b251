"""Several trained models as one captioner, and the checks that they fit together."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from captioning.captioner import model
from captioning.captioner.model import Captioner
from captioning.captioner.several import Several, check_same, check_vocabularies
from captioning.data.objects import box_head
from captioning.data.objects.detectors import ObjectDetector
from captioning.data.objects.labels import Found
from captioning.data.objects.placing import place, seen
from captioning.data.objects.tables import shown_identity
from captioning.system.errors import UserError
from captioning.vision.encoders.at_boxes import Places
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.encodings import Encode, mirrored_encoder, stored_encoder
from captioning.vision.features.store import FeatureStore

if TYPE_CHECKING:
    from captioning.captioner.several import Placed


class Captioners(Several[Captioner]):
    """Models that torch runs, which may also read images of the feature store."""

    @property
    def detector(self) -> ObjectDetector | None:
        """See `Several.detector`."""
        return next((member.detector for member in self.members if member.detector is not None), None)

    def readers(self, store: FeatureStore, device: torch.device) -> list[Encode]:
        """Each member's encoder output for the store's rows, and for the mirrored images if they are read too.

        Raises UserError where they are, and the store is of features without them.
        """
        views = self._encoders()
        return [_completed(member, view(store, member.encoder, device)) for member in self.members for view in views]

    def _encoders(self) -> tuple[Callable[[FeatureStore, Encoder, torch.device], Encode], ...]:
        return (stored_encoder, mirrored_encoder) if self.mirror else (stored_encoder,)

    def places(self, objects: Sequence[Sequence[Found]], images: Sequence[Image.Image]) -> "list[Placed]":
        """Objects of B images, in pixels → where they are for each member; None if it reads none.

        For a member that reads vectors of the detector, what it reads.
        """
        return [self._placed(member, objects, images) for member in self.members]

    def _placed(
        self, member: Captioner, objects: Sequence[Sequence[Found]], images: Sequence[Image.Image]
    ) -> Places | Encoded | None:
        if not member.card.placed_objects:
            return None
        kind, pairs = member.card.placed_objects["kind"], zip(objects, (image.size for image in images), strict=True)
        placed = place([seen(*pair, member.transform) for pair in pairs], member.vocabulary, kind)
        places = Places(*placed.of(np.arange(len(objects))))
        if member.card.vector_width is None:
            return places
        assert self.detector is not None
        regions = torch.from_numpy(box_head.vectors(self.detector, images, placed.boxes, placed.mask))
        return Encoded(regions[:, 0], regions, *places)


def _completed(member: Captioner, encode: Encode) -> Encode:
    return lambda rows: member.completed(encode(rows))


def load(folders: Sequence[Path], *, mirror: bool = False) -> Captioners:
    """Load model folders. Raises UserError when their vocabularies or objects differ, or a folder is not whole."""
    check_vocabularies(folders)
    captioners = Captioners(tuple(model.load(folder) for folder in folders), mirror)
    _check_one_kind(folders, captioners)
    _check_mirrored(folders, captioners)
    return captioners


def _check_one_kind(folders: Sequence[Path], captioners: Captioners) -> None:
    """Raise UserError, naming both, where two members read objects of different kinds: an image has those of one."""
    for folder, member in zip(folders, captioners.members, strict=True):
        own = member.card.placed_objects
        if own and own != captioners.objects:
            kinds = shown_identity(own), shown_identity(captioners.objects)
            raise UserError(
                f"{folder}: this model reads objects = {kinds[0]}, and another one {kinds[1]}; leave one out"
            )


def _check_mirrored(folders: Sequence[Path], captioners: Captioners) -> None:
    """Raise UserError where mirrored images are read too, by a member that reads a detector's vectors."""
    for folder, member in zip(folders, captioners.members, strict=True):
        if captioners.mirror and member.card.vector_width is not None:
            raise UserError(
                f"{folder}: this model reads {member.card.reads}: vectors of images as they are, not of mirrored ones; "
                "leave --mirror out"
            )


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
        if store.pixels is None and not store.by_no_encoder:
            check_same(folders[0], folder, "encoder.safetensors", "has another encoder than data/features")


def check_objects(folders: Sequence[Path], captioners: Captioners, objects: Mapping[str, str]) -> None:
    """Raise UserError, naming both, unless all were trained on vectors of this kind of objects (`tables.identity`).

    Vectors of another kind are read without any fault, and captions are nonsense.
    """
    for folder, member in zip(folders, captioners.members, strict=True):
        if member.card.placed_objects != objects:
            trained, here = shown_identity(member.card.objects), shown_identity(objects)
            raise UserError(
                f"{folder}: this model was trained with objects = {trained}, and data/objects has {here}; "
                "run `dvc repro`, or leave this model out"
            )
