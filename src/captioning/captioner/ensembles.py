"""Several trained models as one captioner, and the checks that they fit together."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from captioning.captioner import model
from captioning.captioner.model import Captioner
from captioning.captioner.several import Several, check_same, check_vocabularies
from captioning.system.errors import UserError
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.encodings import Encode, mirrored_encoder, stored_encoder
from captioning.vision.features.store import FeatureStore


class Captioners(Several[Captioner]):
    """Models that torch runs, which may also read images of the feature store."""

    def readers(self, store: FeatureStore, device: torch.device) -> list[Encode]:
        """Each member's encoder output for the store's rows, and for the mirrored images if they are read too.

        Raises UserError where they are, and the store is of features without them.
        """
        return [view(store, member.encoder, device) for member in self.members for view in self._views()]

    def _views(self) -> tuple[Callable[[FeatureStore, Encoder, torch.device], Encode], ...]:
        return (stored_encoder, mirrored_encoder) if self.mirror else (stored_encoder,)


def load(folders: Sequence[Path], *, mirror: bool = False) -> Captioners:
    """Load model folders. Raises UserError when their vocabularies differ, or a folder is not whole."""
    check_vocabularies(folders)
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
            check_same(folders[0], folder, "encoder.safetensors", "has another encoder than data/features")
