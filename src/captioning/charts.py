"""Pictures of numbers, as SVG: of a suite, the scores of its runs and how they came about, epoch by epoch."""

import io
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from captioning.results import Result, Results
from captioning.suites import Suite
from captioning.verdicts import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "captioning",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}
_PANELS = {
    "CIDEr on validation, greedy": {"val.cider": "-"},
    "nats a word: training (dashed), validation": {"train.loss.caption": "--", "val.loss.caption": "-"},
    "gradient norm before clipping": {"train.gradient_norm.all": "-"},
}
_WIDTH, _HEIGHT = 3.4, 2.9  # inches a panel


def svg(width: float, height: float, draw: Callable[["Figure"], None]) -> bytes:
    """What `draw` puts into a figure of so many inches, as SVG in this project's style; the same bytes each time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return b"\n".join(line.rstrip() for line in file.getvalue().splitlines()) + b"\n"


def of_suite(suite: Suite, results: Results) -> bytes:
    """An SVG: a dot a run at its test score, a bar at the mean over seeds; and, where curves were kept, a line a run.

    The score is CIDEr, where the suite has it, else the first of its scores.
    """
    kept = {name for result in results.runs for name in result.curves}
    panels = {title: curves for title, curves in _PANELS.items() if kept & curves.keys()}

    def draw(figure: "Figure") -> None:
        first, *others = figure.subplots(1, 1 + len(panels), squeeze=False)[0]
        _scores(first, suite, results.runs)
        for axes, (title, curves) in zip(others, panels.items(), strict=True):
            axes.set_title(title)
            _by_epoch(axes, suite.labels, results.runs, curves)
        legend(figure, first)

    return svg(_WIDTH * (1 + len(panels)), _HEIGHT, draw)


def legend(figure: "Figure", axes: "Axes") -> None:
    """What the colours of one panel mean, in a row below all."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False)


def _scores(axes: "Axes", suite: Suite, runs: Sequence[Result]) -> None:
    """A column a label, so that labels need no scale."""
    name = "cider" if "cider" in suite.scores else suite.scores[0]
    axes.set_title(f"{NAMES.get(name, name)} on test")
    for place, label in enumerate(suite.labels):
        values = [run.scores[name] for run in runs if run.label == label and name in run.scores]
        axes.plot([place] * len(values), values, "o", color=_colour(place), label=label)
        if len(values) > 1:
            axes.hlines(statistics.mean(values), place - 0.25, place + 0.25, color=_colour(place))
    axes.set_xlim(-0.5, len(suite.labels) - 0.5)
    axes.set_xticks([])


def _by_epoch(axes: "Axes", labels: Sequence[str], runs: Sequence[Result], curves: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for run in runs:
        for name, dashes in curves.items():
            values = run.curves.get(name, [])
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, dashes, marker=".", linewidth=1, color=_colour(labels.index(run.label)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")


def _colour(place: int) -> str:
    return f"C{place % 10}"
