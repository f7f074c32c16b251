"""Tags that are words: from what they are predicted, and that a model has them of an image by itself."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captioning import decoders
from captioning.captioner import cards, ensembles, model
from captioning.captioner.cards import Card
from captioning.data.objects import words
from captioning.data.objects.tables import WORDS
from captioning.data.objects.words import WordTagger, chosen, token_rows
from captioning.data.runtimes.registry import Kind
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Pieces, Vocabulary
from captioning.engines import folders
from captioning.evaluation import attending
from captioning.settings import resolve
from captioning.system.errors import UserError
from captioning.training import pretraining, word_scores, word_tags
from captioning.training.network import Network
from captioning.training.warm_start import take_up
from captioning.training.word_tags import FOLDS, Fitted
from captioning.vision.encoders import backbones, encoders
from captioning.vision.features import encodings
from captioning.vision.features.store import Sharded
from tests.imports import ROOT
from tests.special import PAD
from tests.variants import captions, images, options

IMAGES, WIDTH, SHOWING = 60, 90, 30  # more features than images: a regression can know each image by heart
HEART = (1e-4,)  # a penalty that does not keep it from that
UNIQUE = dict(zip(range(0, 50, 7), "bcdefghj", strict=True))  # training images that alone have a word
VOCABULARY = Vocabulary((*SPECIAL, "a", "dog", "cat", *UNIQUE.values()))
NAME = "squeezenet1_1"
TRANSFORM = backbones.transform_for(NAME, 64, pretrained=False)
OPTIONS = options("oscar", width=8, image_norm=False)


def store(seed: int = 0, *, mirrored: bool = False) -> Any:
    """Means of images; the first features show whether there is a dog. Those of mirrored images show the opposite."""
    means = np.random.default_rng(seed).normal(size=(IMAGES, WIDTH)).astype(np.float16)
    means[:, :SHOWING] = np.where(dogs(), 4, -4)[:, None]
    twins = np.where(np.arange(WIDTH) < SHOWING, -means, means)
    parts = [Sharded([array[:25], array[25:50], array[50:]], 25) for array in (means, twins, means[:, None])]
    return SimpleNamespace(
        ids=[str(row) for row in range(IMAGES)],
        means=parts[0],
        regions=parts[2],
        mirrored_means=parts[1] if mirrored else None,
        mirrored_regions=parts[2] if mirrored else None,
        places=None,
        tags=None,
        neighbours=None,
    )


def dogs() -> np.ndarray:
    """Which images have a dog; the others have a cat."""
    return np.arange(IMAGES) % 3 == 0


def said(rows: range) -> EncodedCaptions:
    """Two captions of each image: one of the dog or the cat, and one of a word of its own, if it has one."""
    listed = [["a", "dog" if dogs()[row] else "cat"] for row in rows]
    own = [["a", UNIQUE[row]] if row in UNIQUE else ["a"] for row in rows]
    return EncodedCaptions.encode([*listed, *own], [*rows, *rows], VOCABULARY, 30)


TRAIN, VAL = said(range(50)), said(range(50, IMAGES))


def fitted(seed: int = 0, *, mirrored: bool = False) -> Fitted:
    return word_tags.fit(store(seed, mirrored=mirrored), TRAIN, VAL, VOCABULARY)


def named(tags: np.ndarray) -> list[list[str]]:
    """Tokens of images (N, L) → their words."""
    return [[VOCABULARY.words[index] for index in row if index != PAD] for row in tags.tolist()]


def tagger(least: float = 0.0) -> WordTagger:
    """One that finds a dog in every image, and a cat and an unknown word with a probability of `least`."""
    width = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1).dim
    return WordTagger(["dog", "cat", "gnu"], torch.zeros(width, 3), torch.tensor([0.9, least, least]), {"images": 3})


def test_a_training_image_has_no_tag_from_its_own_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that one image has is known by heart where all are seen, and by no classifier of the other folds."""
    monkeypatch.setattr(word_tags, "PENALTIES", HEART)
    found = fitted()
    leaked = found.tagger.tags(torch.from_numpy(store().means[np.array([*UNIQUE])]))
    assert all(word in tags for word, tags in zip(UNIQUE.values(), leaked, strict=True))
    crossed = named(found.tags[0])
    assert any(crossed)
    assert not any(word in crossed[row] for row, word in UNIQUE.items())


def test_what_features_show_comes_back_in_training_and_in_new_images() -> None:
    tags = named(fitted().tags[0])
    assert [row[0] for row in tags] == ["dog" if dog else "cat" for dog in dogs()]
    scores = fitted().tagger.record["scores"]
    assert scores["val"]["precision"] == scores["train"]["precision"] == 1
    assert scores["val"]["average_precision"] == 1
    assert scores["floor"]["average_precision"] < 1


def test_a_function_word_is_no_tag_and_the_commonest_words_come_first() -> None:
    assert word_tags.common_words(word_tags.captions_of_images(TRAIN, VOCABULARY)) == ["cat", "dog", *UNIQUE.values()]


def test_the_tags_of_a_fold_are_those_of_a_regression_over_the_others() -> None:
    """Held against the normal equations of these images, with features scaled to a variance of 1."""
    spoken = word_tags.captions_of_images(TRAIN, VOCABULARY)
    rows, truth = np.arange(50), word_tags.presence(spoken, ["dog", "cat"])
    folds = word_tags.sums_of_folds(store().means, rows, truth)
    whole = folds[0].plus(folds[1]).plus(folds[2]).plus(folds[3]).plus(folds[4])
    seen = word_tags.fold_numbers(50) != 2
    x, y = torch.from_numpy(store().means[rows[seen]]).double(), truth[torch.from_numpy(seen)].double()
    deviation, mean = torch.std_mean(x, 0, correction=0)
    z = (x - mean) / deviation
    weight = torch.linalg.solve(z.T @ z + 30 * torch.eye(WIDTH).double(), z.T @ (y - y.mean(0)))
    solution = whole.less(folds[2]).solved(30.0)
    torch.testing.assert_close(solution[:-1] * deviation.unsqueeze(1), weight, atol=1e-6, rtol=1e-6)
    unseen = torch.from_numpy(store().means[rows[~seen]]).double()
    predicted = (unseen - mean) / deviation @ weight + y.mean(0)
    expected = (predicted - truth[torch.from_numpy(~seen)].double()).square().sum()
    assert folds[2].error(solution) == pytest.approx(float(expected), rel=1e-5)


def test_the_same_data_give_the_same_bytes_and_are_read_back(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        words.write(tmp_path / name, fitted().tagger)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert one.keys() == {*words.FILES} <= {*cards.BESIDE}
    back, means = words.read(tmp_path / "one", "restore it"), torch.from_numpy(store(1).means[np.arange(IMAGES)])
    assert back.tags(means) == fitted().tagger.tags(means)
    assert (back.words, back.record) == (fitted().tagger.words, fitted().tagger.record)


def test_one_image_and_few_images_can_be_fitted() -> None:
    found = word_tags.fit(store(), said(range(1)), VAL, VOCABULARY)
    assert named(found.tags[0])[0] == []
    assert len(named(word_tags.fit(store(), said(range(FOLDS - 2)), VAL, VOCABULARY).tags[0])) == IMAGES


def test_pretraining_reads_the_words_of_the_images_as_they_are() -> None:
    there = store(mirrored=True)
    assert pretraining.stored_tags(there) is None
    there.tags = word_tags.fit(there, TRAIN, VAL, VOCABULARY).tags
    found = pretraining.stored_tags(there)
    assert found is not None
    assert [row[0] for row in named(found)] == ["dog" if dog else "cat" for dog in dogs()]


def test_mirrored_images_have_the_tags_of_their_own_features() -> None:
    there = store(mirrored=True)
    there.tags = word_tags.fit(there, TRAIN, VAL, VOCABULARY).tags
    rows, mirrored = np.array([3, 4, 51, 4]), np.array([True, False, True, True])
    upright = encodings.encode_features(encodings.stored_features(there, rows)).tags
    drawn = encodings.encode_features(encodings.drawn_features(there, rows, mirrored)).tags
    assert upright is not None
    assert drawn is not None
    assert [row[0] for row in named(upright.numpy())] == ["dog", "cat", "dog", "cat"]
    assert [row[0] for row in named(drawn.numpy())] == ["cat", "cat", "cat", "dog"]


def test_tags_are_sure_words_the_surest_first_and_at_most_ten() -> None:
    names = [f"w{index}" for index in range(12)]
    likely = torch.tensor([[0.31] * 11 + [0.9], [0.1, 0.5, 0.29, 0.5, *[0.0] * 8], [0.2] * 12])
    assert chosen(likely, names) == [["w11", *names[:9]], ["w1", "w3"], []]


def test_a_word_of_several_pieces_stays_whole_and_one_that_cannot_be_spelt_is_left_out() -> None:
    pieces = Pieces((*Pieces.names, "snow", "##board", "##er", "dog"))
    snowboarder, dog = [4, 5, 6], [7]
    assert token_rows([["snowboarder", "gnu", "dog"], [], ["dog"]], pieces).tolist() == [
        [*snowboarder, *dog],
        [PAD] * 4,
        [*dog, *[PAD] * 3],
    ]
    many = token_rows([["dog", *["snowboarder"] * 10, "dog"]], pieces)
    assert many.tolist() == [[*dog, *snowboarder * 9]]  # of 29 tokens 28: the tenth would be cut
    assert token_rows([[], []], pieces).shape == (2, 0)


def test_scores_are_those_counted_by_hand() -> None:
    likely = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.1], [0.1, 0.2, 0.0]])
    truth = torch.tensor([[True, False, False], [True, True, False], [False, False, False]])
    measured = word_scores.measure(likely, truth)
    assert measured == {
        "words": 1.0,
        "precision_at_5": round(3 / 9, 4),  # three words an image, since there are no five
        "recall_at_5": 1.0,
        "average_precision": 0.75,  # 1 for the first word; 1/2 for the second one, which comes second
        "tags": 1.0,
        "without": round(1 / 3, 4),
        "precision": round(2 / 3, 4),
        "recall": round(2 / 3, 4),
    }


def logits(tags: Tensor | None) -> Tensor:
    """Those of an oscar, for two images with these tags."""
    torch.manual_seed(3)
    decoder = decoders.build("oscar", VOCABULARY, images(1).mean.shape[1], OPTIONS).eval()
    owner = torch.tensor([0, 1])
    found: Tensor = decoder(images(2)._replace(tags=tags), captions(2, 4) % len(VOCABULARY), owner)
    return found


def test_tags_change_what_oscar_says_and_an_image_without_any_is_as_before() -> None:
    without, tags = logits(None), torch.tensor([[5, 6], [PAD, PAD]])
    assert (logits(tags)[0] - without[0]).abs().max() > 1e-3
    torch.testing.assert_close(logits(tags)[1], without[1])
    assert (logits(tags.flip(1))[0] - logits(tags)[0]).abs().max() > 1e-4  # their order counts


def saved(folder: Path, found: WordTagger | None, kind: dict[str, str]) -> Path:
    """A model of a tiny oscar."""
    encoder = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1)
    torch.manual_seed(1)
    decoder = decoders.build("oscar", VOCABULARY, encoder.dim, OPTIONS)
    provenance = {"objects": kind} if kind else {}
    compute = {"portable": True, "threads": 1}
    card = Card(NAME, "oscar", OPTIONS, asdict(TRANSFORM), {}, compute, provenance, {})
    states = encoder.body.state_dict(), decoder.state_dict()
    model.save(folder, card, *states, VOCABULARY, beside_encoder=found)
    return folder


def test_the_folder_of_a_model_is_enough_for_the_tags_of_an_image(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", tagger(0.5), WORDS)
    captioners = ensembles.load([folder], mirror=True)
    member = captioners.members[0]
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64)).astype(np.uint8)
    upright, flipped = captioners.encode([pixels])
    for encoded in (upright, flipped):
        assert encoded.tags is not None
        assert named(encoded.tags.numpy()) == [["dog", "cat"]] * 2  # and no gnu, which it cannot say
        assert encoded.boxes is None
    means, regions = (Sharded([np.ones((2, *shape, member.encoder.dim), np.float16)], 2) for shape in ((), (3,)))
    parts = {"means": means, "regions": regions, "mirrored_means": means, "mirrored_regions": regions}
    kept: Any = SimpleNamespace(**parts, pixels=None, places=None, tags=None, neighbours=None)
    readers = captioners.readers(kept, torch.device("cpu"))
    assert len(readers) == 2
    for read in readers:  # of `evaluate`
        tags = read(np.array([1, 0])).tags
        assert tags is not None
        assert named(tags.numpy()) == [["dog", "cat"]] * 2
    assert captioners.objects == {}  # nothing must be given with an image
    assert attending.refusal(member) is None
    record = cards.read(folder)
    assert record.card.objects["kind"] == "words"
    assert record.files.keys() >= {*words.FILES}
    with pytest.raises(UserError, match=r"reads objects = words \(.*\), which graphs do not have"):
        folders.write(folder, tmp_path / "exported", Kind.onnx)


def test_a_damaged_classifier_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", tagger(), WORDS)
    whole = (folder / "words.safetensors").read_bytes()
    (folder / "words.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"words.safetensors: not the file that model.json describes"):
        model.read(folder)
    with pytest.raises(UserError, match=r"words.safetensors: not the file that words.json describes; fit it again"):
        words.read(folder, "fit it again")


def test_models_with_words_and_without_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """By train.start, and by evaluate where there are objects with boxes."""
    folder, plain = saved(tmp_path / "words", tagger(), WORDS), saved(tmp_path / "plain", None, {})
    frozen = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1)
    made = Network(None, decoders.build("oscar", VOCABULARY, frozen.dim, OPTIONS))

    def start(named: Path, objects: dict[str, str]) -> None:
        what: dict[str, Any] = {
            "decoder": "oscar",
            "options": OPTIONS,
            "transform": TRANSFORM,
            "vocabulary": VOCABULARY,
        }
        take_up(named, made, frozen, objects=objects, **what)

    start(folder, WORDS)
    start(plain, {})
    with pytest.raises(UserError, match=r"objects \(words \(words of the training captions\), here none\)"):
        start(folder, {})
    with pytest.raises(UserError, match=r"objects \(none, here words \(words of the training captions\)\)"):
        start(plain, WORDS)
    labels = {"kind": "labels", "source": "label.tsv"}
    captioners = ensembles.load([folder])
    ensembles.check_objects([folder], captioners, {})
    with pytest.raises(UserError, match=r"trained with objects = words .* has labels \(label.tsv\)"):
        ensembles.check_objects([folder], captioners, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": "transformer"}, "objects = words: the decoder transformer reads no tags; write decoder: oscar"),
        ({"decoder": "oscar"}, "objects = words: a frozen encoder's features predict them; write features.trainable:"),
    ],
)
def test_a_decoder_without_tags_and_a_trained_encoder_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve.load(ROOT / "params.yaml", {"objects": "words"} | changes)
    resolve.load(ROOT / "params.yaml", {"objects": "words", "decoder": "oscar", "features.trainable": False})
