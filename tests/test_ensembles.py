"""Several models as one: the mean of their probabilities, in every search; what does not fit together is refused."""

import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from captioning import decoders
from captioning.captioner import cards, ensembles, model, model_folders
from captioning.captioner.cards import Card
from captioning.captioner.confidence import Calibration
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import select
from captioning.search import SearchOptions, n_best, search
from captioning.search.ensemble import Ensemble
from captioning.system.errors import UserError
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.store import ARRAYS, FeatureStore
from captioning.vision.features.unlikeness import KeptStatistics, statistics, width
from captioning.vision.images import Transform
from tests.noise import noise
from tests.toys import Table
from tests.toys import images as numbers
from tests.variants import VARIANTS, WORDS, build, captions, images, options

METHODS = {
    "beam": SearchOptions(3, 6, length_penalty=1.0, n_best=3),
    "diverse": SearchOptions(4, 6, method="diverse", n_best=2, groups=2, strength=0.5),
    "sample": SearchOptions(1, 6, method="sample", n_best=4, seed=3),
    "must": SearchOptions(3, 6, must=((7,), (9, 5))),
}
TRANSFORM = Transform(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def test_probabilities_are_the_mean() -> None:
    """Of the words after each of three images' first words, over two tables that agree on nothing."""
    tables = [Table(1), Table(2)]
    ensemble, encoded, tokens = Ensemble(tables), numbers(3, 5, 8), torch.tensor([1, 1, 1])
    logits, state = ensemble.step(tokens, ensemble.init([encoded, encoded]))
    each = [table.step(tokens, table.init(encoded))[0].softmax(1) for table in tables]
    torch.testing.assert_close(logits.exp(), (each[0] + each[1]) / 2)
    after = [table.step(tokens, table.init(encoded))[1] for table in tables]
    assert all(torch.equal(a, b) for a, b in zip(state, [*after[0], *after[1]], strict=True))


def test_each_member_reads_what_its_own_encoder_says() -> None:
    ensemble, tokens = Ensemble([Table(1), Table(2)]), torch.tensor([1])
    logits, _ = ensemble.step(tokens, ensemble.init([numbers(3), numbers(8)]))
    each = [table.step(tokens, table.init(numbers(n)))[0].softmax(1) for table, n in ((Table(1), 3), (Table(2), 8))]
    torch.testing.assert_close(logits.exp(), (each[0] + each[1]) / 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", ["lstm", "attention-soft", "transformer", "oscar"])
def test_a_model_and_itself_say_what_the_model_says(variant: str, method: str) -> None:
    decoder, encoded = build(variant).eval(), images(4)
    found = n_best(Ensemble([decoder, decoder]), [encoded, encoded], METHODS[method])
    alone = n_best(decoder, encoded, METHODS[method])
    assert n_best(Ensemble([decoder]), [encoded], METHODS[method]) == alone
    for together, single in zip(found, alone, strict=True):
        assert [h.ids for h in together] == [h.ids for h in single]
        assert [h.score for h in together] == pytest.approx([h.score for h in single], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_decoders_of_all_kinds_are_searched_as_one(method: str) -> None:
    """The log probability of what is found is that of the mean, and a batch gives what single images give."""
    members, encoded = [build(name, dropout=0.0).eval() for name in VARIANTS], images(3)
    assert encoded.regions is not None
    ensemble, chosen = Ensemble(members), METHODS[method]
    together = n_best(ensemble, [encoded] * len(members), chosen, keys=[0, 1, 2])
    for place, found in enumerate(together):
        one = Encoded(encoded.mean[place : place + 1], encoded.regions[place : place + 1])
        [alone] = n_best(ensemble, [one] * len(members), chosen, keys=[place])
        assert [h.ids for h in alone] == [h.ids for h in found]
        for h in found:
            tokens = torch.tensor([[1, *h.ids]])
            owner = torch.zeros(1, dtype=torch.long)
            p = torch.stack([member(one, tokens, owner).softmax(2) for member in members]).mean(0)[0]
            following = torch.tensor([*h.ids, 2])
            expected = p[torch.arange(len(following)), following].log().sum().item()
            assert h.log_probability == pytest.approx(expected, abs=1e-3)


def test_states_are_selected_with_their_hypotheses() -> None:
    ensemble, encoded = Ensemble([build("lstm").eval(), build("updown").eval()]), images(3)
    state = ensemble.init([encoded, encoded])
    rows = torch.tensor([2, 2, 0])
    logits, _ = ensemble.step(captions(3, 1)[:, 0], state)
    chosen, _ = ensemble.step(captions(3, 1)[:, 0], select(state, rows))
    torch.testing.assert_close(chosen, logits[rows])


def folder(
    path: Path,
    variant: str = "lstm",
    *,
    seed: int = 1,
    encoder: str = "squeezenet1_1",
    side: int = 32,
    word: str = "w",
) -> Path:
    """A model folder with an encoder that was drawn from `seed`."""
    transform = Transform(side, side, "bilinear", TRANSFORM.mean, TRANSFORM.std)
    network = encoders.build(encoder, transform=transform, weights={}, seed=seed)
    vocabulary = Vocabulary((*SPECIAL, *(f"{word}{i}" for i in range(WORDS - len(SPECIAL)))))
    torch.manual_seed(seed)
    name, made = VARIANTS[variant][0], options(variant)
    decoder = decoders.build(name, vocabulary, network.dim, made)
    card = Card(encoder, name, made, asdict(transform), {}, {"portable": True, "threads": 2}, {}, {})
    model.save(path, card, network.body.state_dict(), decoder.state_dict(), vocabulary)
    return path


def test_models_with_other_encoders_and_sizes_caption_together(tmp_path: Path) -> None:
    folders = [folder(tmp_path / "a"), folder(tmp_path / "b", "transformer", seed=2, encoder="resnet18", side=64)]
    captioners = ensembles.load(folders)
    image = noise((80, 60), 90)
    pixels = captioners.pixels(image)
    assert [part.shape for part in pixels] == [(3, 32, 32), (3, 64, 64)]
    stacked = [torch.from_numpy(part).unsqueeze(0) for part in pixels]
    [found] = captioners.captions(stacked, SearchOptions(3, 5, 2, n_best=2), [1])
    assert len(found) == 2
    assert all(math.isfinite(caption.score) and caption.text for caption in found)
    alone = ensembles.load(folders[:1])
    [single] = alone.captions(stacked[:1], SearchOptions(3, 5, 2), [1])
    member = alone.members[0]
    regions = member.encoder(stacked[0])  # (1, R, D)
    [expected] = search(member.decoder, Encoded(regions.mean(1), regions), SearchOptions(3, 5, 2))
    assert single[0].text == member.vocabulary.decode(expected.ids)


def test_images_are_unlike_the_training_images_if_every_member_that_keeps_some_says_so(tmp_path: Path) -> None:
    """A member's own images are like themselves; a blank one is not. A member that keeps none is not asked."""
    plain = Image.new("RGB", (64, 64), "white")
    noisy = [noise((64, 64), sigma, seed=sigma) for sigma in range(20, 84)]
    members = list(ensembles.load([folder(tmp_path / "a"), folder(tmp_path / "b", seed=2)]).members)
    silent = ensembles.Captioners(tuple(members))
    pixels = [torch.from_numpy(np.stack(part)) for part in zip(*map(silent.pixels, [plain, *noisy]), strict=True)]
    assert silent.distances(pixels) == [0.0] * 65
    own = statistics(pixels[0])
    members[0] = replace(members[0], statistics=KeptStatistics(own[1::2], own[2::2]))
    measured = ensembles.Captioners(tuple(members), mirror=True).distances(pixels)
    assert measured[0] > 1
    assert sum(distance > 1 for distance in measured[1:]) <= 1
    members[1] = replace(members[1], statistics=KeptStatistics(own[1:], 1e3 * own))  # to this one, nothing is unlike
    assert ensembles.Captioners(tuple(members)).distances(pixels)[0] <= 1


def test_a_model_folder_keeps_statistics_and_refuses_others(tmp_path: Path) -> None:
    plain = model.load(folder(tmp_path / "without"))
    assert plain.statistics is None
    number = width(plain.transform.image_size)
    kept = KeptStatistics(torch.rand(6, number), torch.rand(3, number))
    states = plain.encoder.body.state_dict(), plain.decoder.state_dict()
    model.save(tmp_path / "with", plain.card, *states, plain.vocabulary, kept)
    found = model.read(tmp_path / "with").statistics
    assert found is not None
    assert all(torch.equal(one, other) for one, other in zip(found, kept, strict=True))
    assert model.load(tmp_path / "with").statistics is not None
    path = tmp_path / "with" / cards.STATISTICS
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"statistics.safetensors: not the file that model.json describes"):
        model.read(tmp_path / "with")


def test_statistics_of_an_older_version_are_not_compared_and_say_nothing_of_confidence(tmp_path: Path) -> None:
    """They are of other numbers. The model captions images as before."""
    plain = model.load(folder(tmp_path / "without"))
    kept = KeptStatistics(torch.rand(6, 24), torch.rand(3, 24))
    sure = Calibration((0.0,) * 4, (1.0,) * 4, (1.0,) * 4, 0.0, "right", 9)
    states = plain.encoder.body.state_dict(), plain.decoder.state_dict()
    model.save(tmp_path / "older", plain.card, *states, plain.vocabulary, kept, sure)
    found = ensembles.load([tmp_path / "older"])
    assert (found.members[0].statistics, found.members[0].calibration) == (None, None)
    pixels = [torch.from_numpy(part).unsqueeze(0) for part in found.pixels(noise((80, 60), 90))]
    assert found.distances(pixels) == [0.0]
    assert found.captions(pixels, SearchOptions(3, 5), [1]) == ensembles.load([tmp_path / "without"]).captions(
        pixels, SearchOptions(3, 5), [1]
    )


def test_the_mirrored_image_is_read_as_by_one_more_member(tmp_path: Path) -> None:
    """Of each member; so an image and its mirror image are captioned alike. Not so where one view is read."""
    folders = [folder(tmp_path / "a"), folder(tmp_path / "b", "transformer", seed=2, encoder="resnet18", side=64)]
    both = ensembles.load(folders, mirror=True)
    image = noise((80, 60), 90)
    stacked = [torch.from_numpy(part).unsqueeze(0) for part in both.pixels(image)]
    turned = [part.flip(3) for part in stacked]
    options = SearchOptions(3, 5, 2, n_best=3)
    [found] = both.captions(stacked, options, [1])
    members = [member for member in both.members for _ in range(2)]
    views = [view for pair in zip(stacked, turned, strict=True) for view in pair]
    regions = [member.encoder(view) for member, view in zip(members, views, strict=True)]
    twins = Ensemble([member.decoder for member in members])
    [expected] = n_best(twins, [Encoded(part.mean(1), part) for part in regions], options)
    assert [caption.text for caption in found] == [both.vocabulary.decode(h.ids) for h in expected]
    assert [caption.score for caption in found] == [h.score for h in expected]
    [mirrored] = both.captions(turned, options, [1])
    assert [caption.score for caption in mirrored] == pytest.approx([caption.score for caption in found], abs=1e-5)
    upright = ensembles.load(folders)
    [one], [other] = (upright.captions(pixels, options, [1]) for pixels in (stacked, turned))
    assert [caption.score for caption in one] != pytest.approx([caption.score for caption in other], abs=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_stored_images_are_read_in_both_views(tmp_path: Path, trained: bool) -> None:
    """From a store of pixels, and from one of features if it has the mirrored ones."""
    captioners = ensembles.load([folder(tmp_path / "a"), folder(tmp_path / "b", "neuraltalk-rnn")], mirror=True)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    encoder, absent = captioners.members[0].encoder, dict.fromkeys((*ARRAYS, "places", "tags", "neighbours"))
    with torch.inference_mode():
        upright, turned = encoder(pixels), encoder(pixels.flip(3))
    features = {"means": upright.mean(1), "regions": upright}
    mirrored = {"mirrored_means": turned.mean(1), "mirrored_regions": turned}
    stored = {"pixels": pixels} if trained else features | mirrored
    readers = captioners.readers(SimpleNamespace(**absent | arrays(stored)), torch.device("cpu"))  # type: ignore[arg-type]
    assert len(readers) == 4
    with torch.inference_mode():
        said = [reader(np.array([2, 0])) for reader in readers]
    for found, expected in zip(said, [upright, turned] * 2, strict=True):
        torch.testing.assert_close(found.regions, expected[[2, 0]])
        torch.testing.assert_close(found.mean, expected[[2, 0]].mean(1))
    if not trained:
        without = SimpleNamespace(**absent | arrays(features))
        with pytest.raises(UserError, match=r"evaluate.mirror = true .*data/features has none; write features.mirror"):
            captioners.readers(without, torch.device("cpu"))  # type: ignore[arg-type]


def arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def test_another_vocabulary_is_refused_by_name(tmp_path: Path) -> None:
    first, other = folder(tmp_path / "a"), folder(tmp_path / "b", word="v")
    with pytest.raises(UserError, match=rf"{other}/vocab.txt: not that of {first}: this model has another vocabulary"):
        ensembles.load([first, other])


class Store:
    """What `check_store` asks of a feature store."""

    def __init__(self, transform: Transform, *, pixels: bool) -> None:
        self.transform, self.pixels = transform, object() if pixels else None
        self.by_no_encoder = False


def check(folders: list[Path], side: int, *, pixels: bool) -> None:
    transform = Transform(side, side, "bilinear", TRANSFORM.mean, TRANSFORM.std)
    store: FeatureStore = Store(transform, pixels=pixels)  # type: ignore[assignment]
    ensembles.check_store(folders, ensembles.load(folders), store)


def test_stored_features_are_of_one_encoder_and_stored_pixels_of_one_transform(tmp_path: Path) -> None:
    first, same, other = (
        folder(tmp_path / name, variant, seed=seed)
        for name, variant, seed in (("a", "lstm", 1), ("b", "neuraltalk-rnn", 1), ("c", "lstm", 2))
    )
    larger = folder(tmp_path / "d", side=64)
    check([first, same], 32, pixels=False)
    check([first, same, other], 32, pixels=True)
    with pytest.raises(UserError, match=r"c/encoder.safetensors: .* another encoder than data/features"):
        check([first, same, other], 32, pixels=False)
    with pytest.raises(UserError, match=r"evaluate.ensemble: .*/d: has another image transform than data/features"):
        check([first, larger], 32, pixels=True)


def test_members_are_the_model_folders_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queued experiment's copy must have all that the main repository has."""
    for name in ("main/ensemble/b", "main/ensemble/a", "main/ensemble/notes"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "main/ensemble" / name / "model.json").write_text(json.dumps({}))
    copy = tmp_path / "main/.dvc/tmp/exps/x"
    copy.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "main")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert model_folders.members(Path("ensemble")) == [Path("ensemble/a"), Path("ensemble/b")]
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(copy))
    with pytest.raises(UserError, match=r"evaluate.ensemble: ensemble: no such folder"):
        model_folders.members(Path("ensemble"))
    shutil.copytree(tmp_path / "main/ensemble/a", copy / "ensemble/a")
    with pytest.raises(UserError, match=r"this copy of the repository lacks b; .* an absolute path"):
        model_folders.members(Path("ensemble"))
    absolute = tmp_path / "main/ensemble"
    assert model_folders.members(absolute) == [absolute / "a", absolute / "b"]
