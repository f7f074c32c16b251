"""The table of experiments, and what differs in their scores, as a person reads them in a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest

from captioning.experiments import commands
from captioning.experiments.table import Row, collect, table
from captioning.system.errors import UserError
from tests.imports import ROOT
from tests.project import Project
from tests.terminal import typed

SCORES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")


def command_in(page: str, beginning: str) -> str:
    """The one command of a page that begins so."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    [command] = [line.partition(" #")[0].strip() for line in lines if line.startswith(beginning)]
    return command


def state(rev: str, scores: dict[str, float], params: dict[str, Any], code: str = "1", **more: Any) -> Any:
    """What DVC collects of a revision."""
    data = {
        "metrics": {"metrics.json": {"data": scores}},
        "params": {"params.yaml": {"data": params}},
        "deps": {"src/captioning/search": {"hash": code}, "stages/train.py": {"hash": code}, "data/x": {"hash": rev}},
    }
    return {"rev": rev, "name": None, "data": data, "experiments": None, **more}


def run(name: str, tip: Any, word: str = "") -> Any:
    return {"name": name, "revs": [tip], "executor": {"state": word} if word else None}


def test_two_experiments_are_read_in_the_table(copy: Project) -> None:
    """At 160 columns each is a line, at 80 its setting is below its name; nothing is cut."""
    copy.run("dvc", "exp", "run", "-S", "evaluate.max_words=3", "--name", "short")
    copy.run("git", "restore", ".")
    copy.run("dvc", "checkout", "-q")
    copy.run("dvc", "exp", "run", "-S", "decoder=neuraltalk", "--name", "simple")
    copy.run("git", "restore", ".")
    copy.run("dvc", "checkout", "-q")
    assert copy.run("git", "status", "--porcelain").stdout == ""
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
    for columns in (160, 80):
        lines = typed(copy, command_in("README.md", "captioning experiments"), columns)
        assert max(map(len, lines)) <= columns
        assert "…" not in "".join(lines)
        [header] = [line for line in lines if "experiment" in line]
        assert header.split()[1:7] == list(SCORES)
        for name, setting in (("short", "evaluate.max_words=3"), ("simple", "decoder=neuraltalk")):
            shown = json.loads(copy.run("dvc", "metrics", "diff", "HEAD", name, "--all", "--json").stdout)
            scores = [f"{shown['data/evaluate/metrics.json'][key]['new']:.3f}" for key in NAMES]
            [k] = [k for k, line in enumerate(lines) if line.split()[:1] == [name]]
            assert lines[k].split()[1:7] == scores
            assert setting in lines[k if columns == 160 else k + 1]
        assert not [line for line in lines if line.startswith("workspace")]
    lines = typed(copy, command_in("docs/experiments.md", "dvc exp show") + " --no-pager", 160)
    assert max(map(len, lines)) <= 160
    [header] = [line.split() for line in lines if "Experiment" in line]
    assert header == ["Experiment", *(name for name in NAMES if name in header), "decoder", "evaluate.max_words"]
    assert "cider" in header


def test_what_differs_is_test_scores_first(experimented: Project) -> None:
    lines = typed(experimented, command_in("README.md", "dvc metrics diff") + " HEAD short", 80)
    assert lines[0].split() == ["Path", "Metric", "HEAD", "short", "Change"]
    assert [line.split()[1] for line in lines[1:7]] == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l"]
    shown = json.loads(experimented.run("dvc", "metrics", "diff", "HEAD", "short", "--all", "--json").stdout)
    assert list(shown) == ["data/evaluate/metrics.json"]


def test_dvc_shows_few_columns_that_are_no_setting_and_no_file(experimented: Project) -> None:
    header = experimented.run("dvc", "exp", "show", "--csv", "--drop", ".*/").stdout.splitlines()[0].split(",")
    scores = header[header.index("Created") : header.index("dataset")]
    assert set(NAMES) <= set(scores)
    assert len(scores) < 15, scores


def test_a_table_is_as_wide_as_the_terminal_and_holds_long_names_and_many_scores() -> None:
    scores = dict.fromkeys(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor", "cider", "true_captions"), 0.5)
    name, changed = "photographs-self-critical-s3", ["train.encoder.from_block=layer3", "seed=3"]
    rows = [Row("main", scores), Row(name, scores, changed), Row("short", scores, ["evaluate.max_words=3"])]
    numbers = ["0.500"] * 8
    narrow, wide = table(rows, 80), table(rows, 160)
    assert (max(map(len, narrow)), max(map(len, wide))) == (80, 135)
    assert narrow[0].split() == ["true"]
    assert narrow[1].split() == ["experiment", *SCORES[:5], "METEOR", "CIDEr", "captions"]
    assert [line.split() for line in narrow[3:]] == [
        ["main", *numbers],
        [name],
        numbers,
        ["train.encoder.from_block=layer3,", "seed=3"],
        ["short", *numbers],
        ["evaluate.max_words=3"],
    ]
    assert wide[1].split()[-1] == "changed"
    assert wide[4].split() == [name, *numbers, "train.encoder.from_block=layer3,", "seed=3"]
    assert len(wide) == 3 + len(rows)


def test_what_was_changed_goes_on_in_its_own_column() -> None:
    changed = [f"decoders.lstm.setting_{k}=0.5" for k in range(6)]
    lines = table([Row("main", {"cider": 1.0}), Row("one", {"cider": 0.5}, changed)], 80)
    assert max(map(len, lines)) <= 80
    start = lines[0].index("changed")
    assert [line[:start].split() for line in lines[3:]] == [["one", "0.500"], [], []]
    assert " ".join(line[start:] for line in lines[3:]) == ", ".join(changed)


def test_scores_that_some_have_and_states_are_shown() -> None:
    rows = [Row("main", {"cider": 1.0}), Row("waits", {}, ["seed=2"], "queued"), Row("m", {"meteor": 0.2})]
    header, _, main, waits, m = table(rows, 160)
    assert header.split() == ["experiment", "METEOR", "CIDEr", "changed"]
    assert main.split() == ["main", "–", "1.000"]
    assert waits.split() == ["waits", "–", "–", "queued,", "seed=2"]
    assert m.split() == ["m", "0.200", "–"]
    assert table([Row("main", {})], 80) == ["experiment  changed", "─" * 19, "main      "]


def test_what_was_changed_is_settings_and_folders_of_code() -> None:
    base = {"seed": 1, "train": {"optimizer": {"lr": 0.1}, "start": "x"}, "flag": True}
    other = {"seed": 1, "train": {"optimizer": {"lr": 0.2}, "start": None}, "flag": False}
    runs = [
        run("lr", state("b", {"cider": 0.5}, other)),
        run("edited", state("c", {"cider": 0.9}, base, code="2")),
        run("waits", state("d", {"cider": 0.7}, base | {"seed": 2}), "queued"),
    ]
    head = state("a" * 40, {"cider": 0.4}, base, name="main", experiments=runs)
    rows = collect([state("w", {"cider": 0.4}, base), head])
    assert rows == [
        Row("main", {"cider": 0.4}),
        Row("lr", {"cider": 0.5}, ["train.optimizer.lr=0.2", "train.start=null", "flag=false"]),
        Row("edited", {"cider": 0.9}, ["code: search stages/train.py"]),
        Row("waits", {}, ["seed=2"], "queued"),
    ]
    assert [row.name for row in collect([head, head], by="cider")] == ["main", "edited", "lr", "waits"]
    with pytest.raises(UserError, match="--by spice: no experiment here has this score; there are: cider"):
        collect([head, head], by="spice")


def test_the_workspace_is_a_row_if_it_is_like_no_other() -> None:
    head = state("a" * 40, {"cider": 0.4}, {"seed": 1})
    rows = collect([state("workspace", {"cider": 0.4}, {"seed": 7}), head])
    assert [(row.name, row.changed) for row in rows] == [("workspace", ["seed=7"]), ("aaaaaaa", [])]


def test_a_dvc_that_hangs_is_stopped_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc").write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    (tmp_path / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(commands, "_LIMIT_S", 0.1)
    with pytest.raises(UserError, match=r"`dvc exp show --json -A` did not end in 0.1 s, and was stopped; try again"):
        commands.exp_show("-A")
