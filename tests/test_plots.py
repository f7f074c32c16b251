"""`dvc plots`: what is drawn of a run, and two runs laid over each other or side by side."""

import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from captioning.experiments import plots_page
from captioning.training.tracking import curves
from tests.browser import MISSING, chromium
from tests.imports import ROOT
from tests.project import Project

CURVES = "data/train/plots/curves"
NO_VEGA = None if importlib.util.find_spec("vl_convert") else "needs the package vl-convert-python"


def diff(project: Project) -> dict[str, list[dict[str, Any]]]:
    printed = project.run("dvc", "plots", "diff", "HEAD", "short", "--json").stdout
    document = json.loads(printed)
    assert "errors" not in document
    data: dict[str, list[dict[str, Any]]] = document["data"]
    return data


def drawn(plots: list[dict[str, Any]], *columns: str) -> set[tuple[str, ...]]:
    """Which values of these columns the points of a plot have."""
    [plot] = plots
    return {tuple(point[column] for column in columns) for point in plot["content"]["data"]["values"]}


def plots_listed() -> list[Any]:
    """What dvc.yaml draws: charts with their properties, and folders of images."""
    listed: list[Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    return listed


def test_scalars_are_rows_of_three_tables_in_words(tmp_path: Path) -> None:
    history = [
        {"train/loss/caption": 3.5, "val/loss/caption": 3.0, "val/cider": 0.5, "train/lr": 1e-05},
        {"train/loss/caption": 2.5, "val/bleu_3": 0.25, "train/gradient_norm/decoder_lstm": 0.1},
    ]
    curves.write(tmp_path, history)
    rows = {name: pd.read_csv(tmp_path / f"{name}.tsv", sep="\t").to_numpy().tolist() for name in curves.TABLES}
    assert rows == {
        "scores": [[1, "CIDEr", "CIDEr", 0.5], [2, "BLEU", "BLEU-3", 0.25]],
        "losses": [
            [1, "Caption loss", "training", 3.5],
            [1, "Caption loss", "validation", 3.0],
            [2, "Caption loss", "training", 2.5],
        ],
        "training": [[1, "Learning rate", "training", 1e-05], [2, "Gradient norm", "decoder lstm", 0.1]],
    }


@pytest.mark.parametrize(
    ("scalar", "place"),
    [
        ("val/rouge_l", ("scores", "ROUGE-L", "ROUGE-L")),
        ("train/loss/doubly_stochastic", ("losses", "Doubly stochastic loss", "training")),
        ("train/reward/sample", ("training", "Reward", "sample")),
        ("train/update_ratio/all", ("training", "Update ratio", "all")),
    ],
)
def test_each_scalar_has_its_chart(scalar: str, place: tuple[str, str, str]) -> None:
    assert curves.named(scalar) == place


def test_every_scalar_that_was_logged_is_drawn(project: Project) -> None:
    logged = {
        str(path.relative_to(project.folder / "data/train/plots/metrics").with_suffix("")): path
        for path in (project.folder / "data/train/plots/metrics").rglob("*.tsv")
    }
    tables = {name: pd.read_csv(project.folder / CURVES / f"{name}.tsv", sep="\t") for name in curves.TABLES}
    assert sum(map(len, tables.values())) == sum(len(pd.read_csv(path, sep="\t")) for path in logged.values())
    for name, path in logged.items():
        table, chart, curve = curves.named(name)
        rows = tables[table].loc[lambda rows, k=chart, c=curve: (rows["chart"] == k) & (rows["curve"] == c)]
        scalars = pd.read_csv(path, sep="\t")
        assert rows["epoch"].tolist() == (scalars["step"] + 1).tolist()
        assert rows["value"].tolist() == scalars.drop(columns="step").iloc[:, 0].tolist()


def test_scores_are_first_then_losses_and_each_file_is_drawn_once(experimented: Project) -> None:
    plots = diff(experimented)
    titles = [found[0]["content"]["title"]["text"] for name, found in plots.items() if not name.endswith(".png")]
    assert titles == [next(iter(plot.values()))["title"] for plot in plots_listed() if isinstance(plot, dict)]
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+ [^/_]*", title.replace("vocab.min_count", "")) for title in titles), titles
    kinds = ["score" if "score" in t or "CIDEr" in t else "loss" if "loss" in t else "rest" for t in titles]
    assert kinds == sorted(kinds, key=["score", "loss", "rest"].index)
    for name, found in plots.items():
        if not name.endswith(".png"):
            assert drawn(found, "rev") == {("HEAD",), ("short",)}, name


def test_losses_of_training_and_validation_are_in_one_chart(experimented: Project) -> None:
    points = drawn(diff(experimented)[f"{CURVES}/losses.tsv"], "chart", "curve", "rev")
    expected = {("Caption loss", side, rev) for side in ("training", "validation") for rev in ("HEAD", "short")}
    assert expected <= points


def test_the_card_of_the_data_is_drawn_by_split(project: Project) -> None:
    plots = json.loads(project.run("dvc", "plots", "show", "--json").stdout)["data"]
    for name in ("caption_length", "captions_per_image", "unknown"):
        [plot] = plots[f"data/split/plots/{name}.tsv"]
        assert plot["content"]["encoding"]["color"]["field"] == "split"
        assert {point["split"] for point in plot["content"]["data"]["values"]} == {"train", "val", "test"}


def test_the_same_images_of_two_revisions_are_side_by_side(experimented: Project) -> None:
    gallery, plots = "data/evaluate/gallery/test.png", diff(experimented)
    for name in (gallery, "data/train/plots/images/validation.png"):
        assert {(plot["type"], *plot["revisions"]) for plot in plots[name]} == {("image", "HEAD"), ("image", "short")}
    shown = []
    for revision in ("HEAD", "short"):
        samples = experimented.run("dvc", "get", ".", "data/evaluate/samples.md", "--rev", revision, "-o", revision)
        assert samples.returncode == 0
        random = experimented.read(revision).partition("## Random")[2]
        shown.append(re.findall(r"^\| (\S+) \| [\d.]+ \|", random, re.MULTILINE))
        (experimented.folder / revision).unlink()
    assert shown[0] == shown[1]
    assert len(shown[0]) == 6


@pytest.mark.skipif(NO_VEGA is not None, reason=str(NO_VEGA))
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_the_page_draws_its_charts_without_a_network(experimented: Project, home: Path, tmp_path: Path) -> None:
    """With the two lines that the Makefile has for it."""
    shutil.copytree(experimented.folder, tmp_path / "copy", symlinks=True)
    copy = Project(tmp_path / "copy", home, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    lines = re.findall(r"^\t\$\(BIN\)/(.*plots.html)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        copy.run(*line.split())
    assert copy.run("git", "status", "--porcelain").stdout == ""
    copy.run("dvc", "plots", "diff", "HEAD", "short")
    page = copy.folder / "dvc_plots/index.html"
    assert not re.findall(r"<(?:script|link|img)[^>]+https?:", page.read_text(encoding="utf-8"))
    with chromium(tmp_path / "profile") as browser:
        browser.get(page.as_uri())
        wait = "window.drawn.then(charts => arguments[0](charts.length), fault => arguments[0](String(fault)))"
        charts = len([plot for plot in plots_listed() if isinstance(plot, dict)])
        assert browser.execute_async_script(wait) == len(browser.find_elements("css selector", "svg.marks")) == charts
        titles = [title.text for title in browser.find_elements("css selector", "body > div > p")]
        assert titles == list(plots_page.TITLES.values())
        broken = "return [...document.images].filter(image => image.naturalWidth === 0).length"
        assert browser.execute_script(broken) == 0
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
