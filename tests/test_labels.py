"""Labels of images and regions: what `labels` gives a step of training, and what it leaves out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageChops
from torch.nn import functional

from captioning.data.datasets.scenes import dataset
from captioning.data.datasets.scenes.composition import COATS, COLOURS, PROPS, compose, spots
from captioning.data.datasets.scenes.drawing import draw
from captioning.data.datasets.scenes.facts import everywhere, labels, located, write_facts
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.system.errors import UserError
from captioning.training import batches
from captioning.training.labels import ImageLabels
from captioning.training.losses import label_loss

SCENES = compose(60, 1)
VOCABULARY = Vocabulary((*SPECIAL, "a", "b"))


def _names(scenes: dict, *, moved: bool = False) -> list[str]:
    """The columns of ImageLabels of so few scenes: every label, sorted."""
    sides = ("left", "right") if moved else ()
    found = {label for scene in scenes.values() for label in labels(scene)}
    return sorted(label for label in found if not any(side in label for side in sides))


@pytest.mark.parametrize("moved", [False, True])
def test_labels_of_images_are_those_of_their_scenes(moved: bool) -> None:
    scenes = dict(enumerate(SCENES))
    present = ImageLabels(scenes, 62, moved=moved).of(np.arange(62), (3, 3))[0]
    names = _names(scenes, moved=moved)
    assert present.shape == (62, len(names))
    for row, scene in scenes.items():
        expected = {name for name in labels(scene) if name in names}
        assert {names[column] for column in present[row].nonzero().flatten()} == expected
    assert present[60:].sum() == 0


@given(st.integers(1, 5), st.integers(1, 5))
def test_labels_of_regions_are_where_the_figures_are(height: int, width: int) -> None:
    scenes = dict(enumerate(SCENES[:20]))
    _, regions = ImageLabels(scenes, 20, moved=False).of(np.arange(20), (height, width))
    names = _names(scenes)
    for row, scene in scenes.items():
        expected = {(cell, name) for name in everywhere(scene) for cell in range(height * width)}
        for name, x, y in located(scene):
            expected.add((min(int(y * height), height - 1) * width + min(int(x * width), width - 1), name))
        assert {(cell, names[column]) for cell, column in regions[row].nonzero().tolist()} == expected


def test_figures_are_located_by_their_middle() -> None:
    for scene in SCENES:
        found = located(scene)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for _, x, y in found)
        for actor, spot in zip(scene.actors, spots(scene), strict=True):
            (place,) = {(x, y) for name, x, y in found if name == f"{actor.kind}:{actor.colour}:{actor.action}"
                        and abs(x - spot.x / 100) < 1e-9}  # fmt: skip
            assert spot.y - spot.height < 100 * place[1] < spot.y
            if actor.prop:
                assert (f"{PROPS[actor.action]}:{actor.prop}", *place) in found


def test_an_actor_is_drawn_where_it_is_located() -> None:
    """Its colour is changed, and the pixels that differ lie around its place."""
    size, seen = 96, set()
    for scene in SCENES:
        for index, actor in enumerate(scene.actors):
            others = [colour for colour in COATS.get(actor.kind, COLOURS) if colour != actor.colour]
            if not others:
                continue
            actors = [*scene.actors[:index], replace(actor, colour=others[0]), *scene.actors[index + 1 :]]
            changed = replace(scene, actors=tuple(actors))
            box = ImageChops.difference(draw(scene, size), draw(changed, size)).getbbox()
            assert box is not None
            left, top, right, bottom = (edge / size for edge in box)
            named, middle = f"{actor.kind}:{actor.colour}:{actor.action}", spots(scene)[index].x / 100
            ((x, y),) = {(x, y) for label, x, y in located(scene) if label == named and x == pytest.approx(middle)}
            assert left - 0.05 <= x <= right + 0.05, (scene, actor)
            assert top - 0.1 <= y <= bottom + 0.1, (scene, actor)
            seen.add(actor.kind)
    assert len(seen) > 4


def test_without_a_grid_or_with_moved_images_no_region_has_a_label() -> None:
    scenes = dict(enumerate(SCENES))
    assert len(ImageLabels(scenes, 60, moved=False).of(np.arange(4), None)) == 1
    assert len(ImageLabels(scenes, 60, moved=True).of(np.arange(4), (3, 3))) == 1


def test_rare_labels_are_left_out() -> None:
    scenes = dict(enumerate(compose(600, 2)))
    count = {}
    for scene in scenes.values():
        for name in labels(scene):
            count[name] = count.get(name, 0) + 1
    assert ImageLabels(scenes, 600, moved=False).count == sum(images >= 5 for images in count.values()) < len(count)


def test_logits_begin_at_the_share_of_images() -> None:
    made = ImageLabels(dict(enumerate(SCENES)), 60, moved=False)
    share = made.of(np.arange(60), None)[0].mean(0).clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(made.log_odds().sigmoid(), share)


def test_what_holds_everywhere_counts_once() -> None:
    scenes = dict(enumerate(SCENES))
    weight = dict(zip(_names(scenes), ImageLabels(scenes, 60, moved=False).region_weight(9).tolist(), strict=True))
    assert weight["place:beach"] == weight["weather:night"] == pytest.approx(1 / 9)
    assert weight["boy"] == 1.0


def test_label_loss_is_cross_entropy_by_label() -> None:
    torch.manual_seed(0)
    logits, present, weight = torch.randn(3, 4, 5), torch.randint(0, 2, (3, 4, 5)).float(), torch.rand(5)
    each = functional.binary_cross_entropy(logits.sigmoid(), present, reduction="none")
    torch.testing.assert_close(label_loss(logits, present).value, each.sum() / present.sum())
    expected = (each * weight).sum() / (present * weight).sum()
    torch.testing.assert_close(label_loss(logits, present, weight).value, expected)
    assert label_loss(logits, torch.zeros_like(present)).value.isfinite()


def test_an_epoch_reads_some_captions_of_every_image() -> None:
    captions = EncodedCaptions.encode([["a", "b"]] * 50, np.repeat(np.arange(10), 5).tolist(), VOCABULARY, 5)
    plans = [batches.by_image(captions, 8, (1, epoch), 2) for epoch in range(2)]
    for plan in plans:
        rows, count = np.unique(captions.image[np.concatenate(plan)], return_counts=True)
        assert rows.tolist() == list(range(10))
        assert (count == 2).all()
        assert {len(np.unique(captions.image[batch])) for batch in plan} <= {4, 2}
    assert set(np.concatenate(plans[0])) != set(np.concatenate(plans[1]))
    whole = batches.by_image(captions, 20, (1, 0), 9)
    assert sorted(np.concatenate(whole)) == list(range(50))


def test_facts_that_lack_an_image_are_refused(tmp_path: Path) -> None:
    write_facts(tmp_path / "facts.jsonl", {"000001": SCENES[0]})
    train = EncodedCaptions.encode([["a"], ["b"]], [0, 1], VOCABULARY, 5)
    with pytest.raises(UserError, match=r"facts\.jsonl: nothing of image 000002; run `dvc repro -f download`"):
        ImageLabels.read(tmp_path / "facts.jsonl", ["000001", "000002"], train, moved=False)


def test_several_processes_draw_the_same_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = []
    for cores in (1, 3):
        monkeypatch.setattr(dataset, "_WORTH", 2)
        monkeypatch.setattr(dataset.os, "cpu_count", lambda cores=cores: cores)
        folder = tmp_path / str(cores)
        folder.mkdir()
        dataset.write(folder, train=5, val=1, test=1, size=32, seed=1)
        archives.append((folder / "scenes.zip").read_bytes())
    assert archives[0] == archives[1]


def test_a_process_that_cannot_draw_ends_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = dataset.draw

    def draw(scene: object, size: int) -> object:
        if scene == dataset.compose(7, 1)[1]:
            raise OSError("no memory")
        return drawn(scene, size)

    monkeypatch.setattr(dataset, "draw", draw)
    monkeypatch.setattr(dataset, "_WORTH", 2)
    monkeypatch.setattr(dataset.os, "cpu_count", lambda: 3)
    with pytest.raises(UserError, match="a process that draws scenes ended early, by the error above"):
        dataset.write(tmp_path, train=5, val=1, test=1, size=32, seed=1)
    assert not (tmp_path / "scenes.zip").exists()
