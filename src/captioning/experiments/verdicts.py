"""A comparison in words and tables: as text, Markdown or JSON."""

from collections.abc import Sequence
from typing import Any

from captioning.experiments import bootstrap
from captioning.experiments.compare import Comparison, Difference, Experiment, Group, Score, changed
from captioning.experiments.outside import CaptionFile
from captioning.metrics import NAMES as NAMES

_MIN_IMAGES = 50  # images, below which percentile intervals of such scores are not to be trusted
_NONE = "none: every caption scores the same"
_PERCENT = f"{bootstrap.LEVEL:.0%}".replace("%", " %")


def verdict(comparison: Comparison, group: int) -> str:
    """The conclusion of a comparison of a group with the first, in one line."""
    first, other = comparison.groups[0], comparison.groups[group]
    significant = {name: d for name, d in comparison.differences[group - 1].items() if d.shown}
    if not significant:
        return f"{other.name}: no difference from {first.name} shown"
    parts = []
    for word, sign in (("better", 1), ("worse", -1)):
        scores = [f"{NAMES[name]} ({_difference(d)})" for name, d in significant.items() if d.value * sign > 0]
        if scores:
            parts.append(f"{word} than {first.name} in {', '.join(scores)}")
    others = [NAMES[name] for name in comparison.differences[group - 1] if name not in significant]
    not_shown = [f"no difference shown in {', '.join(others)}"] if others else []
    return f"{other.name}: {'; '.join(parts + not_shown)}"


def caveats(comparison: Comparison) -> list[str]:
    """What the intervals do not cover."""
    counts = {len(group.experiments) for group in comparison.groups}
    images = len(comparison.images)
    lines = [
        f"Intervals: {_PERCENT}, paired bootstrap over {images} images, {bootstrap.DRAWS:,} draws; p: two-sided, "
        f"corrected over revisions (Holm), not over scores."
    ]
    if images < _MIN_IMAGES:
        lines.append("So few images make intervals too narrow, and p values too small.")
    if counts == {1}:
        lines.append(
            "One seed each: this is about these trained models. Another seed of the same setting may differ as much; "
            "train several to say something about settings."
        )
    elif 1 in counts:
        lines.append("Groups with a single seed have intervals that ignore seed variance and are too narrow.")
    else:
        lines.append("Seeds were resampled with the images. With two or three seeds the intervals are rough estimates.")
    return lines


def _difference(d: Difference) -> str:
    return f"{d.value:+.3f}, {_PERCENT} interval {d.low:.3f} to {d.high:.3f}, p {p_text(d.p)}"


def p_text(p: float) -> str:
    """A p value with three decimals, or `< .001`."""
    return "< .001" if p < 0.001 else f"{p:.3f}"


def score_text(score: Score) -> str:
    """A score with four decimals, and its standard deviation over seeds if there are several."""
    return f"{score.value:.4f}" if score.spread is None else f"{score.value:.4f} ± {score.spread:.4f}"


def score_rows(comparison: Comparison) -> list[list[str]]:
    """Scores as a table with its head, a row a group."""
    head = ["", *(NAMES[name] for name in comparison.scores[0])]
    cells = [[score_text(score) for score in scores.values()] for scores in comparison.scores]
    return [head, *([group.name, *row] for group, row in zip(comparison.groups, cells, strict=True))]


def difference_rows(comparison: Comparison) -> list[list[str]]:
    """Differences from the first group as a table with its head, a row a group and score."""
    first, *others = comparison.groups
    table = [["", "", "difference", f"{_PERCENT} interval", "p"]]
    for group, differences in zip(others, comparison.differences, strict=True):
        for name, d in differences.items():
            span = f"{d.low:+.4f} to {d.high:+.4f}"
            table.append([f"{group.name} − {first.name}", NAMES[name], f"{d.value:+.4f}", span, p_text(d.p)])
    return table


def text(comparison: Comparison, count: int) -> str:
    """All of it for a terminal, with `count` images a comparison."""
    parts = [aligned(score_rows(comparison)), *_summary(comparison)]
    if comparison.differences:
        parts.append(aligned(difference_rows(comparison)))
    for g in range(1, len(comparison.groups)):
        lines = [
            f"  {line}" if k % 4 == 0 else f"      {line}" for k, line in enumerate(_examples(comparison, g, count))
        ]
        parts.append("\n".join([f"{_images_title(comparison, g)}:", *(lines or [f"  {_NONE}"])]))
    return "\n\n".join(parts) + "\n"


def markdown(comparison: Comparison, count: int) -> str:
    """All of it as Markdown."""
    parts = [table(score_rows(comparison)), *(part.replace("\n", "\n\n") for part in _summary(comparison))]
    if comparison.differences:
        parts.append(table(difference_rows(comparison)))
    for g in range(1, len(comparison.groups)):
        lines = [f"- {line}" if k % 4 == 0 else f"  - {line}" for k, line in enumerate(_examples(comparison, g, count))]
        parts.append("\n".join([f"{_images_title(comparison, g)}:", "", *(lines or [f"- {_NONE}"])]))
    return "\n\n".join(parts) + "\n"


def table(cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def _summary(comparison: Comparison) -> list[str]:
    groups = range(1, len(comparison.groups))
    settings = [line for g in groups if (line := _settings(comparison.groups[0], comparison.groups[g]))]
    parts = ["\n".join(verdict(comparison, g) for g in groups), "\n".join(settings), "\n".join(caveats(comparison))]
    return [part for part in parts if part]


def _settings(first: Group, other: Group) -> str:
    """The settings that a group has otherwise than the first."""
    first_run, other_run = first.experiments[0], other.experiments[0]
    if isinstance(other_run.revision, CaptionFile):
        return f"{other.name} has the captions of {other_run.revision.path.name}, which another program wrote"
    several = len(first.experiments) > 1 or len(other.experiments) > 1
    parts = [f"{key}={value}" for key, value in changed(first_run, other_run).items() if key != "seed" or not several]
    parts += ["other code"] if first_run.code != other_run.code else []
    return f"{other.name} has {', '.join(parts)}" if parts else ""


def _images_title(comparison: Comparison, group: int) -> str:
    return f"Images on which {comparison.groups[group].name} and {comparison.groups[0].name} differ most, by CIDEr"


def _examples(comparison: Comparison, group: int, count: int) -> list[str]:
    """Four lines an image: the difference in score, both captions, and one reference."""
    first, other = comparison.groups[0].experiments[0], comparison.groups[group].experiments[0]
    lines = []
    for image, old, new in comparison.most_different(group, count):
        lines += [
            f"{new - old:+.3f}  {first.files[image]}  ({old:.3f} → {new:.3f})",
            f"{first.revision.name}: {first.captions[image]}",
            f"{other.revision.name}: {other.captions[image]}",
            f"a person: {first.references[image][0]}",
        ]
    return lines


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """A table for a terminal; the first column is flush left."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [f"{row[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))] for row in cells
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _origin(experiment: Experiment) -> dict[str, Any]:
    origin = experiment.revision
    if isinstance(origin, CaptionFile):
        return {"name": origin.name, "file": origin.path.name, "sha256": origin.sha256}
    return {"name": origin.name, "commit": origin.sha, "seed": experiment.settings.get("seed")}


def document(comparison: Comparison, count: int) -> dict[str, Any]:
    """All of it as a JSON document."""
    groups = []
    for g, group in enumerate(comparison.groups):
        entry: dict[str, Any] = {
            "name": group.name,
            "revisions": [_origin(experiment) for experiment in group.experiments],
            "scores": {name: vars(score) for name, score in comparison.scores[g].items()},
        }
        if g:
            entry["differences"] = {n: vars(d) | {"shown": d.shown} for n, d in comparison.differences[g - 1].items()}
            entry["settings"] = changed(comparison.groups[0].experiments[0], group.experiments[0])
            entry["verdict"] = verdict(comparison, g)
            entry["images"] = [
                {"image_id": image, "file": group.experiments[0].files[image], "cider": [old, new]}
                for image, old, new in comparison.most_different(g, count)
            ]
        groups.append(entry)
    return {
        "level": bootstrap.LEVEL,
        "draws": bootstrap.DRAWS,
        "images": len(comparison.images),
        "notes": caveats(comparison),
        "groups": groups,
    }
