"""The words of the sentences: what things are called, and what people and animals are said to do.

A list is drawn from evenly, or by `often`: mostly its first entry, which is the usual way to say it.
"""

NAMES = {
    "boy": ("boy", "little boy", "young boy"),
    "girl": ("girl", "little girl", "young girl"),
    "dog": ("dog", "puppy", "little dog"),
    "cat": ("cat", "kitten", "little cat"),
    "rabbit": ("rabbit", "bunny", "little rabbit"),
    "duck": ("duck", "little duck"),
    "sheep": ("sheep", "woolly sheep"),
    "bird": ("bird", "small bird"),
}
VAGUE = ("kid", "child")
PAIRS = {
    ("boy", "girl"): ("a boy and a girl", "two children", "two kids"),
    ("boy", "boy"): ("two boys", "two children", "two kids"),
    ("girl", "girl"): ("two girls", "two children", "two kids"),
}
CLOTHES = {"boy": ("shirt", "t-shirt"), "girl": ("dress", "summer dress"), "snow": ("coat", "jacket")}
HATS = {"boy": ("cap", "hat"), "girl": ("hat", "straw hat"), "snow": ("woolly hat", "hat")}
THINGS = {
    "tree": ("tree", "big tree", "apple tree"),
    "palm": ("palm tree", "tall palm tree"),
    "pine": ("pine tree", "tree", "tall pine tree"),
    "tent": ("tent", "orange tent"),
    "house": ("house", "small house", "house with a red roof", "cottage"),
    "bench": ("bench", "wooden bench", "park bench"),
    "slide": ("slide", "yellow slide"),
    "boat": ("boat", "sailboat", "boat with a white sail"),
    "sandcastle": ("sandcastle", "big sandcastle", "sandcastle with a flag"),
    "snowman": ("snowman", "big snowman", "snowman with a red scarf"),
}

# what they do, behind `is`; {prop} is a colour and what is held
DEEDS = {
    "waving": ("waving", "waving hello", "raising one arm"),
    "running": ("running", "running fast", "racing along", "hurrying along"),
    "jumping": ("jumping", "jumping for joy", "leaping up", "jumping high"),
    "sitting": ("sitting", "sitting down", "resting"),
    "kicking": ("kicking {prop}", "playing with {prop}"),
    "holding": ("holding {prop}", "carrying {prop}"),
    "flying": ("flying {prop}", "playing with {prop}"),
    "sheltering": ("holding {prop}", "standing under {prop}"),
    "reading": ("reading {prop}", "looking at {prop}"),
}
HABITS = {
    "running": ("running", "racing along"),
    "sitting": ("sitting", "resting"),
    "standing": ("standing", "waiting"),
    "sleeping": ("sleeping", "taking a nap", "lying down"),
    "hopping": ("hopping", "jumping", "bouncing along"),
    "walking": ("walking", "waddling"),
    "flying": ("flying", "soaring"),
}
SIMPLE = {  # the usual way to say it, in the simple present
    "waving": "waves",
    "running": "runs",
    "jumping": "jumps",
    "sitting": "sits",
    "kicking": "kicks {prop}",
    "holding": "holds {prop}",
    "flying": "flies {prop}",
    "sheltering": "holds {prop}",
    "reading": "reads {prop}",
    "standing": "stands",
    "sleeping": "sleeps",
    "hopping": "hops",
    "walking": "walks",
}

PLACES = {
    "meadow": ("in a field", "in the meadow", "on the grass", "in a green field", "among the flowers"),
    "park": ("in the park", "at the park", "on the grass in the park"),
    "beach": ("on the beach", "at the beach", "on the sand", "by the sea", "by the ocean"),
    "snow": ("in the snow", "on the snow", "in the cold snow"),
}
BELOW = {"meadow": "the field", "park": "the park", "beach": "the beach", "snow": "the snow"}
WEATHER = {
    "sunny": ("on a sunny day", "in the sun", "in the sunshine", "under a blue sky", "on a bright day"),
    "cloudy": ("on a cloudy day", "under a cloudy sky", "under the clouds", "on a grey day", "under grey clouds"),
    "rainy": ("in the rain", "on a rainy day", "while it rains", "under dark clouds"),
    "snowy": ("while it is snowing", "on a snowy day", "while snow is falling", "on a winter day"),
    "evening": ("at sunset", "in the evening", "under a pink sky", "as the sun goes down", "at dusk"),
    "night": ("at night", "under the stars", "in the moonlight", "under the moon", "in the dark"),
}
CLAUSES = {
    "sunny": ("the sun is shining", "the sun is out", "it is a sunny day"),
    "cloudy": ("it is cloudy", "the sky is full of clouds", "it is a cloudy day"),
    "rainy": ("it is raining", "rain is falling", "it is a rainy day"),
    "snowy": ("it is snowing", "snow is falling", "it is a snowy day"),
    "evening": ("the sun is setting", "the sun is going down", "it is evening"),
    "night": ("it is night", "the moon is shining", "the moon and stars are out"),
}
BESIDE = ("next to", "beside", "near")
