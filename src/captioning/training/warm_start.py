"""Training that starts from weights of others: a text model's, or a trained model's, if they mean the same here.

V words, here or of the model; H width of a word's row.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captioning.captioner import model
from captioning.data.objects.beside import Beside
from captioning.data.objects.retrieval import Retrieval
from captioning.data.objects.tables import shown_identity
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import Decoder
from captioning.settings import text_models
from captioning.settings.resolve import decoder_options
from captioning.settings.rules import warm_start
from captioning.settings.schema import Settings
from captioning.system.errors import UserError
from captioning.system.files import digest
from captioning.training.network import Network
from captioning.training.phase import Data
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.images import Transform

_FREE = frozenset({"dropout", "doubly_stochastic", "reinforce", "entropy", "sampling"})  # options of training alone


class Start(NamedTuple):
    """Where a training starts: path and sha256 of the model, and how many of the words here it knows."""

    record: dict[str, str]
    known: int
    words: int


def begin(
    settings: Settings,
    network: Network,
    data: Data,
    initial: Encoder,
    objects: dict[str, str],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Load the weights that `vocab.text` and `train.start` name, and return their record in the model's provenance.

    initial: the encoder as it is before training. objects: as of `take_up`. log: is told how many words are known.
    """
    text, folder = _text(settings.vocab.text, network), warm_start(settings.train.start)
    if folder is None:
        return text
    start = take_up(
        folder,
        network,
        None if settings.features.trainable else initial,
        decoder=settings.decoder,
        options=vars(decoder_options(settings)),
        transform=data.store.transform,
        vocabulary=data.vocabulary,
        objects=objects,
        beside=data.beside,
    )
    log(f"train.start = {folder}: {start.known:,} of {start.words:,} words are taken over")
    return text | {"start": start.record}


def _text(named: Path, network: Network) -> dict[str, Any]:
    """Begin with a text model, if the decoder does."""
    folder = text_models.named(named)
    file = network.decoder.read_text_model(folder) if folder else None
    if not (folder and file):
        return {}
    return {"text": {"path": str(folder), "sha256": digest(file), "pieces": digest(folder / text_models.PIECES)}}


def take_up(
    folder: Path,
    network: Network,
    frozen: Encoder | None,
    *,
    decoder: str,
    options: dict[str, Any],
    transform: Transform,
    vocabulary: Vocabulary,
    objects: dict[str, str],
    beside: Beside | None = None,
) -> Start:
    """Load the weights of the model in `folder` into `network`, and return where they are from.

    Its vocabulary may be another one: words that both have keep their rows, and new words begin as ever.
    The digest is that of model.json, which has those of the weights. decoder, options: name and sizes of the network's
    decoder. transform: of the images. objects: whose vectors are read, as `tables.identity` has it. beside: what is
    read beside them. frozen: the encoder that made the stored features, if it is not trained.
    Raises UserError that lists every difference of the model, and what to set.
    """
    saved = model.read(folder)
    encoder = network.encoder or frozen
    assert encoder is not None
    faults = _faults(saved, encoder, decoder, options, transform)
    if not network.decoder.of_words and saved.vocabulary.words != vocabulary.words:
        faults.append(f"vocabulary ({len(saved.vocabulary)} words, here {len(vocabulary)}; {decoder} keeps its own)")
    theirs = saved.card.objects
    if theirs != objects:
        faults.append(f"objects ({shown_identity(theirs)}, here {shown_identity(objects)})")
    if isinstance(beside, Retrieval) and isinstance(saved.beside, Retrieval) and not beside.same_space(saved.beside):
        faults.append("its neighbours have other captions; train from data/weights, or on what it was trained on")
    by_encoder = saved.card.vector_width is None
    if not faults and by_encoder and frozen is not None and not _same(saved.encoder, frozen):
        faults = [f"its encoder has other weights; set features.weights to {folder / 'encoder.safetensors'}"]
    if faults:
        raise UserError(f"train.start = {folder}: not a model that training here can start from: {'; '.join(faults)}")
    if network.encoder is not None:
        network.encoder.body.load_state_dict(saved.encoder)
    network.decoder.load_state_dict(_with_words(saved, network.decoder, vocabulary))
    known = len({*vocabulary.words} & {*saved.vocabulary.words}) - len(SPECIAL)
    record = {"path": str(folder), "sha256": digest(folder / "model.json")}
    return Start(record, known, len(vocabulary) - len(SPECIAL))


def _with_words(saved: model.Saved, decoder: Decoder, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """The saved weights of a decoder, with a row for each word here; those of new words are the decoder's own."""
    if saved.vocabulary.words == vocabulary.words:
        return saved.decoder
    places = {word: row for row, word in enumerate(saved.vocabulary.words)}
    pairs = [(row, places[word]) for row, word in enumerate(vocabulary.words) if word in places]
    here, there = torch.tensor(pairs).unbind(1)
    state = dict(saved.decoder)
    for name in decoder.of_words:
        rows = decoder.state_dict()[name].clone()  # (V, H) or (V,)
        rows[here] = saved.decoder[name][there].to(rows)
        state[name] = rows
    return state


def _faults(
    saved: model.Saved, encoder: Encoder, decoder: str, options: dict[str, Any], transform: Transform
) -> list[str]:
    """In what a saved model differs from what is set here, each with both values."""
    card = saved.card
    compared: dict[str, tuple[Any, Any]] = {"encoder": (card.encoder, encoder.name), "decoder": (card.decoder, decoder)}
    if card.decoder == decoder:
        theirs = card.decoder_options
        compared |= {
            f"decoders.{decoder}.{name}": (theirs.get(name), options.get(name))
            for name in sorted((theirs.keys() | options.keys()) - _FREE)
        }
    if card.encoder == encoder.name:
        compared["images"] = (Transform(**card.transform), transform)
    return [f"{name} ({its}, here {here})" for name, (its, here) in compared.items() if its != here]


def _same(weights: dict[str, torch.Tensor], encoder: Encoder) -> bool:
    own = encoder.body.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[name], tensor) for name, tensor in weights.items())
