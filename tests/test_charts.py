"""Charts of suites: names are whole and inside, intervals are drawn, colours follow the reader's scheme."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captioning.experiments import alternative_text, charts, results, suites
from captioning.experiments.results import Result, Results
from captioning.experiments.suites import Run, Suite
from tests import browser

LONG = "encoder=resnet152, decoder=transformer, train.self_critical.baseline=greedy, seed=7"
CURVES = {name: [1.0, 3.0, 2.0] for name in results.CURVES}


def suite(*labels: str, scores: tuple[str, ...] = ("cider",)) -> Suite:
    runs = [Run(f"s-{label}-s{seed}", label, seed, {}) for label in labels for seed in (1, 2)]
    return Suite("s", "Which?", list(scores), runs)


def kept(labels: tuple[str, ...], *, intervals: bool = True, curves: dict[str, list[float]] | None = None) -> Results:
    """Two seeds of each label, around 1, 2, 3, …; the mean of the first label is 1."""
    runs = [
        Result(
            label=label,
            seed=seed,
            overrides={},
            scores={"cider": place + spread},
            seconds=None,
            curves=curves or {},
        )
        for place, label in enumerate(labels, start=1)
        for seed, spread in ((1, -0.1), (2, 0.1))
    ]
    ends = {label: {"cider": (place - 0.25, place + 0.5)} for place, label in enumerate(labels, start=1)}
    return Results(commit="c", runs=runs, verdicts=[], intervals=ends if intervals else {})


def figure(monkeypatch: pytest.MonkeyPatch, made: Suite, found: Results) -> Figure:
    """The figure of a suite's chart, laid out."""
    drawn: list[Figure] = []

    def keep(width: float, height: float, draw: Any, _title: str) -> bytes:
        with mpl.rc_context(charts._STYLE):
            drawn.append(charts._figure(width, height, draw))
            FigureCanvasAgg(drawn[0]).draw()
        return b""

    with monkeypatch.context() as patch:
        patch.setattr(charts, "svg", keep)
        charts.of_suite(made, found)
    return drawn[0]


def outside(whole: Figure) -> bool:
    """Whether a part of what is drawn is outside a figure, or less than a hundredth of an inch inside."""
    box, (width, height) = whole.get_tightbbox(), whole.get_size_inches()
    return bool(min(box.x0, box.y0) < 0.01 or box.x1 > width - 0.01 or box.y1 > height - 0.01)


@pytest.mark.parametrize(
    "labels",
    [
        ("a",),
        ("a", LONG),
        tuple(f"run {k}" for k in range(40)),
        ("w" * 200, "b"),
        tuple(LONG + str(k) for k in range(9)),
    ],
    ids=["one", "long", "many", "one word", "many and long"],
)
@pytest.mark.parametrize("curves", [{}, CURVES], ids=["scores", "curves"])
def test_every_name_is_whole_and_inside_the_chart(
    monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...], curves: dict[str, list[float]]
) -> None:
    whole = figure(monkeypatch, suite(*labels), kept(labels, curves=curves))
    assert not outside(whole)
    axes = whole.axes[0]
    names = [text for text in axes.get_yticklabels() if text.get_text()]
    assert [re.sub(r"\s", "", text.get_text()) for text in names] == [re.sub(r"\s", "", label) for label in labels]
    boxes = [text.get_window_extent() for text in names]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))
    assert axes.get_window_extent().width > whole.bbox.width / 3


def test_intervals_means_and_seeds_are_where_the_scores_are(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ("a", "b")
    lines = figure(monkeypatch, suite(*labels), kept(labels)).axes[0].lines
    drawn = [[round(float(x), 3) for x in line.get_xdata()] for line in lines]  # type: ignore[union-attr]
    assert drawn == [[0.75, 1.5], [0.9, 1.1], [1.0], [1.75, 2.5], [1.9, 2.1], [2.0]]
    colours = [line.get_color() for line in lines]
    assert (len(set(colours[:3])), len(set(colours[3:])), len(set(colours))) == (1, 1, 2)


def test_a_chart_without_kept_intervals_says_so() -> None:
    labels = ("a", "b")
    with_them, without = (charts.of_suite(suite(*labels), kept(labels, intervals=i)).decode() for i in (True, False))
    assert "CIDEr on test, with 95 % intervals" in with_them
    assert "CIDEr on test (no intervals were kept)" in without


def test_curves_have_panels_and_the_same_input_the_same_bytes() -> None:
    labels = ("a", "b")
    made, plain = suite(*labels), charts.of_suite(suite(*labels), kept(labels)).decode()
    drawn = charts.of_suite(made, kept(labels, curves=CURVES))
    assert drawn == charts.of_suite(made, kept(labels, curves=CURVES))
    assert {name for panel in charts._PANELS.values() for name in panel} == set(results.CURVES)
    assert "Gradient norm" in drawn.decode()
    assert "Gradient norm" not in plain
    assert drawn.decode().count("stroke-dasharray: 4.4") == 4  # training loss, a line a run


def test_a_single_epoch_is_no_curve() -> None:
    labels, made = ("a", "b"), suite("a", "b")
    drawn = charts.of_suite(made, kept(labels, curves={name: [0.5] for name in results.CURVES}))
    assert drawn == charts.of_suite(made, kept(labels))


def test_runs_need_not_have_the_same_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    part = kept(("a", "b"), curves={"val.cider": [0.5, 0.6]})
    whole = figure(monkeypatch, suite("a", "b"), part)
    assert [axes.get_title("left") for axes in whole.axes[1:]] == ["Validation CIDEr, greedy"]


def test_no_two_of_many_labels_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tuple(str(k) for k in range(len(charts.SERIES) * len(charts._MARKERS)))
    lines = figure(monkeypatch, suite(*labels), kept(labels)).axes[0].lines[2::3]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(labels)


def test_every_colour_of_a_chart_has_one_for_dark_pages() -> None:
    labels = tuple(str(k) for k in range(9))
    text = charts.of_suite(suite(*labels), kept(labels, curves=CURVES)).decode()
    body = text.partition("</style>")[2].partition("</style>")[0] + text.partition("</style>")[2]
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body))
    assert used
    assert used <= charts._DARK.keys()
    assert all(f'[style*="fill: {light}"]{{fill:{dark} !important}}' in text for light, dark in charts._DARK.items())


def test_a_legend_is_inside_the_figure_whatever_its_names() -> None:
    for names in ([f"stage {k}" for k in range(7)], [LONG] * 3, ["w" * 200]):
        whole = Figure(figsize=(5, 6), layout="constrained")
        axes = whole.subplots()
        for name in names:
            axes.plot([1, 2], label=name)
        made = charts.legend(whole, axes)
        FigureCanvasAgg(whole).draw()
        assert not outside(whole)
        shown = [re.sub(r"\s", "", text.get_text()) for text in made.get_texts()]
        assert shown == [re.sub(r"\s", "", name) for name in names]


def test_the_alternative_text_gives_scores_intervals_and_the_highest() -> None:
    said = alternative_text.alternative(suite("a", "b"), kept(("a", "b")))
    assert said == (
        "CIDEr on test. a: 1.000 (95 % interval 0.750 to 1.500); b: 2.000 (95 % interval 1.750 to 2.500); highest: b"
    )
    one = alternative_text.alternative(suite("a"), kept(("a",), intervals=False))
    assert one == "CIDEr on test. a: 1.000"
    none = alternative_text.alternative(suite("a", scores=("val.loss.caption",)), kept(("a",)))
    assert none == "val.loss.caption on test: no run has it"
    asked = alternative_text.alternative(suite("a", scores=("cider", "true_captions")), kept(("a",)))
    assert asked == "all true on test: no run has it"
    odd = ("x]\n(y)", "[z\\")
    assert alternative_text.markdown(suite(*odd), kept(odd, intervals=False)) == (
        "CIDEr on test. x\\] (y): 1.000; \\[z\\\\: 2.000; highest: \\[z\\\\"
    )


def test_the_one_setting_in_which_runs_differ_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**values: list[suites.Value]) -> Suite:
        runs = [
            Run(f"s-{k}", str(k), 1, {"seed": 1, **{key: value[k] for key, value in values.items()}}) for k in range(2)
        ]
        return Suite("s", "Which?", ["cider"], runs)

    assert alternative_text.varied(made(decoder=["lstm", "updown"], encoder=["vgg16", "vgg16"])) == "decoder"
    assert alternative_text.varied(made(decoder=["lstm", "updown"], encoder=["vgg16", "alexnet"])) is None
    said = alternative_text.alternative(made(decoder=["lstm", "updown"]), kept(("0", "1"), intervals=False))
    assert said == "CIDEr on test by decoder. 0: 1.000; 1: 2.000; highest: 1"
    axes = figure(monkeypatch, made(**{"train.self_critical.baseline": ["greedy", "mean"]}), kept(("0", "1"))).axes[0]
    assert axes.get_ylabel().replace("\n", "") == "train.self_critical.baseline"


@pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING))
def test_a_browser_shows_the_whole_chart_in_both_schemes(tmp_path: Path) -> None:
    """Every text is inside, with the fonts of the browser."""
    labels = (LONG, *(f"run {k}" for k in range(12)))
    path = tmp_path / "chart.svg"
    path.write_bytes(charts.of_suite(suite(*labels), kept(labels, curves=CURVES)))
    inside = """
const box = document.documentElement.getBoundingClientRect();
return [...document.querySelectorAll("text")].filter((text) => {
  const own = text.getBoundingClientRect();
  return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
}).map((text) => text.textContent);
"""
    colour = "return getComputedStyle(document.querySelector('#patch_1 path')).fill"
    with browser.chromium(tmp_path / "profile") as view:
        colours = []
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            view.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            view.get(path.as_uri())
            assert view.execute_script(inside) == []
            colours.append(view.execute_script(colour))
        assert colours == ["rgb(251, 250, 247)", "rgb(22, 24, 28)"]
