"""`dvc plots`: what is drawn of a run, and two runs laid over each other or side by side."""

import json
from typing import Any

from tests.project import Project

METRICS = "data/train/plots/metrics"
LOSS = "training and validation loss"


def test_the_card_of_the_data_and_the_words_are_drawn(project: Project) -> None:
    files = [f"data/split/plots/{name}.tsv" for name in ("caption_length", "captions_per_image", "unknown")]
    words = "data/evaluate/plots/word_frequency.tsv"
    plots = json.loads(project.run("dvc", "plots", "show", "--json", *files, words).stdout)["data"]
    [plot] = plots.pop(words)
    assert plot["content"]["encoding"]["color"]["field"] == "who"
    assert {point["who"] for point in plot["content"]["data"]["values"]} == {"references", "hypotheses"}
    assert sorted(plots) == files
    for [plot] in plots.values():
        assert plot["content"]["encoding"]["color"]["field"] == "split"
        assert {point["split"] for point in plot["content"]["data"]["values"]} == {"train", "val", "test"}


def diff(project: Project, *targets: str) -> dict[str, list[dict[str, Any]]]:
    found = project.run("dvc", "plots", "diff", "HEAD", "short", "--json", "--targets", *targets).stdout
    data: dict[str, list[dict[str, Any]]] = json.loads(found)["data"]
    return data


def drawn(plots: list[dict[str, Any]], *columns: str) -> set[tuple[str, ...]]:
    """Which values of these columns the points of a plot have."""
    [plot] = plots
    return {tuple(point[column] for column in columns) for point in plot["content"]["data"]["values"]}


def test_losses_of_training_and_validation_are_in_one_plot(experimented: Project) -> None:
    files, revisions = ("train/loss/caption.tsv", "val/loss/caption.tsv"), ("HEAD", "short")
    expected = {(file, revision) for file in files for revision in revisions}
    assert drawn(diff(experimented, LOSS)[LOSS], "filename", "rev") == expected


def test_norms_updates_lengths_and_words_of_two_revisions_share_a_plot(experimented: Project) -> None:
    modules = ("encoder", "decoder_lstm", "decoder_output")
    curves = [
        f"{METRICS}/train/{kind}/{module}.tsv" for kind in ("gradient_norm", "update_ratio") for module in modules
    ]
    tables = [f"data/evaluate/plots/{name}.tsv" for name in ("score_by_length", "word_frequency")]
    plots = diff(experimented, *curves, *tables)
    assert plots.keys() == {*curves, *tables}
    for name, found in plots.items():
        assert drawn(found, "rev") == {("HEAD",), ("short",)}, name


def test_pictures_of_two_revisions_are_side_by_side(experimented: Project) -> None:
    kinds = ("best", "random", "worst")
    plots = diff(experimented, "data/evaluate/gallery", "data/train/plots/images")
    for kind in kinds:
        shown = plots[f"data/evaluate/gallery/{kind}.png"]
        assert {(plot["type"], *plot["revisions"]) for plot in shown} == {("image", "HEAD"), ("image", "short")}
    experimented.run("dvc", "plots", "diff", "HEAD", "short", "--out", "compared")
    page = experimented.read("compared/index.html")
    assert all(
        f"{revision}_data_evaluate_gallery_{kind}.png" in page for kind in kinds for revision in ("HEAD", "short")
    )
    assert "caption loss under teacher forcing" in page
