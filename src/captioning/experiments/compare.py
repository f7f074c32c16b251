"""Experiments side by side: scores, how sure their differences are, and the images on which they differ most.

Each revision's captions are scored again, by this code and against the references that it was scored against, so that
two revisions are never compared through two versions of a score. METEOR and SPICE are read as they were written.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from dvc.utils.flatten import flatten

from captioning.experiments import bootstrap, coherence, recorded
from captioning.experiments.bootstrap import Model
from captioning.experiments.outside import CaptionFile
from captioning.experiments.revisions import Revision
from captioning.metrics import References
from captioning.metrics.ngrams import Floats
from captioning.system.errors import UserError, reworded

BASELINES = "data/evaluate/baselines.json"
CAPTIONS = "data/evaluate/captions.json"
PER_IMAGE = "data/evaluate/per_image.csv"
REFERENCES = "data/split/references_test.json"
MEAN_SCORES = ("rouge_l", "meteor", "spice", "cider")
SORT_SCORE = "cider"  # what images are sorted by
_EXAMPLES = 3


@dataclass(frozen=True)
class Experiment:
    """One trained model and its captions of the test images, by COCO id; `model` has them in ascending order.

    revision: what left the captions behind, or the file of them that another program wrote, which has no settings.
    """

    revision: Revision | CaptionFile
    references: dict[int, list[str]]
    files: dict[int, str]
    captions: dict[int, str]
    model: Model

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that its stages ran with, by dotted key, as dvc.lock recorded them; `auto` undecided."""
        params = [stage.params.get("params.yaml", {}) for stage in self._stages]
        return {key: value for section in params for key, value in flatten(section).items()}

    @cached_property
    def code(self) -> dict[str, str]:
        """The digest of each source file that its stages ran, as dvc.lock recorded them."""
        deps = [dep for stage in self._stages for dep in stage.deps]
        return {dep.path: dep.md5 for dep in deps if dep.md5 and dep.path.endswith(".py")}

    @cached_property
    def _stages(self) -> list[coherence.Stage]:
        """All but `check`, which reads every setting, those too that a stage has not run with yet."""
        if isinstance(self.revision, CaptionFile):
            return []
        return [stage for name, stage in coherence.stages(self.revision).items() if name != "check"]


@dataclass(frozen=True)
class Group:
    """The experiments of one setting, a seed each."""

    experiments: list[Experiment]

    @property
    def name(self) -> str:
        """Its revision's name, without the seed (`-s2`) if there are several."""
        names = [experiment.revision.name for experiment in self.experiments]
        stems = {re.sub(r"-s\d+$", "", name) for name in names}
        return names[0] if len(names) == 1 else f"{stems.pop() if len(stems) == 1 else names[0]} × {len(names)} seeds"

    @property
    def models(self) -> list[Model]:
        """What each seed's model scores."""
        return [experiment.model for experiment in self.experiments]


@dataclass(frozen=True)
class Difference:
    """A group's score less the first group's. `p` is corrected for the number of groups (Holm)."""

    value: float
    low: float
    high: float
    p: float

    @property
    def shown(self) -> bool:
        """Is it significant over images (and over seeds, where there are several)?"""
        return self.p < 1 - bootstrap.LEVEL


@dataclass(frozen=True)
class Score:
    """A group's score: the mean over its seeds, their standard deviation (None of one seed), and its interval."""

    value: float
    spread: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Groups, the first of which the others are compared with; scores and differences by name, a dict a group."""

    groups: list[Group]
    scores: list[dict[str, Score]]
    differences: list[dict[str, Difference]]  # of the groups after the first

    @property
    def images(self) -> list[int]:
        """The test images, by COCO id."""
        return list(self.groups[0].experiments[0].references)

    def most_different(self, group: int, count: int) -> list[tuple[int, float, float]]:
        """The images on which a group and the first differ most: (id, CIDEr of the first, CIDEr of the group).

        The scores are means over seeds. Largest difference first; fewer than `count` where the rest are equal.
        """
        first, other = (
            np.mean([model.means[SORT_SCORE] for model in self.groups[k].models], axis=0) for k in (0, group)
        )
        order = np.argsort(-abs(other - first), kind="stable")[:count]
        ids = self.images
        return [(ids[k], float(first[k]), float(other[k])) for k in order if first[k] != other[k]]


def read(revision: Revision) -> Experiment:
    """Read a revision's captions of its test images, and score them.

    Raises UserError when one of its files cannot be read or is damaged, or is not of the revision's own settings.
    """
    coherence.check(revision, (CAPTIONS, PER_IMAGE, REFERENCES))
    files, references = test_set(revision)
    captions = {row.image_id: row.caption for row in recorded.read(revision, CAPTIONS, recorded.CAPTIONS)}
    with reworded(lambda text: f"{revision.name}: {CAPTIONS} and {REFERENCES}: {text}"):
        model = model_of(references, captions, _java(revision, files))
    return Experiment(revision, references, files, captions, model)


def model_of(references: dict[int, list[str]], captions: dict[int, str], others: dict[str, dict[int, float]]) -> Model:
    """What scores captions have, by image; others: scores that are known already."""
    prepared = References(references)
    scores = prepared.score(captions)
    means = {name: scores.per_image[name] for name in ("rouge_l", "cider")} | others
    columns = {name: np.array([values[image] for image in references]) for name, values in means.items()}
    return Model(prepared.bleu_statistics(captions), columns)


def baselines(revision: Revision) -> dict[str, dict[str, float]]:
    """What test scores are compared with (`floor`, `human`), and the model's `variety`; none of an old revision."""
    if BASELINES not in revision.names(str(PurePosixPath(BASELINES).parent)):
        return {}
    return recorded.read(revision, BASELINES, recorded.SCORES)


def test_set(revision: Revision) -> tuple[dict[int, str], dict[int, list[str]]]:
    """The file and the references of each test image, by COCO id, ascending."""
    document = recorded.read(revision, REFERENCES, recorded.DOCUMENT)
    files = {image.id: image.file_name for image in sorted(document.images, key=lambda image: image.id)}
    references: dict[int, list[str]] = {image: [] for image in files}
    for row in document.annotations:
        if row.image_id not in references:
            raise recorded.damaged(revision, REFERENCES, f"a reference of image {row.image_id}, which it does not list")
        references[row.image_id].append(row.caption)
    return files, references


def per_image(revision: Revision, images: Iterable[int], *columns: str) -> dict[int, recorded.Row]:
    """The row of each of these images, by COCO id; it has these columns at least."""
    rows = recorded.rows(revision, PER_IMAGE, ",", "coco_id", *columns)
    by_image = dict(zip(recorded.ids(revision, PER_IMAGE, rows, "coco_id"), rows, strict=True))
    if by_image.keys() != set(images):
        raise recorded.damaged(revision, PER_IMAGE, f"its images are not those of {REFERENCES}")
    return by_image


def _java(revision: Revision, images: Iterable[int]) -> dict[str, dict[int, float]]:
    """METEOR and SPICE of each image, where the revision has them."""
    by_image = per_image(revision, images)
    rows = list(by_image.values())
    names = [name for name in ("meteor", "spice") if name in rows[0]]
    return {name: dict(zip(by_image, recorded.numbers(revision, PER_IMAGE, rows, name), strict=True)) for name in names}


def compare(experiments: Sequence[Experiment], draws: int = bootstrap.DRAWS, seed: int = 0) -> Comparison:
    """Compare experiments with the first by a paired bootstrap over images, and over seeds where there are several.

    Experiments that differ in nothing but their seed are one group. Scores that not all have are left out. The p values
    of one score are corrected together (Holm), so that of many groups none is found better by trying; those of
    different scores are not. `seed` is the bootstrap's own.
    Raises UserError when they were not scored on the same images and references.
    """
    for other in experiments[1:]:
        _check_same_test(experiments[0], other)
    groups = _grouped(_with_common_scores(experiments))
    models = [group.models for group in groups]
    names = models[0][0].names
    every = bootstrap.whole(models)
    values = np.stack([scores.mean(0) for scores in every]).tolist()  # (G, N)
    drawn = bootstrap.draw(models, seed, draws)  # (R, G, N)
    differences = drawn[:, 1:] - drawn[:, :1]
    p = bootstrap.holm(bootstrap.p_values(differences)).tolist()
    (low, high), (worst, best) = bootstrap.interval(drawn).tolist(), bootstrap.interval(differences).tolist()
    return Comparison(
        groups,
        [
            {name: Score(values[g][n], _spread(every[g][:, n]), low[g][n], high[g][n]) for n, name in enumerate(names)}
            for g in range(len(groups))
        ],
        [
            {
                name: Difference(values[g + 1][n] - values[0][n], worst[g][n], best[g][n], p[g][n])
                for n, name in enumerate(names)
            }
            for g in range(len(groups) - 1)
        ],
    )


def _with_common_scores(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments, without the scores that some of them do not have."""
    common = set.intersection(*(set(experiment.model.means) for experiment in experiments))
    return [
        replace(
            experiment,
            model=replace(
                experiment.model, means={name: experiment.model.means[name] for name in MEAN_SCORES if name in common}
            ),
        )
        for experiment in experiments
    ]


def _grouped(experiments: Sequence[Experiment]) -> list[Group]:
    """Experiments of the same settings and code whose seeds differ, together; in the order of their first."""
    groups: list[Group] = []
    for experiment in experiments:
        for group in groups:
            if all(_seeds_of_one_setting(experiment, other) for other in group.experiments):
                group.experiments.append(experiment)
                break
        else:
            groups.append(Group([experiment]))
    return groups


def _seeds_of_one_setting(first: Experiment, other: Experiment) -> bool:
    return first.code == other.code and set(changed(first, other)) == {"seed"}


def changed(first: Experiment, other: Experiment) -> dict[str, Any]:
    """Settings in which `other` differs from `first`, by dotted key; None if missing. A file of captions has none."""
    if isinstance(first.revision, CaptionFile) or isinstance(other.revision, CaptionFile):
        return {}
    keys = dict.fromkeys([*first.settings, *other.settings])
    pairs = {key: (first.settings.get(key), other.settings.get(key)) for key in keys}
    return {key: new for key, (old, new) in pairs.items() if old != new}


def _check_same_test(first: Experiment, other: Experiment) -> None:
    """Raise UserError, with what differs, unless both were scored on the same images and references."""
    names = f"{first.revision.name} and {other.revision.name}"
    files, others = first.files, other.files
    if files != others:
        differing = [file for image, file in [*files.items(), *others.items()] if files.get(image) != others.get(image)]
        raise UserError(
            f"{names} were scored on other images ({len(files)} and {len(others)}; such as "
            f"{', '.join(list(dict.fromkeys(differing))[:_EXAMPLES])}): compare revisions of one data "
            f"set and one split.limit"
        )
    rescored = [image for image, captions in first.references.items() if captions != other.references[image]]
    if rescored:
        raise UserError(
            f"{names} were scored against other references (of {len(rescored)} images, such as {files[rescored[0]]}): "
            f"compare revisions of one data set"
        )


def _spread(values: Floats) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
