"""Searches and ensembles through DVC and on the command line, over a trained project."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from captioning.captioner import cards
from captioning.cli.app import app
from captioning.data.text.tokenizer import tokenize
from captioning.system.errors import UserError
from tests.model_cards import edit
from tests.project import Project

NAMES = ("captions", "n_best", "metrics", "baselines")
CAPTIONS, LISTS, METRICS, BASELINES = (f"data/evaluate/{name}.json" for name in NAMES)


def evaluate(project: Project, *settings: str) -> tuple[list[dict], list[dict], dict]:
    """Run the stage with these settings → captions, n-best lists, metrics."""
    project.set(*settings)
    project.run("dvc", "repro", "--single-item", "evaluate")
    captions, lists, metrics = (json.loads(project.read(name)) for name in (CAPTIONS, LISTS, METRICS))
    return captions, lists, metrics


def test_each_list_begins_with_the_caption_that_is_scored(project: Project) -> None:
    captions = {row["image_id"]: row["caption"] for row in json.loads(project.read(CAPTIONS))}
    lists = json.loads(project.read(LISTS))
    assert {row["image_id"]: row["captions"][0]["caption"] for row in lists} == captions
    assert all(len(row["captions"]) == 1 for row in lists)
    assert "oracle" not in json.loads(project.read(BASELINES))


@pytest.mark.parametrize(
    "chosen",
    [
        [],
        ["evaluate.rank_by=consensus"],
        ["evaluate.mirror=true"],
        ["evaluate.method=diverse"],
        ["evaluate.method=sample", "evaluate.n_best=4"],
        ["evaluate.method=sample", "evaluate.n_best=4", "evaluate.top_p=0.9"],
    ],
)
def test_lists_are_written_and_their_best_is_scored(copy: Project, chosen: list[str]) -> None:
    captions, lists, metrics = evaluate(copy, "evaluate.n_best=3", *chosen)
    assert [row["captions"][0]["caption"] for row in lists] == [row["caption"] for row in captions]
    for row in lists:
        said = [caption["caption"] for caption in row["captions"]]
        assert len(set(said)) == len(said)
        scores = [caption["score"] for caption in row["captions"]]
        assert scores == sorted(scores, reverse=True)
    assert max(len(row["captions"]) for row in lists) > 1
    assert json.loads(copy.read(BASELINES))["oracle"]["cider"] >= metrics["cider"]


def test_what_is_drawn_depends_on_the_seed(copy: Project) -> None:
    def said() -> list[list[str]]:
        return [[caption["caption"] for caption in row["captions"]] for row in json.loads(copy.read(LISTS))]

    evaluate(copy, "evaluate.method=sample", "evaluate.n_best=2")
    first = said()
    copy.set("seed=2")
    copy.run("python", "-m", "stages", "evaluate")
    assert said() != first


def test_a_model_put_beside_the_trained_one_counts_and_its_content_does(copy: Project) -> None:
    before, lock = copy.read(LISTS), copy.read("dvc.lock")
    model = copy.folder / "data/train/model"
    shutil.copytree(model, copy.folder / "ensemble/twin")
    copy.set("evaluate.ensemble=ensemble")
    assert copy.stages_to_run() == ["check", "evaluate"]
    printed = copy.run("dvc", "repro").stdout
    assert "data/train/model: probabilities averaged\nensemble/twin: probabilities averaged\n" in printed
    again = json.loads(copy.read(LISTS))
    for row, old in zip(again, json.loads(before), strict=True):
        assert row["captions"][0]["caption"] == old["captions"][0]["caption"]
        assert row["captions"][0]["log_probability"] == pytest.approx(old["captions"][0]["log_probability"], abs=1e-4)
    copy.set("decoder=transformer")
    copy.run("dvc", "repro", "train")
    twin = copy.read("ensemble/twin/model.json")
    assert copy.run("git", "status", "--porcelain", "ensemble").stdout == ""  # models are not for git
    copy.run("dvc", "repro")
    assert copy.read(LISTS) != before  # an LSTM and a transformer, each with an encoder of its own
    copy.set("decoder=lstm", "evaluate.ensemble=data/check")
    shutil.rmtree(copy.folder / "ensemble/twin")
    copy.run("dvc", "repro")
    assert (copy.read(LISTS), copy.read("dvc.lock")) == (before, lock)
    assert json.loads(twin)["decoder"] == "lstm"


def test_captions_that_neighbours_lend_join_the_candidates(copy: Project) -> None:
    _, alone, _ = evaluate(copy, "evaluate.rank_by=consensus", "evaluate.beam_size=4", "evaluate.n_best=4")
    copy.set("decoder=neighbours")
    copy.run("dvc", "repro", "train")
    shutil.copytree(copy.folder / "data/train/model", copy.folder / "ensemble/near")
    copy.set("decoder=lstm", "evaluate.ensemble=ensemble")
    assert "data/train/model: searched\nensemble/near: lends captions\n" in copy.run("dvc", "repro").stdout
    lent = json.loads(copy.read(LISTS))
    table = pd.read_csv(copy.folder / "data/download/captions.csv").query("split == 'train'")
    training = {" ".join(tokenize(caption)) for caption in table["caption"]}
    said = [{caption["caption"] for row in lists for caption in row["captions"]} for lists in (alone, lent)]
    assert not said[0] & training
    assert said[1] & training
    assert [row["captions"][0]["caption"] for row in lent] != [row["captions"][0]["caption"] for row in alone]


def test_a_stranger_in_the_ensemble_stops_the_stage_in_words(copy: Project) -> None:
    stranger = copy.folder / "ensemble/stranger"
    shutil.copytree(copy.folder / "data/train/model", stranger)
    edit(stranger, transform=cards.read(stranger).card.transform | {"image_size": 64})
    copy.set("evaluate.ensemble=ensemble")
    done = copy.run("python", "-m", "stages", "evaluate", check=False)
    assert done.returncode == 1
    assert "error: evaluate.ensemble: ensemble/stranger: has another image transform than data/features" in done.stderr
    assert "Traceback" not in done.stderr


def predict(project: Project, *arguments: str) -> Result:
    """`captioning predict` in this process, which has the arithmetic that the model asks for."""
    image, model = project.folder / "data/evaluate/gallery/test.png", project.folder / "data/train/model"
    named = [] if "--model" in arguments else ["--model", str(model)]
    return CliRunner().invoke(app, ["predict", str(image), *named, *arguments])


def test_predict_lists_and_draws_captions_that_say_what_they_must(project: Project) -> None:
    def lines(*arguments: str) -> list[str]:
        done = predict(project, *arguments)
        assert done.exit_code == 0, done.exception
        return done.stdout.splitlines()

    [best] = lines()
    rows = [line.split("\t") for line in lines("--n-best", "5")]
    assert len(rows) == 5
    assert all("\t".join(row[:2]).startswith(best.split("\t")[0]) and float(row[3]) <= 0 for row in rows)
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
    assert len({row[1] for row in rows}) == 5
    [listed] = [json.loads(line) for line in lines("--n-best", "4", "--method", "diverse", "--format", "jsonl")]
    assert listed["caption"] == listed["captions"][0]["caption"]
    assert listed["captions"][0].keys() == {"caption", "score", "log_probability"}
    sampled = ("--method", "sample", "--n-best", "6", "--top-k", "9", "--temperature", "2")
    assert lines(*sampled) == lines(*sampled, "--seed", "1")
    assert lines(*sampled) != lines(*sampled, "--seed", "2")
    words = project.read("data/vocab/vocab.txt").splitlines()[4:]
    rare = [word for word in words if word not in best.split("\t")[1].split()][-2:]
    [said] = lines("--must", rare[0], "--must", f"{rare[1]} {words[0]}")
    assert rare[0] in said.split("\t")[1].split()
    assert f"{rare[1]} {words[0]}" in said
    ranked = lines("--n-best", "8", "--rank-by", "consensus")
    scores = [float(line.split("\t")[2]) for line in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    model = str(project.folder / "data/train/model")
    assert lines("--model", model, "--model", model) == [best]
    assert [line.split("\t")[2] for line in lines("--mirror", "--n-best", "2")] != [row[2] for row in rows[:2]]


def test_predict_has_the_beam_of_the_data_set(project: Project, tmp_path: Path) -> None:
    """Three on scenes and eight on photographs, as `evaluate` has."""

    def best(*arguments: str) -> str:
        done = predict(project, "--n-best", "2", *arguments)
        assert done.exit_code == 0, done.exception
        return done.stdout

    model = tmp_path / "model"
    shutil.copytree(project.folder / "data/train/model", model)
    edit(model, settings=cards.read(model).card.settings | {"dataset": "flickr8k"})
    three, eight = best("--beam-size", "3"), best("--beam-size", "8")
    assert three != eight
    assert best() == three
    assert best("--model", str(model)) == eight


def test_predict_says_what_it_cannot_do(project: Project) -> None:
    word = project.read("data/vocab/vocab.txt").splitlines()[4]
    for arguments, said in (
        (["--must", "zeppelins"], "must 'zeppelins': the model's vocabulary has no word 'zeppelins'"),
        (
            ["--must", f"{word} {word} {word}", "--max-words", "2"],
            "max_words = 2: the required words and phrases take 3",
        ),
        (["--must", word, "--method", "sample"], "method = sample: only beam search supports `must`"),
        (["--n-best", "5", "--beam-size", "4"], "n_best = 5 is more than beam_size = 4"),
        (["--method", "diverse", "--beam-size", "4"], "beam_size = 4 is not a multiple of groups = 3"),
    ):
        done = predict(project, *arguments)
        assert isinstance(done.exception, UserError)
        assert str(done.exception).startswith(said)
        assert done.stdout == ""
