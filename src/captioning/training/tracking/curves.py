"""Scalars of training as `dvc plots` draws them: three tables, the same for every model.

Decoders have modules and losses of their own, so that a chart a scalar would need another list in dvc.yaml for each.
Here a row is a point: epoch (from 1), chart, curve, value; the chart and the curve are named in words.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from captioning.metrics import NAMES
from captioning.system.files import write_text

TABLES = ("scores", "losses", "training")
_COLUMNS = ("epoch", "chart", "curve", "value")
_SIDES = {"train": "training", "val": "validation"}


def write(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write `folder`/scores.tsv, losses.tsv and training.tsv. history: scalars by DVCLive's names, a row an epoch."""
    rows: dict[str, list[tuple[int, str, str, float]]] = {table: [] for table in TABLES}
    for table, epoch, chart, curve, value in _rows(history):
        rows[table].append((epoch, chart, curve, value))
    for table, points in rows.items():
        lines = ["\t".join(map(str, row)) for row in [_COLUMNS, *points]]
        write_text(folder / f"{table}.tsv", "\n".join(lines) + "\n")


def _rows(history: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, int, str, str, float]]:
    for epoch, scalars in enumerate(history, start=1):
        for name, value in scalars.items():
            table, chart, curve = named(name)
            yield table, epoch, chart, curve, value


def named(scalar: str) -> tuple[str, str, str]:
    """The table, the chart and the curve of a scalar, such as `val/loss/caption`, `val/bleu_3`, `train/lr`."""
    side, group, *rest = scalar.split("/")
    detail = _words("/".join(rest))
    if group == "loss":
        return "losses", f"{detail.capitalize()} loss", _SIDES[side]
    if group in NAMES:
        return "scores", "BLEU" if group.startswith("bleu_") else NAMES[group], NAMES[group]
    chart = {"lr": "Learning rate"}.get(group, _words(group).capitalize())
    return "training", chart, detail or _SIDES[side]


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", " ")
