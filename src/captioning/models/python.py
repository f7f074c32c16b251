"""The Python interface: `captioning.load()` and what it returns.

B images, T words with `<eos>`, H, W rows and columns of the grid of regions.
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioning.captioner import ensembles
from captioning.captioner.cards import Card
from captioning.captioner.ensembles import Captioners
from captioning.evaluation import attention_maps
from captioning.evaluation.attention_maps import Attended
from captioning.models import choice
from captioning.models.sources import Read, is_one, read
from captioning.search import SearchOptions as SearchOptions
from captioning.search import phrases
from captioning.settings.rules import usual_beam
from captioning.settings.search import USUAL
from captioning.system import scripts
from captioning.system.errors import UserError

if TYPE_CHECKING:
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
    _attend: Callable[[str], Attended | None] = field(repr=False, compare=False)

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
        """Where the decoder looked at each word and at the end: (T, H, W), sums of 1; computed when it is first asked.

        The grid covers what the model sees of the image. None where the decoder does not attend.
        """
        return None if self.attended is None else self.attended.weights

    @cached_property
    def attended(self) -> Attended | None:
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


class Model:
    """A trained model, or several as one: call it with images. It may be called from several threads."""

    def __init__(self, captioners: Captioners, titles: Sequence[str]) -> None:
        self.captioners = captioners
        self.titles = tuple(titles)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<captioning model {', '.join(self.titles)}>"

    @property
    def card(self) -> Card:
        """What model.json says of the model, or of the first one."""
        return self.captioners.members[0].card

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

    def options(self, *, must: Iterable[str] = (), beam_size: int | None = None, **search: Any) -> SearchOptions:
        """How to search: `captioning predict`'s defaults, changed by what is given.

        Raises TypeError for an unknown name, UserError where options contradict each other, or a word of `must` is
        not in the vocabulary.
        """
        unknown = search.keys() - USUAL.keys()
        if unknown:
            raise TypeError(f"no option of the search: {sorted(unknown)[0]}; there are beam_size, {', '.join(USUAL)}")
        given = USUAL | search
        groups = given["groups"] if given["method"] == "diverse" else 1
        usual = usual_beam(self.card.settings.get("dataset", ""), given["n_best"], groups)
        wanted = [must] if isinstance(must, str) else must
        return SearchOptions(
            **given | {"beam_size": beam_size or usual, "must": phrases(self.captioners.vocabulary, wanted)}
        )

    def batch(self, images: Sequence[Read], options: SearchOptions) -> list[Captioned]:
        """Caption images that are decoded, all together: see `captioning.models.sources.read`."""
        if not images:
            return []
        pixels = [self.captioners.pixels(one.image) for one in images]
        stacked = [torch.from_numpy(np.stack(member)) for member in zip(*pixels, strict=True)]
        with self._lock:
            distances = self.captioners.distances(stacked)
            found = self.captioners.captions(stacked, options, [one.key for one in images])
        return [
            Captioned(self._captions(listed, distance, own[0]), distance)
            for listed, distance, own in zip(found, distances, pixels, strict=True)
        ]

    def _captions(self, listed: Sequence[Any], distance: float, pixels: np.ndarray) -> list[Caption]:
        confidences = self.captioners.confidences(listed, distance)

        def attend(text: str) -> Attended | None:
            return self._attend(torch.from_numpy(pixels[None]), text)

        return [
            Caption(one.text, confidence, one.score, one.log_probability, attend)
            for one, confidence in zip(listed, confidences, strict=True)
        ]

    def _attend(self, pixels: Tensor, text: str) -> Attended | None:
        """uint8 pixels (1, 3, S, S) and a caption of them → its words and weights, or None."""
        member = self.captioners.members[0]
        if self.no_attention():
            return None
        with self._lock:
            [encoded] = Captioners((member,)).encode([pixels])
            return attention_maps.attend(member, encoded, text)

    def no_attention(self) -> str | None:
        """Why captions have no attention, in words; None where they have."""
        if len(self.captioners.members) > 1:
            return "it shows where one model looks, and several are averaged"
        return attention_maps.refusal(self.captioners.members[0])

    def sheet(self, image: Image.Image, caption: Caption) -> Image.Image:
        """Where the model looked, word by word, as `attention_maps.draw` draws it. The caption is one of the image.

        Raises UserError where there is no attention.
        """
        if caption.attended is None:
            raise UserError(f"no attention to draw: {self.no_attention()}")
        return attention_maps.draw(image, caption.attended, self.captioners.members[0].transform)


def load(
    model: str | Path | Sequence[str | Path] | None = None, *, repo: str | None = None, mirror: bool = False
) -> Model:
    """Load a trained model, or several whose probabilities are averaged.

    model: a model folder; the name of a shipped model, as `photographs`; or a commit, tag or experiment that has a
    model. None: the model that was trained in this project, if it is one for photographs, else the shipped one.
    repo: address or path of the repository that `model` names a revision of. mirror: read the mirrored image too.
    Raises UserError when there is no such model, or it is damaged.
    """
    names = None if model is None else [str(one) for one in ([model] if isinstance(model, str | Path) else model)]
    if names == []:
        raise UserError("no model is named; leave `model` out for the usual one")
    found = choice.models(names, repo)
    return of_folders([one.folder for one in found], [one.title for one in found], mirror=mirror)


def of_folders(folders: Sequence[Path], titles: Sequence[str], *, mirror: bool = False) -> Model:
    """The model in these folders. Raises UserError as `ensembles.load` does."""
    return Model(ensembles.load(folders, mirror=mirror), titles)
