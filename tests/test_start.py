"""Training from a trained model: its weights are taken up where they mean the same, and refused in words elsewhere."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioning import decoders
from captioning.captioner import model
from captioning.captioner.cards import Card
from captioning.captioner.model_folders import check_start
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import RetrievalDecoder
from captioning.system.errors import UserError
from captioning.system.files import digest
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.training.network import Network
from captioning.training.warm_start import Start, take_up
from captioning.vision.encoders import backbones, encoders
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.images import Transform
from tests.imports import ROOT
from tests.variants import VARIANTS
from tests.variants import options as options_of

NAME = "squeezenet1_1"
TRANSFORM = backbones.transform_for(NAME, 64, pretrained=False)
VOCABULARY = Vocabulary((*SPECIAL, "ape", "bee"))
COMPUTE = {"portable": True, "threads": 1}
OPTIONS = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 8, "dropout": 0.1}


def encoder(seed: int) -> Encoder:
    return encoders.build(NAME, transform=TRANSFORM, weights={}, seed=seed)


def network(seed: int, trained: bool, **changes: Any) -> Network:
    torch.manual_seed(seed)
    decoder = decoders.build("transformer", VOCABULARY, encoder(0).dim, OPTIONS | changes)
    if not trained:
        return Network(None, decoder)
    training = EncoderTraining(encoder(seed))
    return Network(training, decoder, EncoderHeads(training, VOCABULARY, word_presence=1.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose encoder has seed 1."""
    empty: dict[str, Any] = {}
    card = Card(NAME, "transformer", OPTIONS, asdict(TRANSFORM), empty, COMPUTE, empty, empty)
    decoder = network(1, False).decoder.state_dict()
    model.save(tmp_path / "model", card, encoder(1).body.state_dict(), decoder, VOCABULARY)
    return tmp_path / "model"


def taken(folder: Path, made: Network, frozen: Encoder | None, **changes: Any) -> Start:
    here: dict[str, Any] = {"decoder": "transformer", "options": OPTIONS, "transform": TRANSFORM, "objects": {}}
    return take_up(folder, made, frozen, **{**here, "vocabulary": VOCABULARY, **changes})


@pytest.mark.parametrize("trained", [False, True])
def test_the_weights_are_those_of_the_model(folder: Path, trained: bool) -> None:
    made = network(2, trained, dropout=0.5)  # dropout is the new training's
    start = taken(folder, made, None if trained else encoder(1), options=OPTIONS | {"dropout": 0.5})
    assert start == ({"path": str(folder), "sha256": digest(folder / "model.json")}, 2, 2)
    whole = {f"decoder.{name}": tensor for name, tensor in model.read(folder).decoder.items()}
    if trained:
        whole |= {f"encoder.body.{name}": tensor for name, tensor in model.read(folder).encoder.items()}
    state = made.state_dict()
    assert state.keys() - whole.keys() == ({"heads.presence.weight", "heads.presence.bias"} if trained else set())
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.items())


def test_all_that_differs_is_said_and_nothing_is_taken(folder: Path) -> None:
    made = network(2, False, heads=1)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    other = {
        "options": OPTIONS | {"heads": 1},
        "transform": Transform(**{**asdict(TRANSFORM), "image_size": 32}),
    }
    with pytest.raises(UserError) as caught:
        taken(folder, made, encoder(1), **other)
    said = str(caught.value)
    assert said.startswith(f"train.start = {folder}: ")
    assert "\n" not in said
    for part in (
        "heads (2, here 1)",
        "image_size=64",
        "image_size=32",
    ):
        assert part in said
    with pytest.raises(UserError, match=r"decoder \(transformer, here lstm\)$"):
        taken(folder, made, encoder(1), decoder="lstm", options={"layers": 1})
    assert all(torch.equal(made.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_words_that_both_vocabularies_have_keep_their_rows(tmp_path: Path, variant: str) -> None:
    """Captions of them are as likely as before, but for the words that are new; new words begin as ever."""
    theirs, here = (Vocabulary((*SPECIAL, *words)) for words in (("ape", "bee", "cow"), ("dog", "bee", "ape")))
    name, options = VARIANTS[variant][0], options_of(variant)
    torch.manual_seed(1)
    old = decoders.build(name, theirs, encoder(0).dim, options).eval()
    empty: dict[str, Any] = {}
    card = Card(NAME, name, options, asdict(TRANSFORM), empty, COMPUTE, empty, empty)
    model.save(tmp_path / "model", card, encoder(1).body.state_dict(), old.state_dict(), theirs)
    torch.manual_seed(2)
    made = decoders.build(name, here, encoder(0).dim, options).eval()
    before = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    start = taken(tmp_path / "model", Network(None, made), encoder(1), decoder=name, options=options, vocabulary=here)
    assert (start.known, start.words) == (2, 3)
    said, special = ["ape", "bee", "ape"], [*range(len(SPECIAL))]
    encoded = Encoded(*(torch.randn(1, *size) for size in ((encoder(0).dim,), (4, encoder(0).dim))))
    tokens = [torch.tensor([[vocabulary.special.bos, *vocabulary.encode(said)]]) for vocabulary in (theirs, here)]
    logits = [decoder(encoded, ids, torch.tensor([0])) for decoder, ids in zip((old, made), tokens, strict=True)]
    one, two = (
        found[..., [*special, *vocabulary.encode(said)]]
        for found, vocabulary in zip(logits, (theirs, here), strict=True)
    )
    torch.testing.assert_close(one, two)
    state, dog = made.state_dict(), here.encode(["dog"])
    assert all(torch.equal(state[key][dog], before[key][dog]) for key in made.of_words)
    others = {key: value for key, value in old.state_dict().items() if key not in made.of_words}
    assert all(torch.equal(state[key], value) for key, value in others.items())


def test_a_decoder_without_rows_of_words_keeps_its_vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(2, False)
    monkeypatch.setattr(type(made.decoder), "of_words", RetrievalDecoder.of_words)
    with pytest.raises(UserError, match=r"vocabulary \(6 words, here 5; transformer keeps its own\)"):
        taken(folder, made, encoder(1), vocabulary=Vocabulary((*SPECIAL, "ape")))


def test_a_shipped_model_is_named_by_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        UserError, match=r"train\.start = photographs: no such folder; .* src/captioning/models/shipped/p"
    ):
        check_start(Path("photographs"), encoder=NAME, decoder="lstm")


def test_a_frozen_encoder_must_be_the_one_that_made_the_features(folder: Path) -> None:
    with pytest.raises(UserError, match=r"other weights; set features\.weights to .*/encoder\.safetensors"):
        taken(folder, network(2, False), encoder(2))
    scaled = replace(TRANSFORM, resize=TRANSFORM.resize + 2)
    with pytest.raises(UserError, match=r"images \(Transform"):
        taken(folder, network(2, False), encoder(1), transform=scaled)


def test_a_damaged_model_is_refused(folder: Path) -> None:
    with (folder / "decoder.safetensors").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(UserError, match=r"not the file that model\.json describes"):
        taken(folder, network(2, False), encoder(1))
    with pytest.raises(UserError, match=r"nowhere/model\.json: no such file"):
        taken(folder.parent / "nowhere", network(2, False), encoder(1))
