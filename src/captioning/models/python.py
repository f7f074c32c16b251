"""The Python interface: `captioning.load()` and what it returns.

B images.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captioning.captioner import several
from captioning.captioner.cards import Card
from captioning.captioner.several import Several
from captioning.data.runtimes.registry import Engine
from captioning.data.text.phrases import phrases
from captioning.engines import cache
from captioning.models import choice
from captioning.models.base import Caption as Caption
from captioning.models.base import Captioned as Captioned
from captioning.models.base import Model as Model
from captioning.models.base import checked
from captioning.models.descriptions import describe, trained_on
from captioning.models.sources import Read
from captioning.settings.decoders import reads_tags
from captioning.settings.objects import BOXES
from captioning.settings.rules import usual_beam
from captioning.settings.search import USUAL
from captioning.settings.search import SearchOptions as SearchOptions
from captioning.system.errors import UserError

if TYPE_CHECKING:
    from captioning.captioner.several import Placed
    from captioning.data.objects.labels import Found
    from captioning.evaluation.attending import Attended


class TrainedModel(Model):
    """A model that this library trained, or several as one."""

    def __init__(self, captioners: Several[Any], titles: Sequence[str], engine: Engine = Engine.torch) -> None:
        super().__init__(titles)
        self.captioners, self.engine = captioners, engine
        self._lock = threading.Lock()

    @property
    def card(self) -> Card:
        """What model.json says of the model, or of the first one."""
        card: Card = self.captioners.members[0].card
        return card

    def options(self, *, must: Iterable[str] = (), beam_size: int | None = None, **search: Any) -> SearchOptions:
        """See `Model.options`. Raises UserError too where a word of `must` is not in the vocabulary."""
        checked(search)
        given = USUAL | search
        self.captioners.check_ranking(given["rank_by"])
        groups = given["groups"] if given["method"] == "diverse" else 1
        usual = usual_beam(self.card.settings.get("dataset", ""), given["n_best"], groups)
        wanted = [must] if isinstance(must, str) else must
        return SearchOptions(
            **given | {"beam_size": beam_size or usual, "must": phrases(self.captioners.vocabulary, wanted)}
        )

    @property
    def objects(self) -> dict[str, str]:
        """See `Model.objects`."""
        return self.captioners.objects

    @property
    def finds_objects(self) -> bool:
        """See `Model.finds_objects`."""
        return self.captioners.detector is not None

    def find(self, image: Image.Image) -> "list[Found]":
        """See `Model.find`."""
        detector = self.captioners.detector
        return [] if detector is None else detector.found(image)

    def batch(self, images: Sequence[Read], options: SearchOptions) -> list[Captioned]:
        """See `Model.batch`."""
        self.refuse_objects("run `captioning predict --labels FILE`")
        objects = [self.find(one.image) for one in images] if self.objects else None
        return self._batch(images, options, objects)

    @property
    def reads_tags(self) -> bool:
        """See `Model.reads_tags`."""
        return self.objects.get("kind", BOXES) != BOXES and any(
            reads_tags(member.card.decoder) for member in self.captioners.members
        )

    def batch_of_objects(
        self,
        images: Sequence[Read],
        objects: "Sequence[Sequence[Found]]",
        options: SearchOptions,
        tags: str | None = None,
    ) -> list[Captioned]:
        """See `Model.batch_of_objects`."""
        return self._batch(images, options, objects, tags)

    def requiring(self, options: SearchOptions, found: "Sequence[Found]") -> SearchOptions:
        """See `Model.requiring`."""
        from captioning.models.required_objects import require

        return require(options, found, self.captioners.vocabulary)

    def _batch(
        self,
        images: Sequence[Read],
        options: SearchOptions,
        objects: "Sequence[Sequence[Found]] | None",
        tags: str | None = None,
    ) -> list[Captioned]:
        if not images:
            return []
        pixels = [self.captioners.pixels(one.image) for one in images]
        stacked = [np.stack(member) for member in zip(*pixels, strict=True)]
        with self._lock:
            distances = self.captioners.distances(stacked)
            keys = [one.key for one in images]
            places = None if objects is None else self._places(objects, [one.image for one in images], tags)
            found = self.captioners.captions(stacked, options, keys, places)
        first = None if places is None else places[0]
        alone = [None if first is None else first.rows([row]) for row in range(len(images))]
        return [
            Captioned(self._captions(listed, distance, (own[0][None], seen)), distance)
            for listed, distance, own, seen in zip(found, distances, pixels, alone, strict=True)
        ]

    def _places(
        self, objects: "Sequence[Sequence[Found]]", images: Sequence[Image.Image], tags: str | None
    ) -> "list[Placed]":
        """Where the objects of B images are for each member; no exported model reads any."""
        from captioning.captioner.ensembles import Captioners
        from captioning.models.objects import tagged

        assert isinstance(self.captioners, Captioners)
        placed = self.captioners.places(objects, images)
        return placed if tags is None else [one and tagged(one, tags, self.captioners.vocabulary) for one in placed]

    def _captions(self, listed: Sequence[Any], distance: float, seen: "tuple[np.ndarray, Placed]") -> list[Caption]:
        confidences = self.captioners.confidences(listed, distance)

        def attend(text: str) -> "Attended | None":
            return self._attend(*seen, text)

        return [
            Caption(one.text, confidence, one.score, one.log_probability, attend)
            for one, confidence in zip(listed, confidences, strict=True)
        ]

    def _attend(self, pixels: np.ndarray, places: "Placed", text: str) -> "Attended | None":
        """uint8 pixels (1, 3, S, S), where their objects are, and a caption → its words and weights, or None."""
        if self.no_attention():
            return None
        from captioning.evaluation.attending import attend

        member = self.captioners.members[0]
        with self._lock:
            return attend(member, member.encode(pixels, places), text)

    @property
    def calibrated(self) -> bool:
        """See `Model.calibrated`. Several models have no confidence."""
        members = self.captioners.members
        return len(members) == 1 and members[0].calibration is not None

    def no_attention(self) -> str | None:
        """See `Model.no_attention`."""
        if len(self.captioners.members) > 1:
            return "it shows where one model looks, and several are averaged"
        if self.engine != Engine.torch:
            return f"{self.engine} gives captions alone; --engine torch gives attention too"
        from captioning.evaluation.attending import refusal

        return refusal(self.captioners.members[0])

    def sheet(self, image: Image.Image, caption: Caption) -> Image.Image:
        """See `Model.sheet`; `attention_sheets.draw` draws it."""
        if caption.attended is None:
            raise UserError(f"no attention to draw: {self.no_attention()}")
        from captioning.evaluation.attention_sheets import draw

        return draw(image, caption.attended, self.captioners.members[0].transform)

    def description(self) -> list[str]:
        """See `Model.description`: lines on each member."""
        members = zip(self.titles, self.captioners.members, strict=True)
        return [
            line
            for title, member in members
            for line in describe(title, member.card, keeps_statistics=member.statistics is not None)
        ]

    @property
    def training(self) -> str:
        """See `Model.training`: of all members."""
        return ", ".join(dict.fromkeys(trained_on(member.card.settings) for member in self.captioners.members))


def load(
    model: str | Path | Sequence[str | Path] | None = None,
    *,
    repo: str | None = None,
    mirror: bool = False,
    engine: str = "torch",
    threads: int = 1,
) -> Model:
    """Load a trained model, or several whose probabilities are averaged.

    model: a model folder; the name of a shipped model, as `photographs`; a commit, tag or experiment that has a model;
    or `hf:` and the folder or hub's name of a captioner of the library transformers. None: the model that was trained
    in this project, if it is one for photographs, else the shipped one.
    repo: address or path of the repository that `model` names a revision of. mirror: read the mirrored image too.
    engine: torch, or onnxruntime or openvino, which run an exported model on so many threads, without torch: it is
    exported when it is first needed. With torch, its own settings decide on threads.
    Raises UserError when there is no such model, or it is damaged.
    """
    names = None if model is None else [str(one) for one in ([model] if isinstance(model, str | Path) else model)]
    if names == []:
        raise UserError("no model is named; leave `model` out for the usual one")
    if engine not in set(Engine):
        raise UserError(f"engine = {engine!r}: there are {', '.join(Engine)}")
    if (other := choice.outside(names, repo, mirror=mirror, engine=Engine(engine))) is not None:
        from captioning.models import outside

        return outside.load(other)
    found = choice.models(names, repo)
    folders, titles = [one.folder for one in found], [one.title for one in found]
    return of_folders(folders, titles, mirror=mirror, engine=Engine(engine), threads=threads)


def of_folders(
    folders: Sequence[Path],
    titles: Sequence[str],
    *,
    mirror: bool = False,
    engine: Engine = Engine.torch,
    threads: int = 1,
) -> TrainedModel:
    """The model in these folders. threads: of an engine that is not torch.

    Raises UserError as `ensembles.load` and `cache.load` do.
    """
    if engine == Engine.torch:
        cache.check_trained(folders)
        from captioning.captioner import ensembles

        return TrainedModel(ensembles.load(folders, mirror=mirror), titles)
    several.check_vocabularies(folders)
    members = tuple(cache.load(folder, engine, threads) for folder in folders)
    return TrainedModel(Several(members, mirror), titles, engine)
