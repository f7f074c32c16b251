"""What stands about (100 units tall, on the origin) and what children hold or play with (in a child's units)."""

from collections.abc import Callable

from captioning.data.datasets.scenes.pen import Pen, Point, mix, outline

_WOOD, _BARK = "#b98552", "#8a6142"


def _crown(pen: Pen, discs: tuple[tuple[float, float, float], ...], leaf: str) -> None:
    for x, y, r in discs:
        pen.disc(x, y + 3, r, mix(leaf, "#22463e", 0.3))
    for x, y, r in discs:
        pen.disc(x - 1, y, r * 0.95, leaf)
    for x, y, r in discs:
        pen.disc(x - r * 0.25, y - r * 0.3, r * 0.55, mix(leaf, "#f4f3b0", 0.2))


def tree(pen: Pen) -> None:
    """A round tree with red apples."""
    pen.shadow(4, 30)
    pen.blob(outline("-7,1 -5,-20 -5,-48 5,-48 5,-20 8,1 0,-1"), _BARK)
    pen.limb([(0, -34), (15, -50)], 4, _BARK)
    _crown(pen, ((-20, -55, 17), (21, -56, 17), (0, -51, 16), (-13, -74, 18), (14, -76, 18), (0, -84, 16)), "#6fa65a")
    for x, y in ((-24, -52), (-6, -66), (12, -56), (22, -68), (-14, -82), (8, -84)):
        pen.disc(x, y, 3.2, "#d4564a")


def palm(pen: Pen) -> None:
    """A palm tree that leans a little."""
    pen.shadow(4, 24)
    pen.curve([(-6, 0), (-3, -26), (3, -50), (11, -74)], 6.5, "#b08a5b")
    for y, x in ((-12, -4.6), (-24, -3.2), (-36, -0.8), (-48, 2.4), (-60, 6.2)):
        pen.line([(x - 3, y + 1), (x + 3, y)], 1.4, "#8f6d46")
    for i, (tip, bend) in enumerate(
        (
            ((-34, -62), (-14, -84)),
            ((-24, -88), (-4, -90)),
            ((52, -58), (34, -82)),
            ((46, -86), (28, -92)),
            ((16, -100), (18, -88)),
        )
    ):
        leaf = "#5c9a5c" if i % 2 else "#4a8853"
        low = (bend[0] * 0.7 + 11 * 0.3, bend[1] * 0.6 - 72 * 0.4 + 4)
        pen.blob([(11, -76), bend, tip, low], leaf)
    for x, y in ((7, -72), (14, -71), (11, -68)):
        pen.disc(x, y, 3.4, "#7d5538")


def pine(pen: Pen) -> None:
    """A pine tree with snow on its branches."""
    pen.shadow(3, 26)
    pen.polygon([(-4, 0), (4, 0), (4, -16), (-4, -16)], _BARK)
    for y, half, top in ((-12, 29, -52), (-34, 23, -72), (-56, 17, -98)):
        pen.blob(
            [
                (-half, y),
                (-half * 0.45, (y * 2 + top) / 3),
                (0, top),
                (half * 0.45, (y * 2 + top) / 3),
                (half, y),
                (0, y + 5),
            ],
            "#3f7a62",
        )
        pen.blob(
            [
                (-half * 0.36, top * 0.62 + y * 0.38),
                (0, top),
                (half * 0.36, top * 0.62 + y * 0.38),
                (0, top * 0.7 + y * 0.3),
            ],
            "#f3f7fa",
        )
        pen.oval(-half * 0.7, y, half * 0.22, 2.4, "#f3f7fa")
        pen.oval(half * 0.66, y + 0.5, half * 0.26, 2.4, "#f3f7fa")


def tent(pen: Pen) -> None:
    """An orange tent with an open door."""
    pen.shadow(4, 74)
    pen.polygon([(-66, 0), (-8, -88), (4, -92), (20, 0)], "#ee9a52")
    pen.polygon([(4, -92), (14, -88), (70, -6), (20, 0)], "#d17a3d")
    pen.polygon([(-40, 0), (-7, -74), (2, 0)], "#5b4440")
    pen.blob(outline("-40,0 -12,-64 -7,-76 -18,-30 -28,0"), "#f7c48d")
    pen.line([(70, -6), (84, 2)], 1.6, "#6d5b50")
    pen.line([(4, -92), (20, 0)], 1.6, "#f7c48d")
    pen.limb([(4, -92), (4, -104)], 2, _WOOD)
    pen.polygon([(4, -105), (20, -99), (4, -93)], "#d8504a")


def house(pen: Pen) -> None:
    """A small house with a red roof and a chimney."""
    pen.shadow(4, 62)
    pen.polygon([(22, -98), (34, -98), (34, -66), (22, -66)], "#b5705c")
    pen.polygon([(-46, 0), (-46, -56), (46, -56), (46, 0)], "#f6e7c8")
    pen.polygon([(-46, -50), (-46, -57), (46, -57), (46, -50)], "#dcc6a2")
    pen.polygon([(-57, -54), (-30, -94), (30, -94), (57, -54)], "#c9584c")
    for y in (-64, -74, -84):
        pen.line([(-54 - (y + 54) * 0.67, y), (54 + (y + 54) * 0.67, y)], 1.2, "#ab4640")
    pen.polygon([(-10, 0), (-10, -36), (10, -36), (10, 0)], "#8c5f46")
    pen.disc(6, -17, 1.8, "#f0cf7a")
    for x in (-30, 30):
        pen.polygon([(x - 11, -18), (x - 11, -40), (x + 11, -40), (x + 11, -18)], "#ffffff")
        pen.polygon([(x - 9, -20), (x - 9, -38), (x + 9, -38), (x + 9, -20)], "#ffdf8a")
        pen.line([(x, -20), (x, -38)], 1.8, "#ffffff")
        pen.line([(x - 9, -29), (x + 9, -29)], 1.8, "#ffffff")


def bench(pen: Pen) -> None:
    """A wooden bench; its seat is 56 units high."""
    pen.shadow(0, 100)
    for x in (-72, 68):
        pen.polygon([(x, 0), (x, -100), (x + 7, -100), (x + 7, 0)], "#5d5a60")
    for y in (-96, -78):
        pen.polygon([(-90, y), (90, y), (90, y + 13), (-90, y + 13)], "#b5814f")
        pen.polygon([(-90, y + 10), (90, y + 10), (90, y + 13), (-90, y + 13)], "#93653c")
    pen.polygon([(-94, -48), (-86, -58), (86, -58), (94, -48)], "#c99560")
    pen.polygon([(-94, -48), (94, -48), (94, -39), (-94, -39)], "#a1713f")


def slide(pen: Pen) -> None:
    """A playground slide with a ladder."""
    pen.shadow(4, 64)
    for x in (-46, -28):
        pen.limb([(x, 0), (x + 4, -98)], 4.5, "#4d6f9e")
    for y in (-14, -30, -46, -62):
        pen.limb([(-44, y), (-26, y)], 3.6, "#7fa3cf")
    pen.limb([(-2, 0), (-6, -56)], 4, "#4d6f9e")
    pen.blob(outline("-46,-76 -20,-76 10,-44 38,-14 62,-8 62,-1 34,-4 4,-34 -24,-66 -46,-68"), "#d9a531")
    pen.blob(outline("-46,-84 -18,-84 12,-52 40,-22 62,-15 62,-8 37,-14 8,-44 -21,-77 -46,-77"), "#f3c84e")
    pen.limb([(-26, -96), (-12, -84)], 3.6, "#4d6f9e")


def boat(pen: Pen) -> None:
    """A sailing boat on the water."""
    pen.oval(0, 1, 56, 5, "#ffffff60")
    pen.limb([(2, -14), (2, -100)], 3, _BARK)
    pen.blob(outline("6,-96 20,-76 40,-44 48,-24 26,-22 6,-22"), "#fbf6ea")
    pen.blob(outline("-2,-84 -14,-60 -36,-28 -18,-22 -2,-22"), "#e9ddc6")
    pen.polygon([(2, -100), (18, -95), (2, -90)], "#d8504a")
    pen.polygon([(-50, -18), (54, -18), (40, 0), (-36, 0)], "#c4544b")
    pen.polygon([(-50, -18), (54, -18), (51, -13), (-46, -13)], "#fbf6ea")
    pen.oval(2, 2, 44, 3, "#ffffff80")


def sandcastle(pen: Pen) -> None:
    """A sandcastle with three towers and a flag."""
    sand, shade = "#dfb56d", "#bd9050"
    pen.shadow(2, 76)
    pen.limb([(0, -96), (0, -122)], 3, _BARK)
    pen.polygon([(0, -123), (26, -114), (0, -105)], "#d8504a")
    for x, half, top in ((-42, 16, -62), (42, 16, -62), (0, 19, -90)):
        pen.polygon([(x - half, 0), (x - half + 2, top), (x + half - 2, top), (x + half, 0)], sand)
        pen.polygon([(x + half * 0.4, 0), (x + half * 0.4, top), (x + half - 2, top), (x + half, 0)], shade)
        for k in (-1, 0, 1):
            mid = x + k * half * 0.72
            pen.polygon(
                [(mid - 4, top), (mid - 4, top - 10), (mid + 4, top - 10), (mid + 4, top)], sand if k < 1 else shade
            )
    pen.polygon([(-50, 0), (-50, -32), (50, -32), (50, 0)], sand)
    pen.polygon([(-50, -32), (50, -32), (50, -26), (-50, -26)], mix(sand, "#ffffff", 0.3))
    pen.blob(outline("-10,0 -10,-16 0,-24 10,-16 10,0"), "#7e5f3a")
    pen.blob(outline("-72,2 -50,-8 0,-4 50,-8 72,2 0,7"), sand)


def snowman(pen: Pen) -> None:
    """A snowman with a hat, a scarf and a carrot."""
    snow, shade = "#fbfdff", "#ccd9e8"
    pen.shadow(2, 34)
    for side in (-1, 1):
        pen.limb([(side * 18, -46), (side * 38, -62)], 2.6, _BARK)
        pen.limb([(side * 32, -57), (side * 39, -54)], 2, _BARK)
    for y, r in ((-22, 25), (-54, 19), (-80, 15)):
        pen.disc(1.5, y + 1.5, r, shade)
        pen.disc(0, y, r - 0.8, snow)
    pen.limb([(-13, -67), (0, -64), (13, -67)], 6.5, "#cf5148")
    pen.limb([(8, -65), (11, -50)], 6, "#b8433d")
    for y in (-56, -47):
        pen.disc(0, y, 2, "#3a3a44")
    for x in (-5.5, 5.5):
        pen.disc(x, -84, 2, "#3a3a44")
    pen.polygon([(0, -81), (16, -77.5), (0, -76)], "#ec8f3a")
    pen.oval(0, -92, 18, 3.6, "#3f4254")
    pen.blob(outline("-11,-92 -11,-108 0,-110 11,-108 11,-92"), "#3f4254")
    pen.line([(-11, -96), (11, -96)], 3, "#cf5148")


STANDING: dict[str, tuple[float, float, Callable[[Pen], None]]] = {  # its height and where its foot is, in hundredths
    "tree": (62, 75, tree),
    "palm": (62, 76, palm),
    "pine": (62, 75, pine),
    "tent": (33, 75, tent),
    "house": (42, 73, house),
    "bench": (19, 79, bench),
    "slide": (41, 77, slide),
    "boat": (30, 59, boat),
    "sandcastle": (22, 80, sandcastle),
    "snowman": (37, 80, snowman),
}


def ball(pen: Pen, colour: str) -> None:
    """A ball in the air; the origin is its middle."""
    pen.disc(0, 0, 12, colour)
    pen.blob(outline("-12,0 -4,-5 4,-5 12,0 4,2 -4,2"), "#fbf6ea")
    pen.oval(-4, -7, 3, 2, "#ffffff90", turn=-30)


def balloon(pen: Pen, colour: str) -> None:
    """A balloon; the origin is its knot."""
    pen.polygon([(-3.5, 3), (3.5, 3), (0, -3)], mix(colour, "#2b2b44", 0.2))
    pen.blob(outline("0,0 -9,-8 -17,-24 -12,-40 0,-46 12,-40 17,-24 9,-8"), colour)
    pen.oval(-6, -32, 3.4, 6.4, "#ffffff80", turn=22)


def kite(pen: Pen, colour: str) -> None:
    """A kite with a tail of bows; the origin is its middle."""
    tail: list[Point] = [(-8, 28), (-18, 38), (-12, 50), (-24, 60)]
    pen.curve(tail, 1.5, "#7a6a66")
    for x, y in tail[1:]:
        pen.polygon([(x - 6, y - 4), (x + 6, y + 4), (x + 6, y - 4), (x - 6, y + 4)], mix(colour, "#ffffff", 0.2))
    pen.polygon([(10, -32), (24, -2), (-8, 28), (-20, -10)], colour)
    pen.polygon([(10, -32), (24, -2), (0.5, -5)], mix(colour, "#ffffff", 0.45))
    pen.polygon([(-8, 28), (-20, -10), (0.5, -5)], mix(colour, "#ffffff", 0.45))
    pen.line([(10, -32), (-8, 28)], 1.6, "#fbf6ea")
    pen.line([(24, -2), (-20, -10)], 1.6, "#fbf6ea")


def umbrella(pen: Pen, colour: str) -> None:
    """An open umbrella; the origin is the hand that holds it."""
    pen.limb([(0, 8), (-6, -54)], 2.8, "#6b5547")
    top = pen.at(-6, -46)
    top.blob(outline("-46,0 -38,-18 -20,-30 0,-34 20,-30 38,-18 46,0 31,-4 15,0 0,-4 -15,0 -31,-4"), colour)
    top.blob(outline("-15,0 -12,-18 0,-34 12,-18 15,0 0,-4"), mix(colour, "#ffffff", 0.35))
    top.limb([(0, -34), (0, -39)], 2.4, "#6b5547")


def book(pen: Pen, colour: str) -> None:
    """An open book, seen from behind; the origin is its back."""
    for side in (-1, 1):
        pen.polygon(
            [(0, 4), (side * 13, 0), (side * 13, -17), (0, -12)], mix(colour, "#2b2b44", 0.12 if side < 0 else 0.0)
        )
        pen.polygon([(0, -12), (side * 13, -17), (side * 12, -19.5), (0, -14.5)], "#fbf6ea")
