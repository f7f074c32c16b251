"""A pen: filled shapes in local coordinates on a Pillow image. No fonts, no art from elsewhere.

Local x runs in the direction that a figure faces, local y runs down, and a figure stands on its origin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

Point = tuple[float, float]
Rgb = tuple[int, int, int]
Rgba = tuple[int, int, int, int]
Tint = tuple[str, float]  # the colour of the light and how much of it is mixed in, 0 to 1

_CLEAR: Tint = ("#000000", 0.0)
_STEPS = 6  # straight pieces in a stretch of a curve


@lru_cache(maxsize=4096)
def ink(colour: str, tint: Tint = _CLEAR) -> Rgba:
    """`#rrggbb` or `#rrggbbaa` under a light, as the four channels 0 to 255."""
    channels = [int(colour[i : i + 2], 16) for i in range(1, len(colour), 2)]
    light = [int(tint[0][i : i + 2], 16) for i in (1, 3, 5)]
    red, green, blue = (round(a + (b - a) * tint[1]) for a, b in zip(channels[:3], light, strict=True))
    return red, green, blue, (channels[3] if len(channels) == 4 else 255)


def mix(first: str, second: str, share: float) -> str:
    """`share` of the second colour, 0 to 1, mixed into the first."""
    red, green, blue, _ = ink(first, (second, share))
    return f"#{red:02x}{green:02x}{blue:02x}"


@lru_cache(maxsize=4096)
def spline(points: tuple[Point, ...], closed: bool) -> tuple[Point, ...]:
    """A Catmull-Rom curve (Catmull and Rom 1974) through the points, as straight pieces."""
    count = len(points)
    curve: list[Point] = []
    for i in range(count if closed else count - 1):
        at = [(i + k) % count if closed else min(max(i + k, 0), count - 1) for k in (-1, 0, 1, 2)]
        p, q, r, s = (points[k] for k in at)
        curve.extend((_between(p[0], q[0], r[0], s[0], k), _between(p[1], q[1], r[1], s[1], k)) for k in range(_STEPS))
    return tuple(curve) if closed else (*curve, points[-1])


def _between(p: float, q: float, r: float, s: float, step: int) -> float:
    t = step / _STEPS
    return q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))


@lru_cache(maxsize=1024)
def outline(text: str) -> tuple[Point, ...]:
    """Points from `x,y x,y ...`, as in the `points` of an SVG polygon."""
    return tuple((float(x), float(y)) for x, y in (point.split(",") for point in text.split()))


@dataclass
class Drawn:
    """An object that a pen drew: its name, and the rectangle around all of its shapes in pixels of the pen's image."""

    name: str
    left: float = math.inf
    top: float = math.inf
    right: float = -math.inf
    bottom: float = -math.inf

    def add(self, points: Sequence[Point], margin: float) -> None:
        """Extend the rectangle to what lies around these points."""
        xs, ys = zip(*points, strict=True)
        self.left, self.top = min(self.left, min(xs) - margin), min(self.top, min(ys) - margin)
        self.right, self.bottom = max(self.right, max(xs) + margin), max(self.bottom, max(ys) + margin)

    def inside(self, scale: float, size: int) -> "Drawn":
        """In pixels that are `scale` times as large, cut at the edges of a square of `size` of them."""
        sides = (self.left, self.top, self.right, self.bottom)
        left, top, right, bottom = (min(max(side / scale, 0.0), float(size)) for side in sides)
        return Drawn(self.name, left, top, right, bottom)


class Pen:
    """Draws on an RGB image; `at` gives a pen for a figure that stands somewhere else, smaller or mirrored.

    `begin` gives a pen for an object. Where a list is given, it records there what is drawn by these pens, without
    shadows. Nothing is drawn in another way.
    """

    def __init__(self, image: Image.Image, scale: float, tint: Tint = _CLEAR, drawn: list[Drawn] | None = None) -> None:
        """`scale`: pixels a local unit."""
        self._solid = ImageDraw.Draw(image)  # several times faster than the one that blends
        self._glaze = ImageDraw.Draw(image, "RGBA")
        self._x, self._y, self._sx, self._sy, self._tint = 0.0, 0.0, scale, scale, tint
        self._drawn = drawn
        self._object: Drawn | None = None

    def at(self, x: float, y: float, scale: float = 1.0, *, flip: bool = False, tint: Tint | None = None) -> "Pen":
        """A pen whose origin is (x, y) here and whose unit is `scale` of this one's."""
        pen = object.__new__(Pen)
        pen._solid, pen._glaze = self._solid, self._glaze
        pen._x, pen._y = self._x + x * self._sx, self._y + y * self._sy
        pen._sx, pen._sy = self._sx * scale * (-1 if flip else 1), self._sy * scale
        pen._tint = self._tint if tint is None else tint
        pen._drawn, pen._object = self._drawn, self._object
        return pen

    def begin(self, name: str) -> "Pen":
        """This pen, for what belongs to an object of this name."""
        pen = self.at(0, 0)
        if self._drawn is not None:
            pen._object = Drawn(name)
            self._drawn.append(pen._object)
        return pen

    def upright(self) -> "Pen":
        """This pen, never mirrored: for letters."""
        pen = self.at(0, 0)
        pen._sx = abs(self._sx)
        return pen

    def _ink(self, fill: str) -> tuple[ImageDraw.ImageDraw, Rgba | Rgb]:
        colour = ink(fill, self._tint)
        return (self._solid, colour[:3]) if colour[3] == 255 else (self._glaze, colour)

    def _pixels(self, points: Sequence[Point], width: int = 0) -> list[Point]:
        """Local points in pixels of the image. width: of the line that is drawn through them."""
        x, y, sx, sy = self._x, self._y, self._sx, self._sy
        pixels = [(x + sx * px, y + sy * py) for px, py in points]
        if self._object is not None:
            self._object.add(pixels, width / 2)
        return pixels

    def _thickness(self, width: float) -> int:
        return max(1, round(width * self._sy))

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        """A filled polygon with straight edges."""
        draw, colour = self._ink(fill)
        draw.polygon(self._pixels(points), fill=colour)

    def blob(self, points: Sequence[Point], fill: str) -> None:
        """A filled shape whose edge curves through the points."""
        self.polygon(spline(tuple(points), True), fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: str, turn: float = 0.0) -> None:
        """A filled ellipse with radii rx and ry, turned by `turn` degrees."""
        if turn:
            c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            ring = [(rx * math.cos(a / 4), ry * math.sin(a / 4)) for a in range(25)]
            self.polygon([(x + c * u - s * v, y + s * u + c * v) for u, v in ring], fill)
            return
        (left, top), (right, bottom) = self._pixels([(x - rx, y - ry), (x + rx, y + ry)])
        draw, colour = self._ink(fill)
        draw.ellipse((min(left, right), top, max(left, right), bottom), fill=colour)

    def disc(self, x: float, y: float, r: float, fill: str) -> None:
        """A filled circle."""
        self.oval(x, y, r, r, fill)

    def limb(self, points: Sequence[Point], width: float, fill: str) -> None:
        """A thick line with round joints and ends; `fill` must be opaque."""
        draw, colour = self._ink(fill)
        thickness = self._thickness(width)
        draw.line(self._pixels(points, thickness), fill=colour, width=thickness, joint="curve")
        for x, y in (points[0], points[-1]):
            self.disc(x, y, width / 2, fill)

    def curve(self, points: Sequence[Point], width: float, fill: str) -> None:
        """A thick line with round ends that curves through the points."""
        self.limb(spline(tuple(points), False), width, fill)

    def line(self, points: Sequence[Point], width: float, fill: str) -> None:
        """A line with flat ends; `fill` may be transparent."""
        draw, colour = self._ink(fill)
        thickness = self._thickness(width)
        draw.line(self._pixels(points, thickness), fill=colour, width=thickness)

    def shadow(self, x: float, rx: float, y: float = 0.0) -> None:
        """A soft shadow on the ground: transparent ellipses in each other. It is no part of an object."""
        pen = self.at(0, 0)
        pen._object = None
        for share in (1.0, 0.9, 0.8, 0.68, 0.55):
            pen.oval(x, y, rx * share, rx * 0.2 * share, "#28303e12")
