"""What captions of the nearest training images say: how it is found, that training reads no more than new images do."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from captioning import decoders
from captioning.captioner import cards, ensembles, model
from captioning.captioner.cards import Card
from captioning.data.objects import kept, retrieval
from captioning.data.objects.retrieval import LIKE, NEIGHBOURS, Retrieval
from captioning.data.objects.tables import NEIGHBOURS as KIND
from captioning.data.runtimes.registry import Engine, Kind
from captioning.data.text.caption_space import CaptionSpace
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import AttendingDecoder
from captioning.engines import folders
from captioning.evaluation import attending
from captioning.settings import resolve
from captioning.settings.decoders import NeighboursOptions
from captioning.system.errors import UserError
from captioning.training import retrieval as fitting
from captioning.training.network import Network
from captioning.training.warm_start import take_up
from captioning.training.word_tags import FOLDS, fold_numbers
from captioning.vision.encoders import backbones, encoders
from captioning.vision.features import encodings
from captioning.vision.features.encodings import widened
from captioning.vision.features.store import FeatureStore, Sharded
from tests import variants
from tests.imports import ROOT
from tests.project import OWN, Project
from tests.variants import ATTENDING, FEATURES, VARIANTS, captions, images, options

IMAGES, TRAIN, WIDTH = 60, 50, 90  # more features than training images: a regression can know each of them by heart
FOUND = 2 * NeighboursOptions.dimensions
NAMES = [f"w{number}" for number in range(IMAGES)]
VOCABULARY = Vocabulary((*SPECIAL, "a", "dog", "cat", *NAMES))
NAME = "squeezenet1_1"
TRANSFORM = backbones.transform_for(NAME, 64, pretrained=False)
OPTIONS = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "dropout": 0.0}


def dogs() -> np.ndarray:
    """Which images have a dog; the others have a cat."""
    return np.arange(IMAGES) % 3 == 0


def store(*, mirrored: bool = False, twins: tuple[int, int] | None = None) -> Any:
    """Random means, of which the first show whether there is a dog; those of mirrored images show the opposite.

    twins: two images that look the same.
    """
    means = np.random.default_rng(0).normal(size=(IMAGES, WIDTH)).astype(np.float16)
    means[:, :5] = np.where(dogs(), 2, -2)[:, None]
    if twins:
        means[twins[1]] = means[twins[0]]
    flipped = np.where(np.arange(WIDTH) < 5, -means, means)
    parts = [Sharded([array[:25], array[25:50], array[50:]], 25) for array in (means, flipped, means[:, None])]
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


def said(rows: range) -> EncodedCaptions:
    """Two captions of each image: one of the dog or the cat, and one of a word that no other image has."""
    listed = [["a", "dog" if dogs()[row] else "cat"] for row in rows]
    return EncodedCaptions.encode(
        [*listed, *(["a", NAMES[row], NAMES[row]] for row in rows)], [*rows, *rows], VOCABULARY, 30
    )


def fitted(there: Any, rows: range = range(TRAIN)) -> fitting.Fitted:
    return fitting.fit(there, said(rows), np.arange(TRAIN, IMAGES), VOCABULARY)


def tiny(width: int = 8, known: int = 4) -> Retrieval:
    """One of `known` images, in a space of 3 numbers, by features of `width`."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(width, 3, generator=generator)
    space = CaptionSpace(torch.zeros(width), torch.ones(width), weight)
    placed = torch.nn.functional.normalize(torch.randn(known, 3, generator=generator), dim=1)
    return Retrieval(space, placed, torch.randn(known, 3, generator=generator), {"images": known})


def test_what_is_found_is_the_place_and_the_weighted_mean_of_the_captions_of_the_nearest() -> None:
    """Held against NumPy, image by image."""
    searched, means = tiny(known=NEIGHBOURS + 5), torch.randn(3, 8, generator=torch.Generator().manual_seed(5))
    found = searched.vectors(means).numpy()
    assert found.dtype == np.float32
    for row, mean in enumerate(means.double().numpy()):
        place = mean @ searched.space.weight.numpy()
        place /= np.linalg.norm(place)
        cosines = searched.images.numpy() @ place
        near = np.argsort(-cosines)[:NEIGHBOURS]
        weights = np.exp(LIKE * cosines[near])
        mean_caption = weights @ searched.captions.double().numpy()[near]
        mean_caption /= np.linalg.norm(mean_caption)
        np.testing.assert_allclose(found[row], np.concatenate([place, mean_caption]) * 3**0.5, rtol=1e-5, atol=1e-6)
    assert searched.width == found.shape[1] == 6


def test_what_is_found_for_an_image_does_not_depend_on_the_images_beside_it() -> None:
    searched, means = tiny(), torch.randn(40, 8, generator=torch.Generator().manual_seed(5))
    one_by_one = torch.cat([searched.vectors(mean.unsqueeze(0)) for mean in means])
    assert torch.equal(searched.vectors(means), one_by_one)


def test_a_training_image_finds_neither_its_own_captions_nor_its_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regression over all images knows each by heart, and each is its own nearest; that over other folds cannot."""
    monkeypatch.setattr(NeighboursOptions, "ridge", 1e-3)
    there, size = store(), NeighboursOptions.dimensions
    whole, found = fitted(there)
    means = torch.from_numpy(there.means[np.arange(TRAIN)])
    own = torch.nn.functional.normalize(whole.captions.double(), dim=1)
    known = whole.vectors(means).double() / size**0.5
    crossed = torch.from_numpy(found[0, :TRAIN]).double() / size**0.5
    for half in (slice(size), slice(size, None)):
        assert (known[:, half] * own).sum(1).min() > 0.8
        assert (crossed[:, half] * own).sum(1).max() < 0.7
    fold = fold_numbers(TRAIN)
    for number, rows in enumerate(fitting._kept(fold)):
        assert {*fold[rows.numpy()]} == {*range(FOLDS)} - ({number - 1} if number else set())


def test_what_features_show_is_found_for_training_images_and_new_ones_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dog's captions are nearer to what a dog finds than to what a cat finds, and neighbours are as near."""
    monkeypatch.setattr(retrieval, "NEIGHBOURS", 5)
    there = store()
    whole, found = fitted(there)
    dog = torch.from_numpy(dogs())
    says = torch.nn.functional.normalize(whole.captions[dog[:TRAIN]].float().sum(0), dim=0).numpy()
    for rows in (np.arange(TRAIN), np.arange(TRAIN, IMAGES)):
        for half in (slice(NeighboursOptions.dimensions), slice(NeighboursOptions.dimensions, None)):
            like = found[0, rows, half].astype(np.float32) @ says
            assert like[dogs()[rows]].min() > like[~dogs()[rows]].max()
    near = whole.record["similarity"]
    assert near["train"] == pytest.approx(near["val"], abs=0.05)
    assert whole.record["images"] == TRAIN


def test_a_near_duplicate_in_training_is_not_looked_up_but_of_a_new_image_it_is() -> None:
    twins = 7, 13  # of different folds
    there = store(twins=twins)
    features = torch.from_numpy(there.means[np.arange(TRAIN)]).float()
    fold = fold_numbers(TRAIN)
    assert fold[twins[0]] != fold[twins[1]]
    rows = fitting._kept(fold)[1 + fold[twins[0]]]
    places = torch.randn(TRAIN, 4, generator=torch.Generator().manual_seed(1))
    search, mean = fitting._search(features[rows], places[rows]), features[[twins[0]]]
    twin = rows[: twins[1]].sum()
    mirrored = mean * torch.where(torch.arange(WIDTH) < 5, -1, 1)
    for view in (mean, mirrored):  # also the mirrored image of a near-duplicate
        for duplicates_of in (mean, None):
            _, near = search.near(view, duplicates_of=duplicates_of)
            left_out = near.similarity[near.rows == twin].isinf()
            assert left_out.tolist() == [duplicates_of is not None]
            assert near.similarity.isinf().sum() == int(duplicates_of is not None)
            assert search.retrieval.joined(*search.near(view, duplicates_of=duplicates_of)).isfinite().all()


def test_mirrored_images_find_by_their_own_features() -> None:
    there = store(mirrored=True)
    whole, found = fitted(there)
    for view, means in zip(found, (there.means, there.mirrored_means), strict=True):
        new = np.arange(TRAIN, IMAGES)
        expected = whole.vectors(torch.from_numpy(means[new])).numpy()
        np.testing.assert_allclose(view[new].astype(np.float32), expected, atol=2e-2)
    there.neighbours = found
    rows, mirrored = np.array([3, 54, 51]), np.array([True, False, True])
    upright = encodings.encode_features(encodings.stored_features(there, rows)).mean[:, WIDTH:]
    drawn = encodings.encode_features(encodings.drawn_features(there, rows, mirrored)).mean[:, WIDTH:]
    np.testing.assert_array_equal(upright.numpy(), found[0, rows].astype(np.float32))
    np.testing.assert_array_equal(drawn.numpy(), found[mirrored.astype(int), rows].astype(np.float32))


def test_validation_reads_what_is_found_under_autocast() -> None:
    there = store()
    there.neighbours = fitted(there).found
    rows = np.array([3, 54])
    plain = encodings.stored_features(there, rows)
    with torch.autocast("cpu", torch.bfloat16):
        cast = encodings.stored_features(there, rows)
    for one, other in zip(plain, cast, strict=True):
        assert one.dtype == other.dtype == torch.float16
        assert torch.equal(one, other)


def test_one_image_and_few_images_can_be_fitted() -> None:
    for count in (1, FOLDS - 2):
        found = fitted(store(), range(count)).found
        assert found.shape == (1, IMAGES, FOUND)
        assert np.isfinite(found).all()


def test_the_same_data_give_the_same_bytes_and_are_read_back(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        retrieval.write(tmp_path / name, fitted(store()).retrieval)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert one.keys() == {*retrieval.FILES} <= {*cards.BESIDE}
    back, whole = retrieval.read(tmp_path / "one", "restore it"), fitted(store()).retrieval
    means = torch.from_numpy(store().means[np.arange(IMAGES)])
    assert torch.equal(back.vectors(means), whole.vectors(means))
    assert back.record == whole.record


@pytest.mark.parametrize("name", ["mean", "deviation", "weight", "images", "captions"])
def test_tensors_that_do_not_fit_together_are_refused(tmp_path: Path, name: str) -> None:
    made = tiny()
    tensors = {key: tensor.float() for key, tensor in made.space._asdict().items()}
    tensors |= {"images": made.images, "captions": made.captions}
    for changed in (tensors[name][:-1], tensors[name].flatten()[:1].view(1, 1, 1)):
        kept.write(tmp_path, retrieval.NAME, {}, tensors | {name: changed})
        with pytest.raises(UserError, match=r"retrieval.safetensors: not of the regression .*; restore it"):
            retrieval.read(tmp_path, "restore it")
    kept.write(tmp_path, retrieval.NAME, {}, {key: tensors[key] for key in tensors.keys() - {name}})
    with pytest.raises(UserError, match="not of the regression"):
        retrieval.read(tmp_path, "restore it")


def test_a_linear_map_of_wide_regions_is_two() -> None:
    encoded, found = images(2), torch.randn(2, 7, generator=torch.Generator().manual_seed(3))
    wide = widened(encoded, found)
    assert encoded.regions is not None
    assert wide.regions is not None
    weight = torch.randn(FEATURES + 7, 4, generator=torch.Generator().manual_seed(4))
    grid, more = encoded.regions @ weight[:FEATURES], found @ weight[FEATURES:]
    torch.testing.assert_close(wide.regions @ weight, torch.cat([grid, more.unsqueeze(1)], 1))
    torch.testing.assert_close(wide.mean, torch.cat([encoded.mean, found], 1))
    assert widened(encoded._replace(regions=None), found).regions is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_decoder_reads_what_is_found(variant: str) -> None:
    """By mean or by region: what it says changes with it, and attention is over one more region."""
    torch.manual_seed(1)
    name, own = VARIANTS[variant][0], options(variant)
    decoder = decoders.build(name, variants.numbered(variants.WORDS), FEATURES + 7, own).eval()
    found = torch.randn(2, 7, generator=torch.Generator().manual_seed(3))
    wide, tokens, owner = widened(images(2), found), captions(2, 4), torch.tensor([0, 1])
    other = widened(images(2), torch.stack([found[0], -found[1]]))
    with torch.no_grad():
        changed = (decoder(wide, tokens, owner) - decoder(other, tokens, owner)).abs().amax((1, 2))
        assert changed[0] < 1e-5
        assert changed[1] > 1e-5
        if variant in ATTENDING:
            assert isinstance(decoder, AttendingDecoder)
            weights = decoder.attention(wide, tokens, owner)
            assert weights.shape == (2, 4, variants.REGIONS + 1)


def saved(folder: Path, found: Retrieval | None, kind: dict[str, str]) -> Path:
    """A model of a tiny transformer."""
    encoder = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1)
    torch.manual_seed(1)
    width = encoder.dim + (0 if found is None else found.width)
    decoder = decoders.build("transformer", VOCABULARY, width, OPTIONS)
    compute = {"portable": True, "threads": 1}
    provenance = {"objects": kind} if kind else {}
    card = Card(NAME, "transformer", OPTIONS, asdict(TRANSFORM), {}, compute, provenance, {})
    states = encoder.body.state_dict(), decoder.state_dict()
    model.save(folder, card, *states, VOCABULARY, beside_encoder=found)
    return folder


def test_the_folder_of_a_model_is_enough_for_an_image(tmp_path: Path) -> None:
    width = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1).dim
    folder = saved(tmp_path / "model", tiny(width), KIND)
    captioners = ensembles.load([folder], mirror=True)
    [member] = captioners.members
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64)).astype(np.uint8)
    for encoded in captioners.encode([pixels]):
        expected = tiny(width).vectors(encoded.mean[:, :width])
        torch.testing.assert_close(encoded.mean[:, width:], expected, atol=1e-3, rtol=1e-3)  # float16 on disk
        assert encoded.regions is not None
        assert torch.equal(encoded.regions[:, -1, width:], encoded.mean[:, width:])
    looked = attending.attend_all(member, captioners.encode([pixels])[0], ["a dog", "a cat"])
    for one in looked:
        assert one.weights.shape[1:] == member.encoder.grid
        assert (one.weights.sum((1, 2)) < 1).all()
    assert captioners.objects == {}  # nothing must be given with an image
    assert cards.read(folder).card.objects["kind"] == "neighbours"


@pytest.mark.parametrize("engine", [Engine.onnxruntime, Engine.openvino])
def test_an_exported_model_finds_the_same(tmp_path: Path, engine: Engine) -> None:
    width = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1).dim
    folder = saved(tmp_path / "model", tiny(width, known=NEIGHBOURS + 5), KIND)
    [member] = ensembles.load([folder]).members
    folders.write(folder, tmp_path / "exported", Kind.onnx)
    exported = folders.load(tmp_path / "exported", engine, threads=1)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, 64, 64)).astype(np.uint8)
    expected, found = member.encode(pixels), exported.encode(pixels)
    for one, other in zip(expected[:2], found[:2], strict=True):
        assert one is not None
        np.testing.assert_allclose(np.asarray(other), one.numpy(), atol=2e-3, rtol=1e-3)


def test_evaluate_reads_what_training_read_of_images_that_are_not_in_training() -> None:
    there = store()
    whole, found = fitted(there)
    member: Any = SimpleNamespace(beside=whole, vocabulary=VOCABULARY)
    new = np.arange(TRAIN, IMAGES)
    evaluated = model.Captioner.completed(member, encodings.encode_features(encodings.stored_features(there, new)))
    there.neighbours = found
    trained = encodings.encode_features(encodings.stored_features(there, new))
    for one, other in zip(evaluated[:2], trained[:2], strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=0)
    assert FeatureStore.dim.fget(there) == trained.mean.shape[1]  # type: ignore[attr-defined]


def test_a_damaged_retrieval_is_refused(tmp_path: Path) -> None:
    width = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1).dim
    folder = saved(tmp_path / "model", tiny(width), KIND)
    whole = (folder / "retrieval.safetensors").read_bytes()
    (folder / "retrieval.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"retrieval.safetensors: not the file that model.json describes"):
        model.read(folder)
    with pytest.raises(UserError, match=r"not the file that retrieval.json describes; fit it again"):
        retrieval.read(folder, "fit it again")


def test_a_model_without_neighbours_is_not_taken_for_one_with_them(tmp_path: Path) -> None:
    frozen = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1)
    plain = saved(tmp_path / "plain", None, {})
    made = Network(None, decoders.build("transformer", VOCABULARY, frozen.dim, OPTIONS))
    what: dict[str, Any] = {"options": OPTIONS, "transform": TRANSFORM, "vocabulary": VOCABULARY}
    with pytest.raises(UserError, match=r"objects \(none, here neighbours \(captions of the nearest training images\)"):
        take_up(plain, made, frozen, decoder="transformer", objects=KIND, **what)


def test_training_starts_only_from_a_model_of_the_same_captions(tmp_path: Path) -> None:
    """The numbers of another space would be read without any fault, and mean nothing."""
    frozen = encoders.build(NAME, transform=TRANSFORM, weights={}, seed=1)
    ours = tiny(frozen.dim)
    made = Network(None, decoders.build("transformer", VOCABULARY, frozen.dim + ours.width, OPTIONS))
    what: dict[str, Any] = {"options": OPTIONS, "transform": TRANSFORM, "vocabulary": VOCABULARY, "objects": KIND}
    take_up(saved(tmp_path / "same", ours, KIND), made, frozen, decoder="transformer", beside=ours, **what)
    turned = ours.space._replace(weight=-ours.space.weight)
    others = Retrieval(turned, ours.images, ours.captions, {}), Retrieval(ours.space, ours.images, -ours.captions, {})
    for number, other in enumerate(others):
        folder = saved(tmp_path / str(number), other, KIND)
        with pytest.raises(UserError, match="its neighbours have other captions; train from data/weights"):
            take_up(folder, made, frozen, decoder="transformer", beside=ours, **what)


def test_a_retrieval_of_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"do not fit what model.json says \(neighbours read 8 numbers, and the enc"):
        model.load(saved(tmp_path / "model", tiny(8), KIND))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": "neighbours"}, "objects = neighbours: the decoder neighbours says captions of neighbours itself"),
        ({"decoder": "lstm"}, "objects = neighbours: a frozen encoder's features find them; write features.trainable:"),
    ],
)
def test_the_decoder_neighbours_and_a_trained_encoder_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve.load(ROOT / "params.yaml", {"objects": "neighbours"} | changes)
    resolve.load(ROOT / "params.yaml", {"objects": "neighbours", "decoder": "lstm", "features.trainable": False})


def test_it_goes_from_archives_to_scores_and_speaks(copy: Project) -> None:
    """Self-critically at last, with mirrored images."""
    copy.set(
        "objects=neighbours",
        "decoder=transformer",
        "features.trainable=false",
        "features.mirror=true",
        "evaluate.mirror=true",
        "train.self_critical.epochs=1",
    )
    repeated = copy.run("dvc", "repro").stdout
    assert "neighbours: mean cosine " in repeated
    card, record = (json.loads(copy.read(f"data/train/model/{name}.json")) for name in ("model", "retrieval"))
    assert card["provenance"]["objects"] == KIND
    splits = json.loads(copy.read("data/split/summary.json"))["splits"]
    assert record["images"] == splits["train"]["images"]
    assert json.loads(copy.read("data/objects/objects.json"))["kind"] == "none"
    assert json.loads(copy.read("data/evaluate/attention/index.json"))["pictures"]
    assert copy.stages_to_run() == []
    copy.environment["PYTHONPATH"] = str(copy.folder / "src")
    source = next((copy.folder / "docs").glob("*.png"))
    start = "from captioning.cli import main; main()"
    assert copy.run(sys.executable, "-c", start, "predict", *OWN, str(source)).stdout.partition("\t")[2].strip()
