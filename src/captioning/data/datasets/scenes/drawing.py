"""From a composition to an image, painted from the back to the front."""

from random import Random

from PIL import Image

from captioning.data.datasets.scenes import animals, backdrop, figures, things
from captioning.data.datasets.scenes.composition import Actor, Scene, Spot, spots, thing_x
from captioning.data.datasets.scenes.figures import PAINTS
from captioning.data.datasets.scenes.pen import Drawn, Pen, Point

_OVERSIZE = 3  # drawn so many times larger, then reduced, so that edges are smooth
_STRING = "#6b6470"


def draw(scene: Scene, size: int) -> Image.Image:
    """The scene as an RGB image of `size` x `size` pixels."""
    side = size * _OVERSIZE
    image = Image.new("RGB", (side, side))
    pen = Pen(image, side / 100)
    rng = Random(f"{scene.seed}/backdrop")
    lamp = 78 + rng.uniform(-6, 6)
    backdrop.sky(pen, scene.weather, lamp if scene.side == "left" else 100 - lamp, rng)
    backdrop.ground(pen.at(0, 0, tint=backdrop.light(scene.weather, 1.0)), scene.place, rng)
    _objects(pen, scene)
    backdrop.weather_in_front(pen, scene.weather, rng)
    return image.reduce(_OVERSIZE)


def objects(scene: Scene, size: int) -> list[Drawn]:
    """The objects of a scene as `draw` draws them, from the back to the front, with their rectangles in its pixels.

    Names are those of actors (`boy`, `dog`), of things (`tree`) and of what children hold or play with (`ball`).
    Strings and shadows are part of none. Rectangles are cut at the image's edges; what is outside is not listed.
    """
    drawn: list[Drawn] = []
    _objects(Pen(Image.new("RGB", (1, 1)), size * _OVERSIZE / 100, drawn=drawn), scene)
    cut = [one.inside(_OVERSIZE, size) for one in drawn]
    return [one for one in cut if one.left < one.right and one.top < one.bottom]


def _objects(pen: Pen, scene: Scene) -> None:
    if scene.thing:
        _thing(pen.at(0, 0, tint=backdrop.light(scene.weather, 0.5)), scene, scene.thing)
    figure_pen = pen.at(0, 0, tint=backdrop.light(scene.weather, 0.25))
    order = sorted(enumerate(spots(scene)), key=lambda item: item[1].y)
    for i, spot in order:
        _actor(figure_pen, scene, i, spot)
    for actor, spot in zip(scene.actors, spots(scene), strict=True):
        if actor.action == "kicking" and actor.prop:
            _ball(figure_pen.at(spot.x, spot.y, spot.height / 100, flip=spot.flip), PAINTS[actor.prop])


def _thing(pen: Pen, scene: Scene, thing: str) -> None:
    height, foot, paint = things.STANDING[thing]
    if scene.seat is not None:
        spot = spots(scene)[scene.seat]
        height, foot = spot.height * 0.46, spot.y - 1
    paint(pen.begin(thing).at(thing_x(scene), foot, height / 100, flip=scene.side == "right"))


def _actor(pen: Pen, scene: Scene, index: int, spot: Spot) -> None:
    actor = scene.actors[index]
    local = pen.at(spot.x, spot.y, spot.height / 100, flip=spot.flip)
    if actor.child:
        _child(local, scene, index, spot)
        return
    if actor.kind != "bird":
        local.shadow(0, 34)
    animals.animal(local.begin(actor.kind), actor.kind, actor.colour, actor.action)


def _child(pen: Pen, scene: Scene, index: int, spot: Spot) -> None:
    actor = scene.actors[index]
    seated = scene.seat == index
    pose = _pose(actor, seated=seated)
    pen.shadow(8 if pose.drop > 10 else 0, 26)
    _prop_behind(pen, actor, spot)
    rng = Random(f"{scene.seed}/child/{index}")
    figures.child(
        pen.begin(actor.kind), actor.kind, actor.colour, pose, hat=actor.hat, coat=scene.place == "snow", rng=rng
    )
    if actor.action == "reading":
        things.book(pen.begin("book").at(24, pose.drop - 40, 1.45), PAINTS[actor.prop or "red"])


def _pose(actor: Actor, *, seated: bool) -> figures.Pose:
    if seated:
        return figures.POSES["seated"]
    return figures.POSES["holding" if actor.action == "sheltering" else actor.action]


def _prop_behind(pen: Pen, actor: Actor, spot: Spot) -> None:
    if actor.prop is None:
        return
    colour = PAINTS[actor.prop]
    if actor.action == "sheltering":
        things.umbrella(pen.begin("umbrella").at(26, -60), colour)
    elif actor.action == "holding":
        pen.curve([(26, -60), (30, -84), (24, -104)], 1.1, _STRING)
        things.balloon(pen.begin("balloon").at(24, -104, 1.2), colour)
    elif actor.action == "flying":
        at = kite_spot(spot)
        string: list[Point] = [(29, -76), (at[0] - 18, (at[1] - 60) / 2), at]
        pen.curve(string, 1.0, _STRING)
        things.kite(pen.begin("kite").at(*at), colour)


def _ball(pen: Pen, colour: str) -> None:
    pen.shadow(48, 16)
    things.ball(pen.begin("ball").at(48, -18, 1.4), colour)


def kite_spot(spot: Spot) -> Point:
    """Where the kite is, in the units of the child that flies it: in the sky, in front of the child."""
    unit = spot.height / 100
    x = min(max(spot.x + (-58 if spot.flip else 58) * unit, 18), 82)
    return abs(x - spot.x) / unit, (20 - spot.y) / unit
