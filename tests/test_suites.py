"""Suites: their files, their names, their tables, and DVC's queue driven for real."""

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import to_hydra_overrides
from hypothesis import given
from hypothesis import strategies as st

from captioning import results, suites
from captioning.errors import UserError
from captioning.results import Result, Results
from tests.imports import ROOT

PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if results.blocks(path)]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with this project's settings and room for suites."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "s") -> None:
    (folder / "experiments" / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize("name", NAMES)
def test_the_suites_here_fit_the_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    suite = suites.load(name)
    assert suite.question.endswith("?")
    assert all(run.name.startswith(f"{name}-") for run in suite.runs)
    assert (
        subprocess.run(["git", "check-ref-format", *(f"refs/exps/{run.name}" for run in suite.runs[:1])]).returncode
        == 0
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_in_pages_are_those_of_the_kept_results(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, block in results.blocks(page).items():
        kept = results.read(name)
        assert kept is not None, f"{page} shows {name}, and {results.path_of(name)} is not there"
        assert block == results.table(suites.load(name), kept), f"captioning suite table {name} --write {page}"


@pytest.mark.parametrize(
    "name", [path.name.partition(".")[0] for path in (ROOT / "experiments").glob("*.results.json")]
)
def test_kept_results_have_every_run_of_their_suite_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    kept = results.read(name)
    assert kept is not None
    runs = {(run.label, run.seed): run.overrides for run in suites.load(name).runs}
    assert {(result.label, result.seed): result.overrides for result in kept.runs} == runs


def test_a_grid_makes_every_combination_for_every_seed(folder: Path) -> None:
    write(
        folder,
        "question: q?\noverrides: {split.limit: 9}\nseeds: [1, 2]\n"
        "grid: {train.lr: [0.1, 0.01], decoder: [lstm, updown]}\n",
    )
    suite = suites.load("s")
    assert suite.labels == [
        "lr=0.1, decoder=lstm",
        "lr=0.1, decoder=updown",
        "lr=0.01, decoder=lstm",
        "lr=0.01, decoder=updown",
    ]
    assert [run.name for run in suite.runs][:3] == [
        "s-lr0.1-decoderlstm-s1",
        "s-lr0.1-decoderlstm-s2",
        "s-lr0.1-decoderupdown-s1",
    ]
    assert suite.runs[1].arguments == ["split.limit=9", "train.lr=0.1", "decoder=lstm", "seed=2"]
    assert suite.command(suite.labels[0]) == "dvc exp run -S split.limit=9 -S train.lr=0.1 -S decoder=lstm -S seed=1"


def test_named_runs_keep_their_names(folder: Path) -> None:
    write(folder, "question: q?\nruns:\n  short: {train.epochs: 1}\n  own weights: {features.weights: a b.pth}\n")
    suite = suites.load("s")
    assert [run.name for run in suite.runs] == ["s-short", "s-own-weights"]
    assert shlex.split(suite.command("own weights")) == ["dvc", "exp", "run", "-S", "features.weights='a b.pth'"]


@given(
    st.one_of(
        st.booleans(),
        st.none(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text("ab1 =,:{}[]'\"\\$.e-/", max_size=8),
    )
)
def test_values_come_back_from_the_command_line_as_they_were(value: suites.Value) -> None:
    run = suites.Run("r", "r", None, {"key": value})
    [override] = to_hydra_overrides(run.arguments)
    assert not override.is_sweep_override()
    back = override.value()
    assert back == value
    assert type(back) is type(value) or (isinstance(value, str) and not isinstance(yaml.safe_load(value), str))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: {a: {}}\n", "line 1: question is missing"),
        ("question: q?\n", "line 1: give one of `runs` (named overrides) and `grid` (values to combine)"),
        ("question: q?\nrunz: {a: {}}\n", "line 2: runz is not part of a suite; did you mean runs?"),
        ("question: q?\ngrid:\n  encodr: [resnet18]\n", "line 3: encodr is not a setting; did you mean encoder?"),
        (
            "question: q?\nruns:\n  a: {}\n  b:\n    layers: 2\n",
            "line 5: layers is not a setting; did you mean train.lstm.layers?",
        ),
        ("question: q?\ngrid:\n  train.lr: [0.1, -1]\n", "line 3: train.lr = -1: input should be greater than 0"),
        ("question: q?\noverrides: {decoder: gru}\nruns: {a: {}}\n", "line 2: decoder = 'gru': input should be 'lstm'"),
        ("question: q?\nseeds: [-1]\nruns: {a: {}}\n", "line 2: seeds: input should be greater than or equal to 0"),
        ("question: q?\nruns: {a b: {}, a-b: {}}\n", "line 1: two runs would be called s-a-b"),
        ("question: q?\nruns: {a: {}}\nruns: {b: {}}\n", "line 3: runs is given twice"),
        ("question: q?\nseeds: [2, 2]\nruns: {a: {}}\n", "line 1: two runs would be called s-a-s2"),
    ],
)
def test_faults_are_said_with_file_line_and_key(folder: Path, text: str, said: str) -> None:
    write(folder, text)
    with pytest.raises(UserError) as caught:
        suites.load("s")
    assert f"experiments/s.yaml, {said}" in str(caught.value)


def test_an_unknown_suite_is_answered_with_those_there_are(folder: Path) -> None:
    with pytest.raises(UserError, match="no suites here"):
        suites.load("s")
    write(folder, "question: q?\nruns: {a: {}}\n", name="other")
    with pytest.raises(UserError, match=r"^s: no such suite; there are other$"):
        suites.load("s")


def result(label: str, seed: int | None, cider: float, seconds: float | None = None) -> Result:
    return Result(label=label, seed=seed, overrides={}, scores={"cider": cider}, seconds=seconds)


def test_a_table_has_means_and_deviations_over_seeds(folder: Path) -> None:
    write(folder, "question: Which?\nseeds: [1, 2, 3]\nscores: [cider]\nruns: {a: {}, b: {encoder: resnet34}}\n")
    suite = suites.load("s")
    runs = [*(result("a", k, cider, 60.0 + k) for k, cider in ((1, 0.1), (2, 0.2), (3, 0.6))), result("b", 1, 0.5)]
    table = results.table(suite, Results(commit="c0ffee12", runs=runs, verdicts=["b: better"])).splitlines()
    assert table[0] == "Which?"
    assert table[2:6] == [
        "|  | CIDEr | time | command |",
        "|---|---|---|---|",
        "| a | 0.3000 ± 0.2646 | 1 min 2 s | `dvc exp run -S seed=1` |",
        "| b | 0.5000 | – | `dvc exp run -S encoder=resnet34 -S seed=1` |",
    ]
    assert table[7].startswith("All of it: `captioning suite run s`, from commit `c0ffee1`; mean ± standard deviation")
    assert table[9] == "- b: better"


def test_a_table_is_put_between_its_markers_and_found_there(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(
        "before\n<!-- suite a -->\nold\n<!-- end -->\nmiddle\n<!-- suite b -->\nkept\n<!-- end -->\nafter\n"
    )
    results.put(page, "a", "| new \\1 |\n")
    assert results.blocks(page) == {"a": "| new \\1 |\n", "b": "kept\n"}
    assert page.read_text().startswith("before\n<!-- suite a -->\n| new \\1 |\n<!-- end -->\nmiddle\n")
    with pytest.raises(UserError, match=r"page.md: write the lines `<!-- suite c -->`"):
        results.put(page, "c", "")


def test_results_are_kept_and_read_back(folder: Path) -> None:
    assert results.read("s") is None
    kept = Results(commit="c", runs=[result("a", None, 0.1, 2.5)], verdicts=["v"])
    results.write("s", kept)
    assert results.read("s") == kept
    path = folder / "experiments/s.results.json"
    path.write_text(path.read_text().replace('"seed": null', '"seed": "one"'))
    with pytest.raises(UserError, match=r"s.results.json: runs.0.seed: .*integer"):
        results.read("s")
