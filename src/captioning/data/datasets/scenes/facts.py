"""What is in each drawn image, as data: facts.jsonl, which `download` writes beside the captions.

A line is one image, as a JSON object: `image_id`, `seed`, `place`, `weather`, `thing` (null where there is none),
`side`, `thing_x`, `seat` (the index of the actor on the bench, or null) and `actors`, from left to right.
An actor has `kind`, `colour` (of clothes or coat), `action`, `prop` (the colour of what it holds, or null), `hat` and
`x`. `x` and `thing_x` are in hundredths of the image's width.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from captioning.data.datasets.scenes.composition import PROPS, Actor, Scene, spots, thing_x
from captioning.data.datasets.scenes.things import STANDING
from captioning.system.errors import UserError, reason, shown
from captioning.system.sealed import check_table, write_table

FILE = "facts.jsonl"
_MIDDLE, _LOW_MIDDLE = 0.5, 0.3  # of a child or a thing, and of an animal, as a share of its height
_ACTOR = tuple(field.name for field in fields(Actor))
_SCENE = tuple(field.name for field in fields(Scene) if field.name != "actors")


def write_facts(path: Path, scenes: Mapping[str, Scene]) -> None:
    """Write a line an image. `scenes`: image_id → scene."""
    lines = [json.dumps(_record(image_id, scene)) for image_id, scene in scenes.items()]
    write_table(path, "".join(f"{line}\n" for line in lines))


def read_facts(path: Path) -> dict[str, Scene]:
    """Read what `write_facts` wrote: image_id → the very scene that was drawn.

    Raises UserError when the file is not what was written, and with its line when one is not such a record.
    """
    check_table(path, "run `dvc repro -f download`")
    scenes = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            scenes[str(record["image_id"])] = _scene(record)
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise UserError(
                f"{path}, line {number}: not the facts of an image ({type(fault).__name__}: {reason(fault)}); "
                "run `dvc repro -f download`"
            ) from fault
    return scenes


def of_images(path: Path, images: pd.DataFrame) -> dict[int, Scene]:
    """COCO id → scene of the rows of images.csv, by `read_facts`; empty where the data set has no such file.

    Raises UserError as `read_facts` does, and for an image that the file does not have.
    """
    if not path.is_file():
        return {}
    known, ids = read_facts(path), dict(zip(images["coco_id"], images["image_id"], strict=True))
    lacking = [name for name in ids.values() if name not in known]
    if lacking:
        raise UserError(f"{path}: no facts of image {shown(lacking[0])}; run `dvc repro -f download`")
    return {coco_id: known[name] for coco_id, name in ids.items()}


def _record(image_id: str, scene: Scene) -> dict[str, Any]:
    actors = [{**asdict(actor), "x": round(spot.x, 3)} for actor, spot in zip(scene.actors, spots(scene), strict=True)]
    stands = None if scene.thing is None else round(thing_x(scene), 3)
    named = {name: getattr(scene, name) for name in _SCENE}
    return {"image_id": image_id, **named, "thing_x": stands, "seat": scene.seat, "actors": actors}


def _scene(record: Mapping[str, Any]) -> Scene:
    actors = tuple(Actor(**{name: actor[name] for name in _ACTOR}) for actor in record["actors"])
    return Scene(**{name: record[name] for name in _SCENE}, actors=actors)


def labels(scene: Scene) -> frozenset[str]:
    """All that is in a scene as flat strings, without left and right but for the last two kinds:

    `boy`, `boy:red`, `boy:running`, `boy:red:running`, `boy:hat`, `ball`, `ball:blue`, `two:boy`, `two:child`, `tree`,
    `weather:rainy`, `place:beach`; `boy>left-of>dog` for each two actors, `tree:left` for the side of the thing.
    """
    names = set(everywhere(scene))
    for actor in scene.actors:
        names |= _actor_labels(actor)
    names |= {f"{left.kind}>left-of>{right.kind}" for left, right in combinations(scene.actors, 2)}
    names |= _pair_labels(scene)
    if scene.thing is not None:
        names |= {scene.thing, f"{scene.thing}:{'left' if thing_x(scene) < 50 else 'right'}"}
    return frozenset(names)


def everywhere(scene: Scene) -> list[str]:
    """The labels that hold in every part of the image: weather and place."""
    return [f"weather:{scene.weather}", f"place:{scene.place}"]


def located(scene: Scene) -> list[tuple[str, float, float]]:
    """The labels of actors and of the thing, with their middle in the image: x and y, 0 to 1 from the top left."""
    labels = []
    for actor, spot in zip(scene.actors, spots(scene), strict=True):
        y = spot.y - spot.height * (_MIDDLE if actor.child else _LOW_MIDDLE)
        labels += [(label, _inside(spot.x), _inside(y)) for label in sorted(_actor_labels(actor))]
    if scene.thing is not None:
        height, foot, _ = STANDING[scene.thing]
        labels.append((scene.thing, _inside(thing_x(scene)), _inside(foot - height * _MIDDLE)))
    return labels


def _inside(hundredths: float) -> float:
    return min(max(hundredths / 100, 0.0), 1.0)


def _actor_labels(actor: Actor) -> set[str]:
    labels = {actor.kind, f"{actor.kind}:{actor.colour}", f"{actor.kind}:{actor.action}"}
    labels.add(f"{actor.kind}:{actor.colour}:{actor.action}")
    if actor.hat:
        labels.add(f"{actor.kind}:hat")
    if actor.prop is not None:
        noun = PROPS[actor.action]
        labels |= {noun, f"{noun}:{actor.prop}"}
    return labels


def _pair_labels(scene: Scene) -> set[str]:
    children = [actor.kind for actor in scene.actors if actor.child]
    if len(children) < 2:
        return set()
    return {"two:child", *(f"two:{kind}" for kind in children if children.count(kind) > 1)}
