"""Caption files of Flickr8k and Flickr30k: lines `NAME.jpg#0<TAB>caption`."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from captioning.data.datasets.base import one_line
from captioning.system.documents import REMEDY
from captioning.system.errors import UserError, quote, shown
from captioning.system.image_names import last


def parse_captions(text: str, location: str) -> dict[str, list[str]]:
    """Text of such lines → image's file name → captions, both in the order of the file.

    Raises UserError with `place` and the line number for any other line.
    """
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(lines(text), start=1):
        key, tab, caption = line.partition("\t")
        image, _, index = key.rpartition("#")
        if not (tab and image and index.isdecimal() and caption.strip()):
            raise UserError(f"{location}, line {number}: {quote(line)} is not NAME.jpg#0<TAB>caption; {REMEDY}")
        captions.setdefault(image, []).append(one_line(f"{location}, line {number}", caption))
    return captions


def lines(text: str) -> list[str]:
    """Lines that end in `\\n` or `\\r\\n`, and in nothing else that Unicode knows."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def counts(captions: Mapping[str, Sequence[str]], splits: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Split → images, captions. splits: image's file name → split."""
    images = Counter(splits.values())
    captions_of_split: Counter[str] = Counter()
    for image, split in splits.items():
        captions_of_split[split] += len(captions.get(image, ()))
    return {split: (images[split], captions_of_split[split]) for split in images}


def without_image(captions: Mapping[str, Sequence[str]], images: Collection[str]) -> list[str]:
    """A note on the captions of images that the archive does not have."""
    unknown = sorted(image for image in captions if last(image) not in images)
    count = sum(len(captions[image]) for image in unknown)
    return (
        [f"{count} captions of images that do not exist are left out: {', '.join(map(shown, unknown))}"]
        if unknown
        else []
    )
