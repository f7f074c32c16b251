"""Animals: on the same scale as children (100 units tall), standing on the origin, facing +x."""

from collections.abc import Callable
from dataclasses import dataclass

from captioning.data.datasets.scenes.pen import Pen, mix, outline

COATS = {
    "brown": "#a5703f",
    "black": "#45424a",
    "white": "#f6f1e7",
    "grey": "#9a9ca6",
    "orange": "#e7944a",
    "yellow": "#f4cb4f",
    "blue": "#4d86c9",
    "red": "#d6544d",
}
_DARK = "#2e2628"


@dataclass(frozen=True)
class Coat:
    """The three tones of an animal."""

    plain: str
    shade: str
    light: str


def coat(colour: str) -> Coat:
    """The tones of a colour word."""
    plain = COATS[colour]
    return Coat(plain, mix(plain, "#3a2a3a", 0.22), mix(plain, "#fff6e6", 0.55))


def _eyes(pen: Pen, y: float, gap: float, size: float, *, shut: bool) -> None:
    for side in (-1, 1):
        if shut:
            pen.curve([(side * gap - size, y), (side * gap, y + size * 0.8), (side * gap + size, y)], 1.6, _DARK)
        else:
            pen.oval(side * gap, y, size, size * 1.25, _DARK)
            pen.disc(side * gap + size * 0.35, y - size * 0.45, size * 0.36, "#ffffff")


def _muzzle(pen: Pen, y: float) -> None:
    pen.oval(0, y, 3, 2.3, _DARK)
    pen.curve([(-4, y + 4.6), (-2, y + 6), (0, y + 4), (2, y + 6), (4, y + 4.6)], 1.3, _DARK)


def _dog_head(pen: Pen, tones: Coat, *, shut: bool) -> None:
    pen.blob(outline("-15,-3 -12,-14 0,-18 12,-14 15,-3 12,10 0,15 -12,10"), tones.plain)
    pen.oval(1, 6, 9, 7.5, tones.light)
    for side in (-1, 1):
        pen.blob([(side * 9, -15), (side * 16, -13), (side * 21, 0), (side * 18, 10), (side * 13, 4)], tones.shade)
    _eyes(pen, -3, 6.4, 2.3, shut=shut)
    _muzzle(pen, 3)
    if not shut:
        pen.blob(outline("-1,8.6 4,8.6 4,14 1.5,15.5 -0.6,14"), "#e5777a")


def _cat_head(pen: Pen, tones: Coat, *, shut: bool) -> None:
    for side in (-1, 1):
        pen.polygon([(side * 3, -12), (side * 13, -24), (side * 15, -4)], tones.plain)
        pen.polygon([(side * 6.5, -12), (side * 11.5, -18), (side * 12.5, -8)], "#e9a5a0")
    pen.blob(outline("-16,0 -12,-12 0,-15 12,-12 16,0 11,10 0,13 -11,10"), tones.plain)
    for x in (-4, 0, 4):
        pen.line([(x, -14), (x * 0.8, -8)], 2, tones.shade)
    pen.oval(0, 6, 7, 5, tones.light)
    _eyes(pen, -1, 6.6, 2.8, shut=shut)
    _muzzle(pen, 3.4)
    for side in (-1, 1):
        for tilt in (-1.5, 1.5):
            pen.line([(side * 7, 5 + tilt / 2), (side * 20, 4 + tilt * 1.6)], 0.9, tones.shade)


Head = Callable[..., None]


def _paws(pen: Pen, paths: list[list[tuple[float, float]]], tones: Coat) -> None:
    for i, path in enumerate(paths):
        pen.limb(path, 8, tones.shade if i < 2 else tones.plain)
        pen.oval(path[-1][0] + 1.5, path[-1][1] + 1, 5.5, 3.4, tones.light if i >= 2 else tones.shade)


def _tail(pen: Pen, tones: Coat, *, long: bool) -> None:
    if long:
        pen.curve([(-26, -32), (-38, -36), (-41, -50), (-34, -62)], 6, tones.plain)
    else:
        pen.curve([(-26, -34), (-35, -42), (-37, -53)], 7, tones.plain)


def _walker(pen: Pen, tones: Coat, head: Head, *, long: bool) -> None:
    _tail(pen, tones, long=long)
    _paws(pen, [[(-14, -22), (-15, -3)], [(22, -22), (23, -3)], [(-22, -22), (-23, -3)], [(14, -22), (14, -3)]], tones)
    pen.blob(outline("-30,-28 -24,-40 0,-41 22,-42 29,-32 24,-19 0,-18 -24,-17"), tones.plain)
    pen.oval(4, -20, 15, 3.4, tones.light)
    head(pen.at(27, -51), tones, shut=False)


def _runner(pen: Pen, tones: Coat, head: Head, *, long: bool) -> None:
    body = pen.at(0, -6)
    _tail(body.at(-2, 4), tones, long=long)
    _paws(body, [[(-18, -22), (-32, -16), (-38, -8)], [(20, -22), (34, -14), (38, -6)],
                 [(-22, -24), (-38, -20), (-47, -14)], [(18, -24), (36, -20), (46, -14)]], tones)  # fmt: skip
    body.blob(outline("-32,-26 -25,-37 0,-36 22,-42 30,-33 25,-20 0,-17 -26,-16"), tones.plain)
    head(body.at(33, -48), tones, shut=False)


def _sitter(pen: Pen, tones: Coat, head: Head, *, long: bool) -> None:
    pen.curve(
        [(-14, -5), (-28, -4), (-36, -14), (-33, -28)] if long else [(-14, -6), (-26, -8), (-32, -19)], 6.5, tones.plain
    )
    pen.blob(outline("-20,-3 -22,-18 -10,-36 2,-46 14,-42 17,-22 17,-2 0,0"), tones.plain)
    pen.blob(outline("8,-38 15,-32 15,-20 9,-18 5,-28"), tones.light)
    pen.oval(-10, -10, 12, 10, tones.shade)
    pen.oval(-4, -2.5, 9, 3.6, tones.light)
    for x in (7, 14):
        pen.limb([(x, -22), (x + 1, -3)], 7.5, tones.plain)
        pen.oval(x + 2.5, -2.2, 5.4, 3.2, tones.light)
    head(pen.at(9, -54), tones, shut=False)


def _sleeper(pen: Pen, tones: Coat, head: Head, *, long: bool) -> None:
    pen.blob(outline("-34,-4 -35,-16 -22,-27 0,-29 20,-22 28,-8 22,0 -24,1"), tones.plain)
    pen.oval(-18, -10, 14, 10.5, tones.shade)
    pen.curve([(-30, -6), (-36, 1), (-20, 3), (-4 if long else -12, 2)], 6.5, tones.light)
    head(pen.at(25, -14), tones, shut=True)
    for x, y, size in ((40, -38, 4), (48, -50, 5.5)):
        letter = [(-size, -size), (size, -size), (-size, size), (size, size)]
        pen.at(x, y).upright().limb(letter, 1.8, "#5b6f93")


_WALKS = {"standing": _walker, "running": _runner, "sitting": _sitter, "sleeping": _sleeper}


def dog(pen: Pen, tones: Coat, action: str) -> None:
    """A dog with hanging ears."""
    _WALKS[action](pen, tones, _dog_head, long=False)


def cat(pen: Pen, tones: Coat, action: str) -> None:
    """A cat with a long tail, a little smaller than the dog."""
    _WALKS[action](pen.at(0, 0, 0.86), tones, _cat_head, long=True)


def rabbit(pen: Pen, tones: Coat, action: str) -> None:
    """A rabbit that sits or hops."""
    body = pen.at(0, -12 if action == "hopping" else 0, 0.86)
    body.disc(-24, -13, 7, mix(tones.light, "#ffffff", 0.6))
    if action == "hopping":
        body.limb([(-12, -10), (-24, -2), (-32, 3)], 8, tones.shade)
        body.limb([(12, -12), (22, -4), (29, 0)], 7, tones.plain)
    body.blob(outline("-24,-8 -20,-26 -4,-34 12,-28 18,-12 14,-1 -8,0 -22,-2"), tones.plain)
    if action == "sitting":
        body.oval(-9, -8, 11, 8.5, tones.shade)
        body.oval(-3, -1.5, 9, 3.4, tones.light)
        body.oval(13, -2, 5.5, 3.2, tones.light)
    head = body.at(12, -40)
    for x, turn in ((-6, -14), (5, 8)):
        head.oval(x, -24, 5, 17, tones.plain, turn=turn)
        head.oval(x + 0.4, -23, 2.4, 12, "#eeb3ae", turn=turn)
    head.blob(outline("-14,1 -10,-11 0,-14 10,-11 14,1 9,10 0,12 -9,10"), tones.plain)
    head.oval(1, 6, 7, 4.6, tones.light)
    _eyes(head, -1, 6, 2.6, shut=False)
    head.oval(0.6, 3.4, 2, 1.5, "#d97f82")
    head.curve(outline("-3.4,6 -1.2,7.6 0.6,6 2.4,7.6 4.6,6"), 1.2, _DARK)


def duck(pen: Pen, tones: Coat) -> None:
    """A duck on its way."""
    for x in (-4, 6):
        pen.limb([(x, -12), (x + 1, -2)], 3, "#e58a3a")
        pen.blob([(x - 3, 0), (x + 1, -4), (x + 9, 0)], "#e58a3a")
    pen.blob(outline("-32,-34 -20,-26 -4,-30 12,-28 20,-20 14,-9 -4,-6 -20,-11 -29,-22"), tones.plain)
    pen.blob(outline("-20,-22 -8,-27 6,-22 2,-14 -10,-12"), tones.shade)
    pen.limb([(14, -22), (16, -38)], 11, tones.plain)
    head = pen.at(18, -44)
    head.blob(outline("8,-1 16,-3 25,1 18,5 9,5"), "#ec9a3c")
    head.disc(0, 0, 12, tones.plain)
    head.oval(5, -3, 2.1, 2.7, _DARK)
    head.disc(5.7, -4, 0.8, "#ffffff")
    head.oval(3, 4, 3, 2.1, "#ee8a6a70")


def sheep(pen: Pen, tones: Coat) -> None:
    """A woolly sheep."""
    for x in (-16, -6, 10, 19):
        pen.limb([(x, -18), (x, -3)], 6.5, "#57505a")
    for x, y, r in (
        (-22, -28, 13),
        (-12, -40, 13),
        (4, -42, 14),
        (18, -36, 13),
        (20, -24, 12),
        (4, -22, 14),
        (-12, -22, 13),
    ):
        pen.disc(x, y + 2, r, tones.shade)
    for x, y, r in (
        (-22, -30, 12),
        (-12, -41, 12),
        (4, -44, 13),
        (18, -37, 12),
        (20, -27, 11),
        (4, -29, 15),
        (-12, -28, 14),
    ):
        pen.disc(x, y, r, tones.plain)
    head = pen.at(30, -46)
    for side in (-1, 1):
        head.oval(side * 14, -3, 7, 3.6, "#4b444e", turn=side * 22)
    head.blob(outline("-11,-6 0,-13 11,-6 9,9 0,15 -9,9"), "#5d5560")
    for x, y, r in ((-7, -11, 6), (0, -14, 7), (7, -11, 6)):
        head.disc(x, y, r, tones.plain)
    for side in (-1, 1):
        head.disc(side * 5, 0, 2.9, "#ffffff")
        head.disc(side * 5 + 0.8, 0.4, 1.6, _DARK)
    head.curve([(-3.5, 8), (0, 10), (3.5, 8)], 1.4, "#d9b9bd")


def bird(pen: Pen, tones: Coat) -> None:
    """A bird in the air; the origin is its breast."""
    pen.polygon(outline("-18,-2 -40,-10 -37,-1 -41,6 -16,7"), tones.shade)
    pen.blob(outline("6,-6 2,-24 12,-38 22,-30 18,-8"), tones.shade)
    pen.blob(outline("-22,0 -8,-10 10,-12 22,-4 18,9 0,13 -16,8"), tones.plain)
    pen.oval(6, 6, 12, 6, tones.light)
    pen.blob(outline("2,-4 -12,-22 -10,-40 2,-34 14,-6"), mix(tones.plain, tones.shade, 0.5))
    pen.disc(24, -8, 12, tones.plain)
    pen.polygon([(33, -11), (46, -6), (34, -2)], "#efa83e")
    pen.oval(27, -10, 2.2, 2.8, _DARK)
    pen.disc(27.7, -11, 0.8, "#ffffff")


_POSED: dict[str, Callable[[Pen, Coat, str], None]] = {"dog": dog, "cat": cat, "rabbit": rabbit}
_PLAIN: dict[str, Callable[[Pen, Coat], None]] = {"duck": duck, "sheep": sheep, "bird": bird}


def animal(pen: Pen, kind: str, colour: str, action: str) -> None:
    """Draw an animal; a duck always walks, a sheep stands and a bird flies."""
    if kind in _POSED:
        _POSED[kind](pen, coat(colour), action)
    else:
        _PLAIN[kind](pen, coat(colour))
