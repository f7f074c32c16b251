"""Sky, light and ground, in hundredths of the image; the horizon is 50 down."""

from random import Random

from captioning.data.datasets.scenes.pen import Pen, Tint, mix, outline

HORIZON = 50
_SKIES = {
    "sunny": ("#7fbde8", "#b5dcf0", "#e6f4f4"),
    "cloudy": ("#a9bccb", "#c4d0d8", "#e2e8ea"),
    "rainy": ("#71818f", "#92a0ab", "#b7c2c8"),
    "snowy": ("#93a5b9", "#b3c1cf", "#d5dde4"),
    "evening": ("#8d7fb5", "#ee9f8c", "#fce0a8"),
    "night": ("#1d2a52", "#33477a", "#5c74a6"),
}
GROUND_LIGHT: dict[str, Tint] = {
    "sunny": ("#fff0b8", 0.08),
    "cloudy": ("#98a5af", 0.18),
    "rainy": ("#5f6d7a", 0.34),
    "snowy": ("#8fa0b5", 0.16),
    "evening": ("#e07f5c", 0.28),
    "night": ("#1a2853", 0.46),
}


def light(weather: str, share: float) -> Tint:
    """The light of the weather at `share` of its strength on the ground."""
    colour, amount = GROUND_LIGHT[weather]
    return colour, amount * share


def _fade(pen: Pen, top: float, bottom: float, stops: tuple[str, ...]) -> None:
    steps = max(2, round(bottom - top))
    height = (bottom - top) / steps
    for i in range(steps):
        at = i / steps * (len(stops) - 1)
        colour = mix(stops[int(at)], stops[int(at) + 1], at - int(at))
        y = top + i * height
        pen.polygon([(0, y), (100, y), (100, y + height + 0.2), (0, y + height + 0.2)], colour)


def sky(pen: Pen, weather: str, lamp_x: float, rng: Random) -> None:
    """The sky with sun, moon, stars or clouds; the sun or the moon is at `lamp_x`."""
    _fade(pen, 0, HORIZON + 6, _SKIES[weather])
    if weather == "sunny":
        for r, colour in ((15, "#fff3c030"), (11.5, "#fff0b060"), (8.6, "#ffd95e")):
            pen.disc(lamp_x, 15, r, colour)
        _cloud(pen, 100 - lamp_x + rng.uniform(-8, 8), rng.uniform(16, 24), 0.75, "#ffffff")
    elif weather == "evening":
        for r, colour in ((24, "#ffe9b02c"), (17, "#ffe3a048"), (11.5, "#ffcf6b")):
            pen.disc(lamp_x, 45, r, colour)
        for _ in range(3):
            x, y = rng.uniform(5, 95), rng.uniform(10, 30)
            pen.blob([(x - 16, y), (x, y - 1.6), (x + 16, y), (x, y + 1.6)], "#f9c3a8")
    elif weather == "night":
        _night(pen, lamp_x, rng)
    else:
        _overcast(pen, weather, rng)


def _night(pen: Pen, lamp_x: float, rng: Random) -> None:
    for _ in range(22):
        x, y, r = rng.uniform(2, 98), rng.uniform(3, 44), rng.uniform(0.35, 0.85)
        star = outline("-2,0 -0.5,-0.5 0,-2 0.5,-0.5 2,0 0.5,0.5 0,2 -0.5,0.5")
        pen.at(x, y, r).polygon(star, "#f7efc4")
    pen.disc(lamp_x, 16, 12.5, "#dfe6f51c")
    pen.disc(lamp_x, 16, 8, "#f6edc6")
    for x, y, r in ((-2.6, -2, 1.6), (2.4, 1.8, 2), (-1.6, 3.6, 1.1)):
        pen.disc(lamp_x + x, 16 + y, r, "#e2d6a8")


def _overcast(pen: Pen, weather: str, rng: Random) -> None:
    shade = {"cloudy": "#f4f6f7", "rainy": "#5c6a78", "snowy": "#eef2f6"}[weather]
    for i in range(4):
        x = 8 + i * 28 + rng.uniform(-6, 6)
        _cloud(
            pen,
            x,
            rng.uniform(9, 15) + 11 * (i % 2),
            rng.uniform(0.95, 1.2),
            mix(shade, "#ffffff" if i % 2 else "#8494a2", 0.14),
        )


def _cloud(pen: Pen, x: float, y: float, scale: float, colour: str) -> None:
    cloud = pen.at(x, y, scale)
    for shift, tone in ((0.9, mix(colour, "#7f93a8", 0.22)), (0.0, colour)):
        for cx, cy, r in ((-11, 1, 5), (-4.5, -2.5, 7), (4, -1.5, 6.2), (11, 1.4, 4.6)):
            cloud.disc(cx, cy + shift, r, tone)
        cloud.polygon([(-11, 1 + shift), (11, 1 + shift), (11, 6 + shift), (-11, 6 + shift)], tone)


def weather_in_front(pen: Pen, weather: str, rng: Random) -> None:
    """Rain or snow between the viewer and the scene."""
    if weather == "rainy":
        for _ in range(45):
            x, y, size = rng.uniform(-2, 104), rng.uniform(-4, 98), rng.uniform(3, 5.5)
            pen.line([(x, y), (x - size * 0.3, y + size)], 0.5, "#e3edf5a0")
    elif weather == "snowy":
        for _ in range(55):
            pen.disc(rng.uniform(0, 100), rng.uniform(0, 100), rng.uniform(0.5, 1.1), "#ffffffe0")


def ground(pen: Pen, place: str, rng: Random) -> None:
    """Everything below the horizon, under the pen's light."""
    {"meadow": _meadow, "park": _park, "beach": _beach, "snow": _snow}[place](pen, rng)


def _hill(pen: Pen, rng: Random, height: float, colour: str) -> None:
    crest = [(x, HORIZON - height * rng.uniform(0.1, 1.0)) for x in range(-20, 121, 28)]
    pen.blob([*crest, (140, 60), (140, 80), (-40, 80), (-40, 60)], colour)


def _meadow(pen: Pen, rng: Random) -> None:
    _hill(pen, rng, 12, "#a9cdb0")
    _hill(pen, rng, 6, "#93c48c")
    _fade(pen, HORIZON + 4, 100, ("#9fcf7c", "#b4d783", "#8dbf66"))
    for _ in range(18):
        x, y = rng.uniform(2, 98), rng.uniform(60, 98)
        size = (y - 40) / 50
        for lean in (-1, 0, 1):
            pen.line([(x, y), (x + lean * size, y - 2.2 * size)], 0.5 * size, "#75a957")
    for _ in range(16):
        x, y = rng.uniform(2, 98), rng.uniform(62, 98)
        size = (y - 35) / 50
        pen.disc(x, y, 1.15 * size, rng.choice(("#fbf7ec", "#f4b8c4", "#f6dd7a", "#c9b3e6")))
        pen.disc(x, y, 0.45 * size, "#e9a83f")


def _park(pen: Pen, rng: Random) -> None:
    x = -4.0
    while x < 106:
        r = rng.uniform(6, 9.5)
        leaf = rng.choice(("#84b184", "#93bd85", "#79a67d"))
        pen.line([(x, 54), (x, 46)], 1.6, "#8a7460")
        pen.disc(x, 44 - r * 0.4, r, leaf)
        pen.disc(x - r * 0.2, 43 - r * 0.6, r * 0.65, mix(leaf, "#f4f3b0", 0.18))
        x += r * 1.7
    for i in range(21):
        pen.disc(i * 5, 52.5, 3.6, "#6f9f6c")
    _fade(pen, HORIZON + 3, 100, ("#93c27e", "#a5cf8b", "#84b56f"))
    bend = rng.uniform(-12, 12)
    pen.blob(
        [
            (47, 53),
            (53, 53),
            (60 + bend, 66),
            (50 + bend, 78),
            (74, 104),
            (80, 130),
            (0, 130),
            (14, 104),
            (34 + bend, 78),
            (46 + bend, 66),
        ],
        "#eadcc2",
    )


def _beach(pen: Pen, rng: Random) -> None:
    _fade(pen, HORIZON - 2, 66, ("#4f9fc0", "#6cb9cd", "#9bd8d8"))
    for _ in range(10):
        x, y = rng.uniform(0, 100), rng.uniform(HORIZON, 60)
        pen.line([(x - 4, y), (x + 4, y)], 0.5, "#ffffff70")
    shore = [(x, 63 + rng.uniform(-1.2, 1.8)) for x in range(-10, 121, 20)]
    tail = [(130.0, 80.0), (130.0, 110.0), (-20.0, 110.0), (-20.0, 80.0)]
    pen.blob([*((x, y - 1.8) for x, y in shore), *tail], "#ffffff")
    pen.blob([*shore, *tail], "#e3c893")
    pen.blob([*((x, y + 3) for x, y in shore), *tail], "#f3deae")
    _fade(pen, 72, 100, ("#f3deae", "#efd5a0", "#e7c88d"))
    for _ in range(14):
        x, y = rng.uniform(3, 97), rng.uniform(72, 98)
        pen.oval(x, y, 0.9, 0.6, rng.choice(("#fbf3e4", "#e9a99a", "#cda873", "#f6c9b8")))


def _snow(pen: Pen, rng: Random) -> None:
    _hill(pen, rng, 13, "#c9d9e8")
    for _ in range(9):
        x, size = rng.uniform(0, 100), rng.uniform(6, 11)
        for k in (0.0, 0.3, 0.55):
            half = size * 0.34 * (1 - k)
            pen.polygon(
                [(x - half, 52 - size * k), (x, 52 - size * (k + 0.5)), (x + half, 52 - size * k)],
                mix("#6f9d97", "#ffffff", k * 0.6),
            )
    _hill(pen, rng, 4, "#e2ecf5")
    _fade(pen, HORIZON + 4, 100, ("#eef4f9", "#fbfcfd", "#dde8f2"))
    for _ in range(5):
        x, y = rng.uniform(0, 100), rng.uniform(62, 96)
        pen.blob([(x - 13, y), (x, y - 1.4), (x + 13, y), (x, y + 1)], "#d7e4f0")
