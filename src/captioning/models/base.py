"""What every model for people has: it is called with images and gives captions, whoever made it.

T words with `<eos>`, H, W rows and columns of the grid of regions, R regions of objects.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from PIL import Image

from captioning.data.objects.tables import PUBLISHED, shown_identity
from captioning.models.sources import Read, is_one, read
from captioning.settings.search import USUAL, SearchOptions
from captioning.system import scripts
from captioning.system.errors import UserError

if TYPE_CHECKING:
    from captioning.data.objects.labels import Found
    from captioning.evaluation.attending import Attended
    from captioning.models.sources import Source


@dataclass(frozen=True)
class Caption:
    """A caption of an image.

    text: the caption. confidence: how likely it is to be acceptable, from 0 to 1, calibrated on validation images;
    None where the model has no calibration. score: what captions are ranked by. log_probability: in nats.
    """

    text: str
    confidence: float | None
    score: float
    log_probability: float
    _attend: Callable[[str], "Attended | None"] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def record(self) -> dict[str, str | float | None]:
        """The caption as JSON has it; −∞ is null."""
        numbers = {"confidence": self.confidence, "score": self.score, "log_probability": self.log_probability}
        finite = {name: x if x is not None and math.isfinite(x) else None for name, x in numbers.items()}
        return {"caption": self.text} | {name: x for name, x in finite.items() if name != "confidence" or x is not None}

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the caption."""
        return tuple(scripts.split(self.text))

    @property
    def attention(self) -> np.ndarray | None:
        """Where the decoder looked at each word and at the end: (T, H, W); computed when it is first asked.

        The weights of a word have a sum of 1, or less if the model reads captions of neighbours too, whose share is
        left out. The grid covers what the model sees of the image. Of a model that reads objects (T, R):
        `attended.boxes` says where the R regions are. None where the decoder does not attend.
        """
        return None if self.attended is None else self.attended.weights

    @cached_property
    def attended(self) -> "Attended | None":
        """The words, with `<eos>`, and `attention`."""
        return self._attend(self.text)


class Captioned(NamedTuple):
    """What `Model.batch` says of an image: captions, best first, and its distance from the training images."""

    captions: list[Caption]
    distance: float

    @property
    def unlike(self) -> bool:
        """Is the image unlike those that the model was trained on?"""
        return self.distance > 1


class Model(ABC):
    """A model: call it with images. It may be called from several threads."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.titles = tuple(titles)

    def __repr__(self) -> str:
        return f"<captioning model {', '.join(self.titles)}>"

    @overload
    def __call__(
        self, images: "Source", *, n_best: None = ..., must: Iterable[str] = ..., **search: Any
    ) -> Caption: ...

    @overload
    def __call__(self, images: "Source", *, n_best: int, must: Iterable[str] = ..., **search: Any) -> list[Caption]: ...

    @overload
    def __call__(
        self, images: "Sequence[Source]", *, n_best: None = ..., must: Iterable[str] = ..., **search: Any
    ) -> list[Caption]: ...

    @overload
    def __call__(
        self, images: "Sequence[Source]", *, n_best: int, must: Iterable[str] = ..., **search: Any
    ) -> list[list[Caption]]: ...

    def __call__(
        self,
        images: Any,
        *,
        n_best: int | None = None,
        must: Iterable[str] = (),
        batch_size: int = 16,
        **search: Any,
    ) -> Caption | list[Caption] | list[list[Caption]]:
        """Caption one image, or a sequence of them.

        images: see `captioning.models.sources.read`. n_best: a list of so many captions for each image, best first.
        must: words or phrases that captions have. batch_size: images captioned together. search: as for
        `captioning predict`, by name: beam_size, max_words, method, temperature, seed and the others.
        One image gives a Caption, or with n_best a list; a sequence gives a list of these, in its order.
        Raises UserError (a ValueError) for options that contradict each other and images that cannot be decoded,
        OSError for a file that cannot be read, TypeError for what is no image or no option.
        """
        options = self.options(n_best=1 if n_best is None else n_best, must=must, **search)
        listed = [images] if is_one(images) else list(images)
        found: list[list[Caption]] = []
        for start in range(0, len(listed), batch_size):
            found += [
                one.captions for one in self.batch([read(x) for x in listed[start : start + batch_size]], options)
            ]
        answers: list[Any] = found if n_best is not None else [captions[0] for captions in found]
        return answers[0] if is_one(images) else answers

    @abstractmethod
    def options(self, *, must: Iterable[str] = (), beam_size: int | None = None, **search: Any) -> SearchOptions:
        """How to search: `captioning predict`'s defaults, changed by what is given.

        Raises TypeError for an unknown name, UserError where options contradict each other, or the model cannot
        search so.
        """

    @property
    def objects(self) -> dict[str, str]:
        """What kind of objects the model reads, as `tables.identity` has it; empty for a model that reads none."""
        return {}

    @property
    def finds_objects(self) -> bool:
        """Does the model have a detector, which finds the objects that it reads?"""
        return False

    def find(self, _image: Image.Image) -> "list[Found]":
        """The objects of an image, best first, in its pixels; none where the model has no detector."""
        return []

    def refuse_objects(self, remedy: str) -> None:
        """Raise UserError, which ends in `remedy`, for a model that reads objects which nothing here finds.

        So it is with published vectors, and there no table helps.
        """
        self.refuse_vectors()
        if self.objects and not self.finds_objects:
            kind = shown_identity(self.objects)
            raise UserError(f"{', '.join(self.titles)}: this model reads the objects of an image, {kind}; {remedy}")

    def refuse_vectors(self) -> None:
        """Raise UserError for a model that reads published vectors of objects, which nothing here makes of an image."""
        if self.objects.get("kind") == PUBLISHED:
            raise UserError(
                f"{', '.join(self.titles)}: this model reads {shown_identity(self.objects)}: vectors of objects which "
                "nothing here makes of an image; it captions the images of its run, with `dvc repro`"
            )

    @property
    def reads_tags(self) -> bool:
        """Does the model read the names of objects too?"""
        return False

    def batch_of_objects(
        self,
        images: Sequence[Read],
        objects: "Sequence[Sequence[Found]]",
        options: SearchOptions,
        tags: str | None = None,
    ) -> list[Captioned]:
        """As `batch`, for a model that reads objects; objects: of each image, in pixels.

        tags: names that are read in place of those of the objects, as a person writes them. Raises UserError where the
        vocabulary lacks one of its words.
        """
        raise NotImplementedError

    def requiring(self, options: SearchOptions, found: "Sequence[Found]") -> SearchOptions:
        """A search whose captions name what was found in an image: see `captioning.models.required_objects`."""
        raise NotImplementedError

    @abstractmethod
    def batch(self, images: Sequence[Read], options: SearchOptions) -> list[Captioned]:
        """Caption images that are decoded, all together: see `captioning.models.sources.read`."""

    @property
    @abstractmethod
    def calibrated(self) -> bool:
        """Have captions a confidence?"""

    @abstractmethod
    def no_attention(self) -> str | None:
        """Why captions have no attention, in words; None where they have."""

    @abstractmethod
    def sheet(self, image: Image.Image, caption: Caption) -> Image.Image:
        """Where the model looked, word by word, as an image. The caption is one of the image.

        Raises UserError where there is no attention.
        """

    @abstractmethod
    def description(self) -> list[str]:
        """Lines on what the model is, by its own record."""

    @property
    @abstractmethod
    def training(self) -> str:
        """Data sets that the model was trained on and what their images are, as `scenes: drawings`."""


def checked(search: Iterable[str]) -> None:
    """Raise TypeError for a name that is no option of the search."""
    unknown = sorted(set(search) - USUAL.keys())
    if unknown:
        raise TypeError(f"no option of the search: {unknown[0]}; there are beam_size, {', '.join(USUAL)}")
