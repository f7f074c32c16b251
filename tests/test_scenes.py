"""The scenes data set: what is said is drawn, nothing leaks between splits, and two runs give the same bytes."""

import re
from collections import Counter
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from captioning.data.datasets.scenes import animals, figures, things, words
from captioning.data.datasets.scenes import dataset as scenes
from captioning.data.datasets.scenes.composition import (
    ANIMALS,
    COATS,
    COLOURS,
    HABITS,
    PROPS,
    THINGS,
    WEATHERS,
    Actor,
    Scene,
    spots,
    thing_x,
)
from captioning.data.datasets.scenes.grammar import with_article

TRAIN, VAL, TEST = 7200, 300, 400  # as in params.yaml
PAINTS = {*COLOURS, *(colour for coats in COATS.values() for colour in coats)}
CALLED = {  # every noun that names a particular thing, and what must be drawn for it
    **dict.fromkeys(("boy", "boys"), "boy"),
    **dict.fromkeys(("girl", "girls", "dress"), "girl"),
    **dict.fromkeys(("dog", "puppy"), "dog"),
    **dict.fromkeys(("cat", "kitten"), "cat"),
    **dict.fromkeys(("rabbit", "bunny"), "rabbit"),
    **{kind: kind for kind in ("duck", "sheep", "bird", "tent", "bench", "slide", "sandcastle", "snowman")},
    **dict.fromkeys(("house", "cottage"), "house"),
    **dict.fromkeys(("boat", "sailboat"), "boat"),
    **dict.fromkeys(("palm",), "palm"),
    **dict.fromkeys(("pine",), "pine"),
    **dict.fromkeys(("apple",), "tree"),
    **{noun: action for action, noun in PROPS.items()},
    **dict.fromkeys(("hat", "cap"), "hat"),
    **dict.fromkeys(("park",), "park"),
    **dict.fromkeys(("beach", "sea", "sand", "ocean"), "beach"),
    **dict.fromkeys(("meadow", "flowers"), "meadow"),
    **dict.fromkeys(("snow", "coat", "jacket"), "snow"),
    **dict.fromkeys(("rain", "raining", "rains"), "rainy"),
    **dict.fromkeys(("snowing",), "snowy"),
    **dict.fromkeys(("moon", "stars", "moonlight", "night"), "night"),
    **dict.fromkeys(("sunset", "dusk", "evening"), "evening"),
    **dict.fromkeys(("sunny", "sunshine"), "sunny"),
    **dict.fromkeys(("cloudy",), "cloudy"),
    **dict.fromkeys(("waving", "waves", "hello", "raising"), "waving"),
    **dict.fromkeys(("running", "runs", "hurrying", "fast"), "running"),
    **dict.fromkeys(("sitting", "sits", "resting"), "sitting"),
    **dict.fromkeys(("sleeping", "nap", "lying"), "sleeping"),
    **dict.fromkeys(("kicking", "kicks"), "kicking"),
    **dict.fromkeys(("reading", "reads"), "reading"),
    **dict.fromkeys(("hopping", "hops", "bouncing"), "hopping"),
}
FIXED = {  # colours of what has only one
    "house": {("red", "roof")},
    "tent": {("orange", "tent")},
    "slide": {("yellow", "slide")},
    "boat": {("white", "sail")},
    "snowman": {("red", "scarf")},
    "meadow": {("green", "field")},
    "sunny": {("blue", "sky")},
    "cloudy": {("grey", "day"), ("grey", "clouds")},
}


@pytest.fixture(scope="module")
def drawn_by_lot() -> list[Scene]:
    return scenes.compose(TRAIN + VAL + TEST, 1)


@pytest.fixture(scope="module")
def captions(drawn_by_lot: list[Scene]) -> pd.DataFrame:
    return scenes.table(drawn_by_lot, train=TRAIN, val=VAL, test=TEST)


def tokens(sentence: str) -> list[str]:
    return re.findall(r"[a-z-]+", sentence.lower())


def drawn(scene: Scene) -> set[str]:
    """Everything in the image, by the names that the composition gives it."""
    found = {scene.place, scene.weather, str(scene.thing)}
    for actor in scene.actors:
        found |= {actor.kind, actor.action, *({"hat"} if actor.hat else ())}
    return found


def colours_drawn(scene: Scene) -> set[tuple[str, str]]:
    """Each colour with each noun that it is drawn on."""
    found = set().union(*(FIXED.get(name, set()) for name in drawn(scene)))
    for actor in scene.actors:
        if actor.child:
            worn = words.CLOTHES["snow" if scene.place == "snow" else actor.kind]
            found |= {(actor.colour, noun.split()[0]) for noun in worn}
            found |= {(str(actor.prop), PROPS[actor.action])} if actor.prop else set()
        else:
            found |= {(actor.colour, name.split()[-1]) for name in words.NAMES[actor.kind]}
    return found


def test_five_different_sentences_of_natural_length(captions: pd.DataFrame) -> None:
    by_image = captions.groupby("image_id")["caption"]
    assert (by_image.nunique() == 5).all()
    lengths = captions["caption"].map(lambda text: len(text.split()))
    assert lengths.min() >= 5
    assert lengths.max() <= 16
    assert captions["caption"].str.fullmatch(r"[A-Z][a-z,-]*( [a-z,-]+)*\.").all()


def test_enough_words_are_frequent_in_training(captions: pd.DataFrame) -> None:
    training = captions[captions["split"] == "train"]["caption"]
    counts = Counter(word for text in training for word in tokens(text))
    assert sum(count >= 5 for count in counts.values()) >= 180


def test_no_composition_is_in_two_splits(drawn_by_lot: list[Scene]) -> None:
    keys = [scene.key for scene in drawn_by_lot]
    assert len(set(keys)) == len(keys)


def test_a_mirror_image_and_another_hat_are_the_same_composition() -> None:
    scene = scenes.compose(40, 2)[7]
    mirrored = replace(scene, actors=scene.actors[::-1], side="left" if scene.side == "right" else "right")
    hatted = replace(scene, actors=tuple(replace(actor, hat=not actor.hat) for actor in scene.actors))
    assert mirrored.key == scene.key == hatted.key
    assert replace(scene, weather="elsewhere").key != scene.key


def test_every_word_and_attribute_of_the_other_splits_is_in_training(
    captions: pd.DataFrame, drawn_by_lot: list[Scene]
) -> None:
    seen = {word for text in captions[captions["split"] == "train"]["caption"] for word in tokens(text)}
    unseen = {word for text in captions[captions["split"] != "train"]["caption"] for word in tokens(text)} - seen
    assert not unseen
    parts = [{*drawn(scene), *colours_drawn(scene)} for scene in drawn_by_lot]
    assert set().union(*parts[TRAIN:]) <= set().union(*parts[:TRAIN])


def test_articles_agree(captions: pd.DataFrame) -> None:
    text = " ".join(captions["caption"].str.lower())
    assert set(re.findall(r"\ban ([a-z])", text)) == {"o", "u", "a"}
    assert not re.search(r"\ba [aeiou]", text)
    assert set(re.findall(r"\btwo ([a-z]+)", text)) == {"boys", "girls", "children", "kids"}
    assert with_article("orange tent") == "an orange tent"


def test_what_is_said_is_drawn(drawn_by_lot: list[Scene]) -> None:
    for scene in drawn_by_lot[:800]:
        there, colours = drawn(scene), colours_drawn(scene)
        for sentence in scenes.sentences(scene):
            said = tokens(sentence)
            absent = {word for word in said if word in CALLED and CALLED[word] not in there}
            assert not absent, (sentence, scene)
            pairs = {pair for pair in pairwise(said) if pair[0] in PAINTS}
            wrong = {pair for pair in pairs if pair not in colours and pair[1] != "summer"}
            assert not wrong, (sentence, wrong, scene)


def test_two_children_are_two(drawn_by_lot: list[Scene]) -> None:
    for scene in drawn_by_lot[:800]:
        for sentence in scenes.sentences(scene):
            for kind in re.findall(r"\btwo (boy|girl|child|kid)", sentence.lower()):
                wanted = ("boy", "girl") if kind in ("child", "kid") else (kind,)
                assert sum(actor.kind in wanted for actor in scene.actors) == 2, sentence


def test_left_and_right_agree_with_the_image(drawn_by_lot: list[Scene]) -> None:
    names = {name.split()[-1]: kind for kind, called in words.NAMES.items() for name in called}
    checked = Counter[str]()
    for scene in drawn_by_lot:
        where: dict[str, list[float]] = {}
        for actor, spot in zip(scene.actors, spots(scene), strict=True):
            where.setdefault(actor.kind, []).append(spot.x)
        for sentence in scenes.sentences(scene):
            beside = re.fullmatch(r"(.*) to the (left|right) of (.*)", sentence)
            if beside:
                first, second = (next(names[w] for w in tokens(beside[k]) if w in names) for k in (1, 3))
                low, high = (first, second) if beside[2] == "left" else (second, first)
                assert min(where[low]) < max(where[high]), sentence
                checked[beside[2]] += 1
            aside = re.search(r"there is .* on the (left|right)\.", sentence, re.IGNORECASE)
            if aside:
                assert (thing_x(scene) < 50) == (aside[1] == "left"), sentence
                checked["thing"] += 1
    assert min(checked["left"], checked["right"], checked["thing"]) > 20


@pytest.mark.parametrize("order", [("boy", "girl"), ("girl", "boy")])
def test_actors_are_painted_from_left_to_right(order: tuple[str, str]) -> None:
    colours = {"boy": "red", "girl": "purple"}
    actors = tuple(Actor(kind, colours[kind], "waving") for kind in order)
    pixels = np.asarray(scenes.draw(Scene("1/0", "beach", "cloudy", actors, None, "left"), 96)).astype(int)
    middle = {}
    for kind, colour in colours.items():
        paint = np.array([int(figures.PAINTS[colour][i : i + 2], 16) for i in (1, 3, 5)])
        middle[kind] = np.nonzero(np.abs(pixels - paint).max(axis=2) < 20)[1].mean()
    assert middle[order[0]] < middle[order[1]]


SCENE = Scene(
    "7/7", "park", "sunny", (Actor("dog", "brown", "sitting"), Actor("girl", "red", "holding", "blue")), "tree", "left"
)
GIRL = SCENE.actors[1]


@pytest.mark.parametrize(
    "other",
    [
        replace(SCENE, place="beach"),
        replace(SCENE, weather="night"),
        replace(SCENE, thing=None),
        replace(SCENE, thing="slide"),
        replace(SCENE, side="right"),
        replace(SCENE, actors=SCENE.actors[::-1]),
        *(
            replace(SCENE, actors=(SCENE.actors[0], girl))
            for girl in (
                replace(GIRL, kind="boy"),
                replace(GIRL, colour="green"),
                replace(GIRL, prop="yellow"),
                replace(GIRL, hat=True),
                replace(GIRL, action="flying"),
            )
        ),
        replace(SCENE, actors=(replace(SCENE.actors[0], colour="black"), GIRL)),
        replace(SCENE, actors=(replace(SCENE.actors[0], action="sleeping"), GIRL)),
        replace(SCENE, actors=(Actor("cat", "grey", "sitting"), GIRL)),
    ],
)
def test_every_attribute_changes_the_image_where_a_model_can_see_it(other: Scene) -> None:
    difference = np.asarray(ImageChops.difference(scenes.draw(SCENE, 64), scenes.draw(other, 64))).max(axis=2)
    assert (difference > 24).sum() >= 20  # of 4,096 pixels


def test_everything_that_can_be_composed_has_a_name_and_a_drawing() -> None:
    assert {thing for group in THINGS.values() for thing in group} == set(things.STANDING) == set(words.THINGS)
    assert {kind for group in ANIMALS.values() for kind in group} == set(HABITS) == set(COATS)
    assert {colour for coats in COATS.values() for colour in coats} <= set(animals.COATS)
    assert set(COLOURS) == set(figures.PAINTS)


@pytest.mark.parametrize("action", sorted(words.DEEDS))
@pytest.mark.parametrize("weather", [*WEATHERS, "snowy"])
def test_every_deed_in_every_weather(action: str, weather: str) -> None:
    child = Actor("boy", "red", action, "blue" if action in PROPS else None)
    scene = Scene("1/1", "snow", weather, (child,), None, "left")
    beside = replace(scene, actors=(replace(child, action="waving", prop=None),))
    assert len(scenes.sentences(scene)) == 5
    same = ImageChops.difference(scenes.draw(scene, 32), scenes.draw(beside, 32)).getbbox() is None
    assert same == (action == "waving")


@pytest.mark.parametrize("action", sorted(PROPS))
def test_what_a_child_holds_has_its_colour(action: str) -> None:
    def hold(colour: str) -> np.ndarray:
        child = Actor("girl", "red", action, colour)
        return np.asarray(scenes.draw(Scene("1/1", "meadow", "cloudy", (child,), None, "left"), 64)).astype(int)

    assert (np.abs(hold("yellow") - hold("blue")).max(axis=2) > 60).sum() >= 12  # of 4,096 pixels


@pytest.mark.parametrize(("kind", "action"), [(kind, action) for kind in sorted(HABITS) for action in HABITS[kind]])
def test_every_animal_in_every_pose(kind: str, action: str) -> None:
    scene = Scene("1/1", "park", "cloudy", (Actor(kind, COATS[kind][0], action),), None, "left")
    assert len(scenes.sentences(scene)) == 5
    others = [scenes.draw(replace(scene, actors=(Actor(kind, COATS[kind][0], other),)), 32) for other in HABITS[kind]]
    assert len({image.tobytes() for image in others}) == len(HABITS[kind])


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    def run(folder: str, seed: int) -> tuple[bytes, pd.DataFrame]:
        table = scenes.write(tmp_path / folder, train=4, val=2, test=2, size=48, seed=seed)
        return (tmp_path / folder / "scenes.zip").read_bytes(), table

    first, second, other = run("a", 1), run("b", 1), run("c", 2)
    assert first[0] == second[0] != other[0]
    pd.testing.assert_frame_equal(first[1], second[1])
    assert list(first[1]["caption"]) != list(other[1]["caption"])


def test_the_table_names_the_members_of_the_archive(tmp_path: Path) -> None:
    table = scenes.write(tmp_path, train=3, val=1, test=2, size=40, seed=5)
    assert list(table.columns) == ["image_id", "file", "caption", "split"]
    assert Counter(table["split"]) == {"train": 15, "val": 5, "test": 10}
    assert table["image_id"].iloc[0] == "000001"
    with ZipFile(tmp_path / "scenes.zip") as archive:
        assert list(dict.fromkeys(table["file"])) == [f"scenes.zip/{member}" for member in archive.namelist()]
        image = Image.open(BytesIO(archive.read("scenes/000006.png")))
        assert (image.size, image.mode) == ((40, 40), "RGB")
    drawn_again = scenes.draw(scenes.compose(6, 5)[5], 40)
    assert ImageChops.difference(image, drawn_again).getbbox() is None
