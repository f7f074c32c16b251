"""Charts as SVG: of a suite, the scores of its runs with their intervals, and how they came about, epoch by epoch.

A chart has its own background and follows the reader's colour scheme (`prefers-color-scheme`): one file is legible on
light and dark pages, and where a viewer knows no schemes it is light. Names are never cut: they are wrapped, and the
chart grows with their number.
"""

import io
import statistics
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from captioning.experiments.alternative_text import alternative, score_name, score_title, values_of, varied
from captioning.experiments.results import Result, Results
from captioning.experiments.suites import Suite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

_PAPER, _INK, _MUTED, _LINE = "#fbfaf7", "#23262d", "#5b606b", "#dedad0"
SERIES = ("#0072b2", "#d55e00", "#00805c", "#aa4499", "#8a6d00", "#3f7fae", "#b3003c", "#5c5cc9")
_DARK = {  # each colour on a dark page
    _PAPER: "#16181c",
    _INK: "#e9e7e2",
    _MUTED: "#a7abb4",
    _LINE: "#33373e",
    **dict(
        zip(
            SERIES,
            ("#56b4e9", "#ff8a47", "#3ccb9b", "#e08fd0", "#e6c229", "#a9d3f2", "#ff7d9c", "#a5a5ff"),
            strict=True,
        )
    ),
}
_MARKERS = "osD^vPX"  # 7 of them and 8 colours: 56 pairs, so that no two of 56 labels look alike
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "captioning",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _MUTED,
    "axes.prop_cycle": f"cycler('color', {list(SERIES)})",
    "axes.facecolor": _PAPER,
    "axes.labelcolor": _MUTED,
    "axes.titlecolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "figure.facecolor": _PAPER,
    "savefig.facecolor": _PAPER,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.labelcolor": _INK,
}
_PANELS = {
    "Validation CIDEr, greedy": {"val.cider": "-"},
    "Loss, nats a word\n(dashed: training)": {"train.loss.caption": "--", "val.loss.caption": "-"},
    "Gradient norm, unclipped": {"train.gradient_norm.all": "-"},
}
_WIDTH = 6.7  # of a suite's chart, inches: 480 points, as wide as a page of a repository on a tablet
_ROW, _TEXT_ROW, _FRAME, _PANEL = 0.35, 0.19, 1.1, 2.4  # inches: a label, each further line of it, around, a row below
_NAME = 26  # characters of a label in a line


def svg(width: float, height: float, draw: Callable[["Figure"], None], title: str = "") -> bytes:
    """What `draw` puts into a figure of so many inches, as SVG in this project's style; the same bytes each time.

    title: what the chart shows, in words, for who cannot see it.
    """
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure = _figure(width, height, draw)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Title": title or None})
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    first = next(k for k, line in enumerate(lines) if line == b" <defs>")
    return b"\n".join([*lines[:first], _schemes().encode(), *lines[first:]]) + b"\n"


def _figure(width: float, height: float, draw: Callable[["Figure"], None]) -> "Figure":
    """A figure, laid out. What the solver of the layout finds differs in last digits from run to run: it is rounded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    draw(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, wide, high = (round(value, 4) for value in axes.get_position().bounds)
        axes.set_position((left, bottom, wide, high))
    return figure


def _schemes() -> str:
    """A style sheet that gives each colour its counterpart where the reader prefers dark."""
    rules = [
        f'[style*="{name}: {light}"]{{{name}:{dark} !important}}'
        for light, dark in _DARK.items()
        for name in ("fill", "stroke")
    ]
    return f"<style>:root{{color-scheme:light dark}}@media (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"


def of_suite(suite: Suite, results: Results) -> bytes:
    """A row a label: its mean score with the 95 % interval, and a dot a seed; below, where kept, a curve a run.

    A metric has curves where a run has more than one epoch of it. The score is that of `score_name`.
    """
    curve_names = {name for result in results.runs for name, values in result.curves.items() if len(values) > 1}
    panels = {title: curves for title, curves in _PANELS.items() if curve_names & curves.keys()}
    names = [wrapped(label) for label in suite.labels]
    top = _FRAME + sum(_ROW + _TEXT_ROW * name.count("\n") for name in names)
    below = _PANEL * -(-len(panels) // 2)
    heights = [top, below] if panels else [top]

    def draw(figure: "Figure") -> None:
        above, *rest = figure.subfigures(2 if panels else 1, 1, squeeze=False, height_ratios=heights)[:, 0]
        _scores(above.subplots(), suite, results)
        axes = rest[0].subplot_mosaic(_mosaic(list(panels))) if panels else {}
        for title, curves in panels.items():
            axes[title].set_title(title)
            _by_epoch(axes[title], suite.labels, results.runs, curves)

    return svg(_WIDTH, top + below, draw, alternative(suite, results))


def _mosaic(titles: Sequence[str]) -> list[Any]:
    """Two panels a row; the last one is as wide as two where their number is odd."""
    return [[row[0], row[-1]] for k in range(0, len(titles), 2) if (row := titles[k : k + 2])]


def wrapped(label: str) -> str:
    """A name in lines that are short enough to stand beside or below a chart; no character of it is lost."""
    return "\n".join(textwrap.wrap(label, _NAME, break_on_hyphens=False)) or label


def legend(figure: "Figure", axes: "Axes") -> "Legend":
    """What the colours of one panel mean, below all: in as few rows as fit the figure's width."""
    handles, labels = axes.get_legend_handles_labels()
    names = [wrapped(label) for label in labels]
    for columns in range(len(names), 0, -1):
        candidate = figure.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False)
        if columns == 1 or candidate.get_window_extent().width <= figure.bbox.width * 0.96:
            break
        candidate.remove()
    return candidate


def _scores(axes: "Axes", suite: Suite, results: Results) -> None:
    """A row a label, the first on top: the name, the interval as a bar, the mean as a mark, its seeds as dots."""
    name = score_name(suite)
    with_intervals = any(name in intervals for intervals in results.intervals.values())
    title = score_title(suite)
    axes.set_title(f"{title}, with 95 % intervals" if with_intervals else f"{title} (no intervals were kept)")
    heights = []
    y = 0.0
    for index, label in enumerate(suite.labels):
        y += (_ROW + _TEXT_ROW * wrapped(label).count("\n")) / _ROW / 2
        heights.append(y)
        _score(axes, results, label, name, y, index)
        y += (_ROW + _TEXT_ROW * wrapped(label).count("\n")) / _ROW / 2
    axes.set_yticks(heights, [wrapped(label) for label in suite.labels])
    axes.set_ylim(y, 0)
    if key := varied(suite):
        axes.set_ylabel(key.replace(".", ".\n"))
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)


def _score(axes: "Axes", results: Results, label: str, name: str, y: float, index: int) -> None:
    values = values_of(results.runs, label, name)
    if not values:
        return
    colour, mean = _colour(index), statistics.mean(values)
    if low_high := results.intervals.get(label, {}).get(name):
        axes.plot(low_high, [y] * 2, "-|", color=colour, linewidth=2, markersize=9, markeredgewidth=2)
    if len(values) > 1:
        axes.plot(values, [y] * len(values), "o", color=colour, markersize=4, fillstyle="none")
    axes.plot([mean], [y], _MARKERS[index % len(_MARKERS)], color=colour, markersize=8, label=label)
    axes.annotate(f"{mean:.3f}", (mean, y), (0, 7), textcoords="offset points", ha="center", fontsize=9)


def _by_epoch(axes: "Axes", labels: Sequence[str], runs: Sequence[Result], curves: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for run in runs:
        index = labels.index(run.label)
        for name, dashes in curves.items():
            values = run.curves.get(name, [])
            marker = _MARKERS[index % len(_MARKERS)]
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, dashes, marker=marker, markersize=4, linewidth=1.2, color=_colour(index))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]
