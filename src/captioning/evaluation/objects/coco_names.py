"""Words of captions for COCO's 80 kinds of objects (Lin et al. 2014). Plurals are made by `names`.

The list is short, and this project's own: a word is in it if it is common in captions and hardly means anything else.
`glass`, `plant` and the singular `orange` are left out: they mostly mean a material, any plant, and a colour.
"""

from collections.abc import Mapping, Sequence

NAMES: Mapping[str, Sequence[str]] = {
    "person": (
        *("man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "lady", "guy", "adult", "player"),
        *("batter", "catcher", "umpire", "rider", "skier", "snowboarder", "skateboarder", "surfer", "policeman"),
    ),
    "bicycle": (),
    "car": ("automobile", "cab", "sedan", "suv", "taxi"),
    "motorcycle": ("moped", "motorbike", "scooter"),
    "airplane": ("aeroplane", "aircraft", "airliner", "jet", "plane"),
    "bus": (),
    "train": ("locomotive",),
    "truck": ("lorry", "pickup"),
    "boat": ("canoe", "ferry", "kayak", "sailboat", "ship"),
    "traffic light": ("stop light", "stoplight", "traffic signal"),
    "fire hydrant": ("hydrant",),
    "stop sign": (),
    "parking meter": (),
    "bench": (),
    "bird": ("duck", "goose", "parrot", "pigeon", "seagull"),
    "cat": ("kitten",),
    "dog": ("puppy",),
    "horse": ("foal", "pony"),
    "sheep": ("lamb",),
    "cow": ("bull", "calf", "cattle"),
    "elephant": (),
    "bear": (),
    "zebra": (),
    "giraffe": (),
    "backpack": ("rucksack",),
    "umbrella": ("parasol",),
    "handbag": ("purse",),
    "tie": ("necktie",),
    "suitcase": (),
    "frisbee": (),
    "skis": ("ski",),
    "snowboard": (),
    "sports ball": ("ball",),
    "kite": (),
    "baseball bat": ("bat",),
    "baseball glove": ("mitt",),
    "skateboard": (),
    "surfboard": (),
    "tennis racket": ("racket", "racquet", "tennis racquet"),
    "bottle": (),
    "wine glass": (),
    "cup": ("mug",),
    "fork": (),
    "knife": (),
    "spoon": (),
    "bowl": (),
    "banana": (),
    "apple": (),
    "sandwich": (),
    "broccoli": (),
    "carrot": (),
    "hot dog": (),
    "pizza": (),
    "donut": ("doughnut",),
    "cake": (),
    "chair": (),
    "couch": ("sofa",),
    "potted plant": (),
    "bed": (),
    "dining table": ("table",),
    "toilet": (),
    "tv": ("television",),
    "laptop": (),
    "mouse": (),
    "remote": ("remote control",),
    "keyboard": (),
    "cell phone": ("cellphone", "phone", "smartphone"),
    "microwave": ("microwave oven",),
    "oven": ("stove",),
    "toaster": (),
    "sink": (),
    "refrigerator": ("fridge",),
    "book": (),
    "clock": (),
    "vase": (),
    "scissors": (),
    "teddy bear": ("stuffed bear", "teddy"),
    "hair drier": ("hair dryer",),
    "toothbrush": (),
}

OTHERS: Mapping[str, Sequence[str]] = {
    "bike": ("bicycle", "motorcycle"),
    "van": ("car", "truck"),
    "oranges": ("orange",),
}
"""Words that may mean any of several kinds, and one whose singular is a colour first."""

ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
YOUNG = ("adult", "baby")
"""Ahead of an animal these are no people."""

COMPOUNDS = (
    *("train track", "train station", "train platform", "bus stop", "bus station", "boat dock", "car park"),
    *("bow tie", "toilet paper", "toilet seat", "bird house", "dog house", "table tennis", "phone booth"),
    *("apple pie", "carrot cake", "cup holder", "dvd player", "jet ski"),
)
"""Names in which a word of NAMES means no such object."""
