"""Pretraining: its losses are those of transformers' BERT, what is drawn has its shares, and the phase ends as any."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertForPreTraining

from captioning import decoders
from captioning.captioner import model
from captioning.captioner.cards import Card
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Pieces, Vocabulary
from captioning.decoders.bert import Contrast
from captioning.decoders.oscar import OscarDecoder
from captioning.metrics import score
from captioning.settings.resolve import for_training
from captioning.system.errors import UserError
from captioning.training.network import Network
from captioning.training.pairs import CLASSES, MATCHED, OTHER_CAPTION, OTHER_TAGS, Pairing, Pairs
from captioning.training.phase import Data
from captioning.training.pretraining import Pretrainer
from captioning.training.trainer import Trainer
from captioning.vision.features.places import StoredPlaces
from tests import test_start
from tests.test_oscar import KNOWN, OPTIONS, WIDTH, Published, masked_lm, objects, write
from tests.test_training import KillError, Memory, fitted
from tests.test_training_settings import loaded
from tests.tiny_oscar import OSCAR, data, trainer
from tests.variants import FEATURES

SAID = Pieces((*Pieces.names, "snow", "dog", "##ge", "c", "a", "b"))  # in KNOWN, all of them
HIDDEN = len(SAID)


def published() -> tuple[Published, nn.Linear]:
    """A pretrained Oscar+ whose parts are those of transformers, and what tells its three classes."""
    torch.manual_seed(4)
    bert = BertForPreTraining(masked_lm().config).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    norm = nn.LayerNorm(WIDTH, eps=1e-12)
    nn.init.normal_(norm.weight)
    return Published(bert, nn.Linear(FEATURES + 6, WIDTH), norm), nn.Linear(WIDTH, CLASSES)


def by_transformers(made: Published, read: list[int], tags: list[int], image: int) -> Tensor:
    """What is in the last layer (L, W) of a caption, its tags and `<eos>`, beside the regions of an image, unpadded."""
    row = [KNOWN.index(word) for word in (*SAID.words, "[MASK]")]
    ended = [*tags, SAID.special.eos] if tags else []
    ids = torch.tensor([[row[index] for index in (*read, *ended)]])
    places = torch.tensor([[*range(len(read)), *range(40, 40 + len(ended))]])
    kinds = torch.tensor([[0] * len(read) + [1] * len(ended)])
    text = made.model.bert.embeddings(input_ids=ids, token_type_ids=kinds, position_ids=places)
    encoded = objects()
    assert encoded.mask is not None
    assert encoded.regions is not None
    assert encoded.boxes is not None
    assert made.norm is not None
    x1, y1, x2, y2 = encoded.boxes[image, encoded.mask[image]].unbind(1)
    codes = torch.stack([x1, y1, x2, y2, x2 - x1, y2 - y1], dim=1)
    seen = made.norm(made.regions(torch.cat([encoded.regions[image, encoded.mask[image]], codes], dim=1)))
    x: Tensor = made.model.bert.encoder(torch.cat([text, seen.unsqueeze(0)], dim=1))[0][0]
    return x[: len(read) + len(tags)]


@torch.no_grad()
def test_the_losses_are_those_of_transformers_bert(tmp_path: Path) -> None:
    """Pair by pair, without padding: full attention among what is real; a caption of the second image has no tags."""
    made, classes = published()
    decoder = decoders.build("oscar", SAID, FEATURES, {**OPTIONS, "dropout": 0.0, "image_norm": True}).eval()
    decoder.read_text_model(write(tmp_path / "text", made.state()))
    contrast = Contrast(WIDTH, CLASSES)
    contrast.pooler.load_state_dict(made.model.bert.pooler.dense.state_dict())
    contrast.seq_relationship.load_state_dict(classes.state_dict())
    read = [[1, HIDDEN, 5, 8, 2], [1, 7, HIDDEN, 2, 0], [1, 9, 4, 2, 0]]
    tags, images, kinds = [[5, HIDDEN, 6], [0, 0, 0], [4, 5, 0]], [0, 1, 1], [MATCHED, OTHER_CAPTION, OTHER_TAGS]
    hidden = [[(1, 4), (3, 9), (6, 4)], [(2, 6)], [(2, 8), (6, 7)]]  # places of each, and what was there
    flat = [(8 * row + place, piece) for row, found in enumerate(hidden) for place, piece in found]
    places, pieces = torch.tensor(flat).unbind(1)
    pairs = Pairs(torch.tensor(read), torch.tensor(tags), places, pieces, torch.tensor(kinds))
    network = Network(None, decoder, reads_objects=True, contrast=contrast)
    stored = tuple(part for part in objects() if part is not None)
    losses = Pretrainer(network)(stored, torch.tensor(images), pairs)
    rows = [KNOWN.index(word) for word in SAID.words]
    nats, told = [], []
    for row, found in enumerate(hidden):
        own = [[index for index in part if index] for part in (read[row], tags[row])]
        x = by_transformers(made, *own, images[row])
        at = [place if place < 5 else place - 5 + len(own[0]) for place, _ in found]
        logits = made.model.cls.predictions(x[at])[:, rows]
        nats.append(functional.cross_entropy(logits, torch.tensor([piece for _, piece in found]), reduction="sum"))
        pooled = made.model.bert.pooler(x.unsqueeze(0))
        told.append(functional.cross_entropy(classes(pooled), torch.tensor([kinds[row]])))
    assert [int(mean.size) for mean in losses.values()] == [6, 3]
    torch.testing.assert_close(losses["masked_pieces"].value, sum(nats) / 6, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["contrast"].value, sum(told) / 3, atol=1e-5, rtol=1e-5)


def drawn(images: int, *, tagged: bool) -> tuple[EncodedCaptions, StoredPlaces]:
    """Captions, of which every word tells the image, three an image; and as many tags as the last digit of its row."""
    words = Vocabulary((*SPECIAL, *(f"w{row}" for row in range(images)), "tag"))
    said = [[f"w{row}"] * (2 + caption) for row in range(images) for caption in range(3)]
    tags = np.zeros((images, 9 if tagged else 0), dtype=np.int64)
    for row in range(images if tagged else 0):
        tags[row, : row % 10] = 4 + row
    captions = EncodedCaptions.encode(said, np.repeat(np.arange(images), 3).tolist(), words, 9)
    return captions, StoredPlaces(np.ones((images, 1), bool), np.zeros((images, 1, 4), np.float32), tags)


def pairing(captions: EncodedCaptions, places: StoredPlaces | None, words: int) -> Pairing:
    tags = None if places is None else places.tags
    return Pairing(captions, tags, Vocabulary((*SPECIAL, *(f"w{row}" for row in range(words - 4)))), 7)


def restored(pairs: Pairs) -> Tensor:
    """Captions and tags (C, T + G) with the hidden pieces back in their places."""
    text = torch.cat([pairs.tokens, pairs.tags], dim=1)
    return text.flatten().scatter(0, pairs.places, pairs.pieces).view_as(text)


@pytest.mark.parametrize("tagged", [True, False])
def test_pairs_and_hidden_pieces_have_their_shares(tagged: bool) -> None:
    """Within four standard deviations; what is paired is of the image, or of another one, as the class says."""
    captions, places = drawn(1000, tagged=tagged)
    numbers, special = np.arange(len(captions)), 4
    pairs = pairing(captions, places, 1004).drawn(numbers, 3)
    count = len(numbers)
    shares = torch.bincount(pairs.classes, minlength=CLASSES) / count
    expected = [0.5, 0.25, 0.25] if tagged else [0.5, 0.0, 0.5]
    assert (shares - torch.tensor(expected)).abs().max() < 4 * (0.25 / count) ** 0.5
    text, read = restored(pairs), torch.cat([pairs.tokens, pairs.tags], dim=1)
    own, said = torch.from_numpy(captions.image), pairs.tokens.shape[1]
    assert ((text[:, 1] - special == own) == (pairs.classes != OTHER_CAPTION)).all()
    if tagged:
        has = text[:, said] > 0
        of_own = (text[:, said] - special == own) | (~has & (own % 10 == 0))
        assert of_own[pairs.classes != OTHER_TAGS].all()
        assert not (has & of_own)[pairs.classes == OTHER_TAGS].any()
    words = text >= special
    hidden = torch.zeros(text.numel(), dtype=torch.bool)
    hidden[pairs.places] = True
    hidden = hidden.view_as(text)
    assert not (hidden & ~words).any()
    assert torch.equal(read[~hidden], text[~hidden])
    for kind in set(pairs.classes.tolist()):
        for part in (slice(said), slice(said, None)) if tagged else (slice(said),):
            among = words[pairs.classes == kind, part]
            share = hidden[pairs.classes == kind, part].sum() / among.sum()
            assert abs(share - 0.15) < 4 * (0.15 * 0.85 / among.sum()) ** 0.5
    masked, same = read[hidden] == 1004, read[hidden] == text[hidden]
    for share, often in ((masked, 0.8), (same, 0.1), (~masked & ~same, 0.1)):
        assert abs(share.float().mean() - often) < 4 * (often * (1 - often) / len(pairs.places)) ** 0.5
    assert (read[hidden] >= special).all()


def test_a_pair_depends_on_its_caption_and_epoch_alone_and_validation_on_no_epoch() -> None:
    captions, places = drawn(40, tagged=True)
    made = pairing(captions, places, 44)
    together, alone = made.drawn(np.arange(120), 2), [made.drawn(np.array([number]), 2) for number in range(120)]
    for row, one in enumerate(alone):
        width, more = one.tokens.shape[1], one.tags.shape[1]
        assert torch.equal(together.tokens[row, :width], one.tokens[0])
        assert torch.equal(together.tags[row, :more], one.tags[0])
        assert together.classes[row] == one.classes[0]
    assert len(together.places) == sum(len(one.places) for one in alone)
    assert not torch.equal(made.drawn(np.arange(120), 3).classes, together.classes)
    matched = made.matched(np.arange(120))
    assert matched.classes.tolist() == [MATCHED] * 120
    assert (restored(matched)[:, 1] - 4 == torch.from_numpy(captions.image)).all()
    assert 0 < len(matched.places) < 300


def test_one_image_has_no_other_to_be_compared_with() -> None:
    captions, places = drawn(1, tagged=True)
    with pytest.raises(UserError, match="compares captions of several images, and there is one"):
        pairing(captions, places, 5).drawn(np.arange(3), 0)


def test_stopped_at_any_checkpoint_it_ends_with_the_same_bytes() -> None:
    """In the middle of an epoch of pretraining, between two, and ahead of cross-entropy."""
    memory = Memory()
    whole = trainer(memory)
    progress, told = fitted(whole)
    assert memory.saves > len(progress.history) == 3
    for last in range(1, memory.saves + 1):
        stopped = Memory(last)
        with pytest.raises(KillError):
            fitted(trainer(stopped))
        stopped.last = 10**9
        again = trainer(stopped)
        resumed, retold = fitted(again)
        assert resumed == progress
        assert [row for row, _ in retold] == [row for row, _ in told]
        assert all(torch.equal(again.best[name], tensor) for name, tensor in whole.best.items())


@pytest.fixture(scope="module")
def pretrained() -> Iterator[tuple[Trainer, list[dict[str, Tensor]]]]:
    """Nine epochs of pretraining and one of cross-entropy, and the best state after each."""
    made, kept = trainer(Memory(), pretraining=9, batch_size=8, dropout=0.0), []
    made.fit(lambda *_: kept.append(dict(made.best)))
    return made, kept


def test_it_learns_and_its_best_epoch_is_where_cross_entropy_starts(pretrained: Any) -> None:
    made, kept = pretrained
    *before, captions = made.progress.history
    losses = {
        name: [row[name] for row in before]
        for name in ("train/loss/masked_pieces", "train/loss/contrast", "val/loss/masked_pieces")
    }
    assert losses["val/loss/masked_pieces"][-1] < 0.8 * losses["val/loss/masked_pieces"][0]
    assert losses["train/loss/contrast"][-1] < losses["train/loss/contrast"][0]
    assert "train/gradient_norm/contrast" in before[0]
    assert captions.keys() & losses.keys() == set()
    assert "train/gradient_norm/contrast" not in captions
    assert "val/bleu_1" in captions
    assert made.progress.best_epoch == len(before)
    lowest = int(np.argmin(losses["val/loss/masked_pieces"]))
    assert all(torch.equal(kept[-2][name], kept[lowest][name]) for name in kept[-2])
    told = [name for name in kept[-1] if name.startswith("contrast.")]
    assert len(told) == 4
    assert all(torch.equal(kept[-1][name], kept[-2][name]) for name in told)
    changed = "decoder.bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(kept[-1][changed], kept[-2][changed])


def test_the_epoch_with_the_lowest_loss_is_kept_and_patience_waits_for_a_lower_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, losses = trainer(Memory(), pretraining=30, patience=2, epochs=0), iter([2.0, 1.0, 1.5, 1.0])
    monkeypatch.setattr(made.phase, "validate", lambda _: ({"val/loss/masked_pieces": next(losses)}, []))
    assert len(fitted(made)[0].history) == 4
    assert made.progress.best_epoch == 1


@pytest.mark.parametrize("pixels", [False, True])
def test_every_weight_that_it_trains_has_a_gradient(pixels: bool) -> None:
    """Several processes wait for each of them; the head is of no other phase."""
    made = trainer(Memory(), pixels=pixels)
    head = made.network.contrast
    assert head is not None
    made.phase.prepare(0)
    losses = made.phase.losses(made.wrapped, made.phase.plan(0)[0], 0)
    made.fabric.backward(sum(mean.value for mean in losses.minimised.values()))
    waited = {name: tensor for name, tensor in made.phase.module.named_parameters() if tensor.requires_grad}
    assert {name.split(".")[0] for name in waited} == {"decoder", "contrast"}
    assert [name for name, tensor in waited.items() if tensor.grad is None] == []
    made.phase.leave(made.network)
    assert not any(tensor.requires_grad for tensor in head.parameters())
    made.phases[1].enter(made.network)
    assert not any(tensor.requires_grad for tensor in head.parameters())


def test_a_trained_encoder_is_frozen_in_it_and_goes_on_after_it() -> None:
    """Without objects, so without tags, too."""
    made = trainer(Memory(), pixels=True, epochs=0)
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    history = fitted(made)[0].history
    same = {name for name, tensor in made.network.state_dict().items() if torch.equal(tensor, before[name])}
    assert {name for name in before if name.startswith("encoder.")} <= same
    assert "decoder.bert.img_embedding.weight" not in same
    assert "train/gradient_norm/encoder" not in history[0]
    whole = fitted(trainer(Memory(), pixels=True))[0].history
    assert ["train/gradient_norm/encoder" in row for row in whole] == [False, False, True]


def another(read: Data) -> Data:
    """The same with another vocabulary: no dog, but a cow, and all words in another order."""
    words = tuple("cow" if word == "dog" else word for word in reversed(read.vocabulary.words[4:]))
    vocabulary = Vocabulary((*SPECIAL, *words))

    def ids(tokens: np.ndarray) -> list[str]:
        return read.vocabulary.decode(tokens.tolist()).replace("dog", "cow").split()

    train, val = (
        EncodedCaptions.encode(
            [ids(captions.caption(index)) for index in range(len(captions))], captions.image.tolist(), vocabulary, 5
        )
        for captions in (read.train, read.val)
    )
    store: Any = read.store
    tags = np.array([vocabulary.encode(ids(row)) for row in store.places.tags])
    store.places = store.places._replace(tags=tags)
    said = {row: [" ".join(ids(val.caption(3 * index)))] for index, row in enumerate(read.val_ids)}
    return Data(
        train, val, store, read.val_rows, read.val_ids, lambda captions: score(said, captions).corpus, vocabulary
    )


def test_a_training_on_another_data_set_starts_from_what_was_pretrained(pretrained: Any, tmp_path: Path) -> None:
    first, _ = pretrained
    decoder = first.network.decoder
    assert isinstance(decoder, OscarDecoder)
    first.network.load_state_dict(first.best)
    empty: dict[str, Any] = {}
    options = OSCAR | {"dropout": 0.1}
    transform = asdict(test_start.TRANSFORM)
    card = Card(test_start.NAME, "oscar", options, transform, empty, test_start.COMPUTE, empty, empty)
    encoder = test_start.encoder(1)
    model.save(tmp_path / "model", card, encoder.body.state_dict(), decoder.state_dict(), first.data.vocabulary)
    losses = []
    for started in (True, False):
        second = trainer(Memory(), another(data(False)), pretraining=0)
        assert second.network.decoder.state_dict().keys() == model.read(tmp_path / "model").decoder.keys()
        if started:
            given = {"decoder": "oscar", "options": options, "vocabulary": second.data.vocabulary}
            start = test_start.taken(tmp_path / "model", second.network, encoder, **given)
            assert (start.known, start.words) == (7, 8)
        losses.append(fitted(second)[0].history[0]["val/loss/caption"])
    assert losses[0] < 0.8 * losses[1]


def test_other_decoders_are_not_pretrained_and_no_model_is_only_pretrained() -> None:
    """Each in one line, before any stage runs; without the phase, settings are recorded as if there were none."""
    wanted = {"train.pretraining.epochs": 2}
    for changes, said in (
        ({}, "train.pretraining.epochs = 2: the decoder transformer has no pretraining; write 0, or oscar as decoder"),
        ({"decoder": "oscar", "train.epochs": 0}, "train.epochs = 0: a model that is only pretrained cannot caption"),
        (
            {"decoder": "oscar", "train.epochs": 0, "train.start": "model", "train.self_critical.epochs": 1},
            "train.epochs = 0: a model that is only pretrained cannot caption",
        ),
    ):
        with pytest.raises(UserError) as caught:
            loaded(wanted, changes)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert for_training(loaded(wanted, {"decoder": "oscar"}))["train"]["pretraining"] == {"epochs": 2}
    assert "pretraining" not in for_training(loaded({"decoder": "oscar"}))["train"]
