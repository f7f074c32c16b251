"""Training that starts from a trained model: its weights, once it is sure that they mean the same here."""

from pathlib import Path
from typing import Any

import torch

from captioning.captioner import model
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError
from captioning.system.files import digest
from captioning.training.network import Network
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.images import Transform

_FREE = frozenset({"dropout", "doubly_stochastic", "reinforce", "entropy", "sampling"})  # options of training alone


def take_up(
    folder: Path,
    network: Network,
    frozen: Encoder | None,
    *,
    decoder: str,
    options: dict[str, Any],
    transform: Transform,
    vocabulary: Vocabulary,
) -> dict[str, str]:
    """Load the weights of the model in `folder` into `network`, and return where they are from: path and sha256.

    The digest is that of model.json, which has those of the weights. decoder, options: name and sizes of the network's
    decoder. transform: of the images. frozen: the encoder that made the stored features, if it is not trained.
    Raises UserError that lists every difference of the model, and what to set.
    """
    saved = model.read(folder)
    encoder = network.encoder or frozen
    assert encoder is not None
    faults = _faults(saved, encoder, decoder, options, transform, vocabulary)
    if not faults and frozen is not None and not _same(saved.encoder, frozen):
        faults = [f"its encoder has other weights; set features.weights to {folder / 'encoder.safetensors'}"]
    if faults:
        raise UserError(f"train.start = {folder}: not a model that training here can start from: {'; '.join(faults)}")
    if network.encoder is not None:
        network.encoder.body.load_state_dict(saved.encoder)
    network.decoder.load_state_dict(saved.decoder)
    return {"path": str(folder), "sha256": digest(folder / "model.json")}


def _faults(
    saved: model.Saved,
    encoder: Encoder,
    decoder: str,
    options: dict[str, Any],
    transform: Transform,
    vocabulary: Vocabulary,
) -> list[str]:
    """In what a saved model differs from what is set here, each with both values."""
    card, faults = saved.card, []
    if saved.vocabulary.words != vocabulary.words:
        pairs = zip((*saved.vocabulary.words, None), (*vocabulary.words, None), strict=False)
        line, (its, here) = next((line, pair) for line, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
        faults.append(f"vocabulary ({len(saved.vocabulary)} words, here {len(vocabulary)}; line {line}: {its}, {here})")
    compared: dict[str, tuple[Any, Any]] = {"encoder": (card.encoder, encoder.name), "decoder": (card.decoder, decoder)}
    if card.decoder == decoder:
        theirs = card.decoder_options
        compared |= {
            f"decoders.{decoder}.{name}": (theirs.get(name), options.get(name))
            for name in sorted((theirs.keys() | options.keys()) - _FREE)
        }
    if card.encoder == encoder.name:
        compared["images"] = (Transform(**card.transform), transform)
    return faults + [f"{name} ({its}, here {here})" for name, (its, here) in compared.items() if its != here]


def _same(weights: dict[str, torch.Tensor], encoder: Encoder) -> bool:
    own = encoder.body.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[name], tensor) for name, tensor in weights.items())
