"""Children: 100 units tall, standing on the origin, facing +x."""

from dataclasses import dataclass
from random import Random

from captioning.data.datasets.scenes.pen import Pen, Point, mix, outline

PAINTS = {
    "red": "#d8504a",
    "blue": "#3f78bf",
    "yellow": "#f2c344",
    "green": "#2f9268",
    "purple": "#8a62b3",
}
_LOOKS = (  # skin and hair
    ("#f6cfae", "#d9a24c"),
    ("#f6cfae", "#a94f2c"),
    ("#f6cfae", "#7a4f30"),
    ("#eab98f", "#5a3a28"),
    ("#eab98f", "#2e2726"),
    ("#eab98f", "#d9a24c"),
    ("#c98f63", "#2e2726"),
    ("#c98f63", "#5a3a28"),
    ("#8d5b3e", "#2e2726"),
    ("#8d5b3e", "#44302a"),
)
_DARK = "#3a2e2e"

Limb = tuple[Point, Point]  # the middle joint and the end


@dataclass(frozen=True)
class Pose:
    """Where the limbs go, in units of a child that stands; `drop` lowers the body, `lift` raises the child."""

    back_arm: Limb
    front_arm: Limb
    back_leg: Limb
    front_leg: Limb
    drop: float = 0.0
    lift: float = 0.0
    lean: float = 0.0  # how far the head is in front of the hips


_DOWN: Limb = ((-16, -46), (-18, -35))
_STAND: tuple[Limb, Limb] = (((-6, -16), (-7, -2)), ((6, -16), (7, -2)))
_FLOOR: tuple[Limb, Limb] = (((10, -12), (29, -4)), ((15, -13), (37, -2)))
_HOLD: Limb = ((19, -48), (26, -60))

POSES = {
    "standing": Pose(_DOWN, ((16, -46), (18, -35)), *_STAND),
    "waving": Pose(_DOWN, ((24, -62), (28, -80)), *_STAND),
    "running": Pose(((-20, -50), (-14, -36)), ((20, -48), (30, -58)), ((-12, -20), (-29, -17)),
                    ((17, -26), (19, -7)), lift=3, lean=5),
    "jumping": Pose(((-23, -62), (-27, -82)), ((24, -62), (28, -82)), ((-15, -22), (-21, -7)),
                    ((15, -24), (13, -6)), lift=17),
    "sitting": Pose(((-14, -44), (-22, -30)), ((13, -46), (20, -36)), *_FLOOR, drop=24),
    "seated": Pose(((-14, -44), (-20, -32)), ((13, -46), (18, -35)), ((11, -28), (11, -2)),
                   ((18, -27), (19, -2)), drop=2),
    "reading": Pose(((6, -48), (17, -46)), ((14, -45), (22, -44)), *_FLOOR, drop=24),
    "kicking": Pose(((-22, -54), (-32, -62)), ((20, -54), (29, -46)), ((-4, -16), (-6, -2)),
                    ((14, -26), (29, -15)), lean=-2),
    "holding": Pose(_DOWN, _HOLD, *_STAND),
    "flying": Pose(((12, -50), (22, -60)), ((21, -62), (29, -76)), ((-7, -16), (-9, -2)), ((6, -16), (8, -2)), lean=-2),
}  # fmt: skip


def child(pen: Pen, kind: str, colour: str, pose: Pose, *, hat: bool, coat: bool, rng: Random) -> None:
    """Draw a boy or a girl in clothes of one colour; `rng` picks the skin and the hair."""
    (skin, hair), style = rng.choice(_LOOKS), rng.randrange(2)
    cloth, legwear = PAINTS[colour], rng.choice(("#4c5870", "#6b5d55", "#5c7287"))
    smile = pose.lift > 0
    body = pen.at(0, pose.drop - pose.lift)
    feet = pen.at(0, -pose.lift)
    head = body.at(pose.lean, -78)
    if kind == "girl":
        (_pigtails, _long)[style](head, hair, mix(cloth, "#ffffff", 0.25))
    _arm(body, pose.back_arm, -9, mix(cloth, "#2b2b44", 0.18), mix(skin, "#6b3f33", 0.12), coat=coat)
    for leg, hip in ((pose.back_leg, -5.0), (pose.front_leg, 5.0)):
        _leg(feet, leg, (hip, -31 + pose.drop), skin, legwear if coat or kind == "boy" else None, coat=coat)
    if kind == "girl":
        _dress(body, cloth, sitting=pose.drop > 10)
    else:
        _shirt(body, cloth, legwear)
    _arm(body, pose.front_arm, 9, cloth, skin, coat=coat)
    if coat:
        body.limb([(-7, -60), (8, -60)], 7, mix(cloth, "#ffffff", 0.72))
        body.limb([(7, -60), (9, -48)], 6, mix(cloth, "#ffffff", 0.62))
    _face(head, skin, smile=smile)
    ((_parted, _fringe) if kind == "girl" else (_short, _curls))[style](head, hair)
    if hat:
        (_beanie if coat else _cap if kind == "boy" else _sunhat)(head, cloth)


def _arm(pen: Pen, limb: Limb, shoulder: float, cloth: str, skin: str, *, coat: bool) -> None:
    elbow, hand = limb
    pen.limb([(shoulder, -56), elbow, hand], 7, cloth if coat else skin)
    middle = ((shoulder + elbow[0]) / 2, (elbow[1] - 56) / 2)
    pen.limb([(shoulder, -56), elbow if coat else middle], 9.5, cloth)
    pen.disc(*hand, 4.6, skin)


def _leg(pen: Pen, limb: Limb, hip: Point, skin: str, legwear: str | None, *, coat: bool) -> None:
    knee, foot = limb
    pen.limb([hip, knee, foot], 8, legwear if legwear and coat else skin)
    if legwear and not coat:
        pen.limb([hip, knee], 11, legwear)
    toe = 4.5 if foot[1] > knee[1] else 3.0
    pen.oval(foot[0] + toe / 2, foot[1] - 0.5, 6.5, 4, "#6d4a3c" if coat else "#4a4653")


def _shirt(pen: Pen, cloth: str, legwear: str) -> None:
    pen.blob(outline("-10,-36 10,-36 11,-29 0,-27 -11,-29"), legwear)
    pen.blob(outline("-9,-61 0,-63 9,-61 13,-53 12,-36 11,-32 0,-31 -11,-32 -12,-36 -13,-53"), cloth)
    pen.line([(-11.4, -45), (11.4, -45)], 3.2, mix(cloth, "#ffffff", 0.55))


def _dress(pen: Pen, cloth: str, *, sitting: bool) -> None:
    flare = 15 if sitting else 19
    hem = -24 if sitting else -19
    pen.blob(
        [
            (-8, -61),
            (0, -63),
            (8, -61),
            (11, -52),
            (11, -42),
            (flare, hem),
            (0, hem + 3),
            (-flare, hem),
            (-11, -42),
            (-11, -52),
        ],
        cloth,
    )
    pen.line([(-10.6, -42.5), (10.6, -42.5)], 2.8, mix(cloth, "#ffffff", 0.55))


def _face(pen: Pen, skin: str, *, smile: bool) -> None:
    pen.disc(-17, 3, 4, mix(skin, "#8c4a3a", 0.12))
    pen.disc(17.5, 3, 4, mix(skin, "#8c4a3a", 0.12))
    pen.blob(outline("-17.5,-2 -12,-15 0,-19 12,-15 17.5,-2 14,11 0,17.5 -14,11"), skin)
    for side in (-1, 1):
        pen.oval(3 + side * 6.6, 1, 2.2, 2.9, _DARK)
        pen.disc(3.8 + side * 6.6, 0, 0.8, "#ffffff")
        pen.oval(2 + side * 11, 7, 3.4, 2.5, "#e8695f5a")
    pen.disc(3.6, 5.2, 1.3, mix(skin, "#8c4a3a", 0.3))
    if smile:
        pen.blob(outline("-2.6,8.2 3,9 8.6,8.2 6.4,13 3,14.2 -0.4,13"), "#9c3f3c")
        pen.oval(3, 12.6, 2.4, 1.3, "#e88a84")
    else:
        pen.curve(outline("-2,8.6 0.6,10.8 3,11.3 5.4,10.8 8,8.6"), 1.6, "#94443c")


def _pigtails(pen: Pen, hair: str, ribbon: str) -> None:
    pen.oval(0, -2, 19.5, 18.5, hair)
    for side in (-1, 1):
        pen.oval(side * 25, 6, 7, 11.5, hair, turn=-side * 18)
        pen.disc(side * 20, -4, 4, ribbon)


def _long(pen: Pen, hair: str, ribbon: str) -> None:
    pen.blob(outline("-20,-4 -13,-19 0,-22 13,-19 20,-4 21,14 15,24 0,22 -17,25 -22,14"), hair)
    pen.disc(-15, -17, 4, ribbon)


def _short(pen: Pen, hair: str) -> None:
    pen.blob(outline("-19,1 -19,-11 -9,-21 5,-22 17,-15 19,0 15.5,-6 9,-9 2,-7 -6,-9 -13,-7 -16,-1"), hair)


def _curls(pen: Pen, hair: str) -> None:
    for x, y, r in ((-15, -8, 6), (-10, -15, 7), (-1, -18, 8), (8, -16, 7), (15, -9, 6)):
        pen.disc(x, y, r, hair)


def _parted(pen: Pen, hair: str) -> None:
    pen.blob(outline("-19,3 -19,-10 -10,-20 0,-22 10,-20 19,-10 19,3 15,-5 9,-10 2,-15 -6,-9 -14,-4"), hair)


def _fringe(pen: Pen, hair: str) -> None:
    pen.blob(outline("-19,4 -19,-10 -10,-20 0,-22 10,-20 19,-10 19,4 16,-6 8,-8 0,-7 -8,-7 -15,-5"), hair)


def _cap(pen: Pen, cloth: str) -> None:
    shade = mix(cloth, "#2c3550", 0.45)
    pen.blob(outline("-19,-6 -17,-17 -6,-25 6,-25 17,-17 19,-6 8,-9 -8,-9"), shade)
    pen.blob(outline("3,-10 17,-9 29,-4 27,-1 15,-4 4,-6"), mix(shade, "#14182a", 0.25))
    pen.disc(0, -25, 2.2, mix(shade, "#14182a", 0.25))


def _sunhat(pen: Pen, cloth: str) -> None:
    pen.oval(0, -10, 29, 6.5, "#e2bd7c")
    pen.blob(outline("-16,-11 -15,-21 -7,-28 7,-28 15,-21 16,-11 0,-8"), "#edcf96")
    pen.blob(outline("-16,-11 -15.8,-16 0,-13.5 15.8,-16 16,-11 0,-8"), mix(cloth, "#ffffff", 0.15))


def _beanie(pen: Pen, cloth: str) -> None:
    pen.disc(0, -29, 6, "#f7f3ea")
    pen.blob(outline("-19,-7 -16,-20 -6,-27 6,-27 16,-20 19,-7 0,-9"), mix(cloth, "#2c3550", 0.3))
    pen.limb([(-16, -9), (0, -11), (16, -9)], 7, "#f7f3ea")
