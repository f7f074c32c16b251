"""When an actor is by the thing: what the grammar may claim, and what `claims` takes for true.

Distances are in hundredths of the image's width, between the middle of the actor and the middle of the thing.
"""

from captioning.data.datasets.scenes.composition import Scene, spots, thing_x

NEAR, CLOSE = 27.0, 20.0
ROOFS = ("tree", "palm")  # things that an actor can be under


def by_thing(scene: Scene, index: int) -> bool:
    """Whether actor `index` stands on the ground less than NEAR from the thing: `next to`, `beside`, `near`.

    A boat is on the water, a bird is in the sky, and a bench with a child on it has nobody else by it.
    """
    if scene.thing in (None, "boat") or scene.seat is not None or scene.actors[index].kind == "bird":
        return False
    return behind(scene, index)


def close(scene: Scene, index: int) -> bool:
    """Whether actor `index` is by the thing and less than CLOSE from it: `under` and `in front of`."""
    return by_thing(scene, index) and _away(scene, index) < CLOSE


def behind(scene: Scene, index: int) -> bool:
    """Whether the thing is behind actor `index`, less than NEAR to its left or right."""
    return scene.thing is not None and scene.seat is None and _away(scene, index) < NEAR


def _away(scene: Scene, index: int) -> float:
    return abs(spots(scene)[index].x - thing_x(scene))
