"""Suites: their files, their names, their tables, and DVC's queue driven for real."""

import contextlib
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml
from dvc.utils.hydra import to_hydra_overrides
from hypothesis import given
from hypothesis import strategies as st

from captioning.cli import experiments
from captioning.experiments import alternative_text, charts, queueing, results, suites
from captioning.experiments.progress import Progress
from captioning.experiments.queueing import Entry, Queue, State
from captioning.experiments.results import Result, Results
from captioning.settings.yaml_lines import loads
from captioning.system import compute
from captioning.system.errors import UserError
from tests.imports import ROOT
from tests.pages import typed
from tests.project import Project

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
        suite, command = suites.load(name), f"captioning suite table {name} --write {page}"
        assert block == results.block(suite, kept), command
        assert results.image_of(page, name).read_bytes() == charts.of_suite(suite, kept), command


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
        "grid: {train.optimizer.lr: [0.1, 0.01], decoder: [lstm, updown]}\n",
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
    assert suite.runs[1].arguments == ["split.limit=9", "train.optimizer.lr=0.1", "decoder=lstm", "seed=2"]
    assert (
        suite.command(suite.labels[0])
        == "dvc exp run -S split.limit=9 -S train.optimizer.lr=0.1 -S decoder=lstm -S seed=1"
    )


def test_numbers_and_words_are_read_as_dvc_reads_them(folder: Path) -> None:
    """`1e-3` is a number, whatever stands before its e; what is text and looks like a number is quoted."""
    write(folder, "question: q?\ngrid:\n  train.optimizer.lr: [1e-3, 0.0001]\n  features.weights: ['1e-3', yes]\n")
    first, second = suites.load("s").runs[:2]
    assert first.overrides == {"train.optimizer.lr": 0.001, "features.weights": "1e-3"}
    assert (first.arguments, second.arguments) == (
        ["train.optimizer.lr=0.001", "features.weights='1e-3'"],
        ["train.optimizer.lr=0.001", "features.weights=yes"],
    )


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
    assert type(back) is type(value) or (isinstance(value, str) and not isinstance(loads(value), str))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: {a: {}}\n", "line 1: question is missing"),
        ("question: q?\n", "line 1: give one of `runs` (named overrides) and `grid` (values to combine)"),
        ("question: q?\nrunz: {a: {}}\n", "line 2: runz is not part of a suite; did you mean runs?"),
        ("question: q?\ngrid:\n  encodr: [resnet18]\n", "line 3: encodr is not a setting; did you mean encoder?"),
        (
            "question: q?\nruns:\n  a: {}\n  b:\n    layers: 2\n",
            "line 5: layers is not a setting; did you mean decoders.lstm.layers?",
        ),
        (
            "question: q?\ngrid:\n  train.optimizer.lr: [0.1, -1]\n",
            "line 3: train.optimizer.lr = -1: input should be greater than 0",
        ),
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
    assert "compute.threads" not in table[7]
    slower = results.table(suite, Results(commit="c0ffee12", runs=runs, verdicts=[], threads=1)).splitlines()
    assert slower[7].endswith("over seeds 1, 2, 3; each run with `compute.threads=1`.")


def test_a_table_is_put_between_its_markers_and_found_there(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(
        "before\n<!-- suite a -->\nold\n<!-- end -->\nmiddle\n<!-- suite b -->\nkept\n<!-- end -->\nafter\n"
    )
    page.write_text(results.put(page, "a", "| new \\1 |\n"))
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


RUNS = [suites.Run(name, name, None, {}) for name in "abc"]


class Watched(Queue):
    """A queue of which only what a look at it finds is known; a run's log says that something ran."""

    def __init__(self, looks: list[dict[str, str]], log: Path) -> None:
        self.baseline = "c0ffee"
        self._looks, self._file = iter(looks), log
        self._entries, self._waiting = [], {}

    def poll(self) -> list[Entry]:
        self._entries = [Entry(name, "1", State(state), None, self._file) for name, state in next(self._looks).items()]
        return self._entries

    def done(self) -> dict[str, str]:
        return {entry.name: "1" for entry in self._entries or [] if entry.state is State.done}


def test_a_run_that_was_watched_from_start_to_end_has_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 20.0, 50.0, 52.5, 52.5, 60.0])  # each look, and the end of `a` and `c`
    monkeypatch.setattr(queueing, "_PAUSE_S", 0)
    monkeypatch.setattr(queueing, "_POLL_S", 0)
    monkeypatch.setattr(Watched, "_pause", lambda *_, **__: None)
    monkeypatch.setattr(queueing.time, "monotonic", lambda: next(clock))
    log = folder / "log"
    log.write_text("Running stage 'train'\n")
    looks = [
        {"a": "queued", "b": "running", "c": "queued"},
        {"a": "running", "b": "running", "c": "queued"},
        {"a": "done", "b": "done", "c": "done"},
        {"a": "done", "b": "done", "c": "done"},
    ]
    queue, told = Watched(looks, log), []
    assert set(queue.wait(RUNS, 1, lambda name, state: told.append((name, state))).values()) == {State.done}
    assert [state for name, state in told if name == "a"] == ["queued", "running", "done"]
    assert [queue.seconds(name) for name in "abc"] == [42.5, None, 32.5]
    log.write_text("Stage 'train' is cached - skipping run\n")
    assert queue.seconds("a") is None


def test_the_time_of_a_run_is_without_that_of_the_one_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC is not asked while `a` runs, and `b` begins as soon as `a` has ended."""
    clock, ends = [0.0], {1: 600.0, 2: 700.0}

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(queueing.time, "sleep", sleep)
    monkeypatch.setattr(queueing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Entry, "ended", property(lambda entry: clock[0] >= ends[entry.process]))
    log = folder / "log"
    log.write_text("Running stage 'train'\n")

    class Asked(Watched):
        asked = 0

        def poll(self) -> list[Entry]:
            self.asked += 1
            over = {process: clock[0] >= end for process, end in ends.items()}
            a = State.done if over[1] else State.running
            b = State.done if over[2] else State.running if over[1] else State.queued
            self._entries = [Entry("a", "1", a, 1, log), Entry("b", "1", b, 2, log)]
            return self._entries

    queue = Asked([{}], log)
    queue._waiting = {"a": 0.0}
    queue.wait(RUNS[:2], 1, lambda *_: None)
    assert queue.asked < 20
    assert queue.seconds("a") == pytest.approx(600, abs=2 * queueing._POLL_S)
    assert queue.seconds("b") == pytest.approx(100, abs=2 * queueing._POLL_S)


@pytest.mark.parametrize("running", [0, 1])
def test_workers_that_ended_are_started_again(folder: Path, monkeypatch: pytest.MonkeyPatch, running: int) -> None:
    """One of two may end, and the other go on."""
    monkeypatch.setattr(Watched, "_pause", lambda *_, **__: None)
    look = dict(zip("abc", ["running"] * running + ["queued"] * 3, strict=False))
    before, after = [look] * queueing._RESTART_AFTER, [dict.fromkeys("abc", "done")] * 2
    queue, started = Watched([*before, *after], folder / "log"), []
    monkeypatch.setattr(queueing, "_start", started.append)
    queue.wait(RUNS, 2, lambda *_: None)
    assert started == [2]


def test_a_run_whose_process_is_not_known_yet_is_asked_for_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end could not be seen: on a busy machine DVC says that a run is running long before it has a process."""
    monkeypatch.setattr(queueing, "_PAUSE_S", 0)
    monkeypatch.setattr(queueing, "_POLL_S", 0)
    looks = [{"a": "running"}] * 3 + [{"a": "done"}] * 2
    monkeypatch.setattr(Watched, "_pause", Queue._pause)
    states = Watched(looks, folder / "log").wait(RUNS[:1], 1, lambda *_: None)
    assert states == {"a": State.done}


STATUS = """Task     Name    Created    Status
897fcd9  r-a     11:44 PM   Running

Worker status: {} active, {} idle
"""


@pytest.mark.parametrize(
    ("active", "idle", "state"), [(0, 0, State.stopped), (1, 0, State.running), (0, 1, State.running)]
)
def test_a_run_that_has_no_process_is_stopped_if_no_worker_is_there_to_begin_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, active: int, idle: int, state: State
) -> None:
    """A worker was killed between taking the run and beginning it; DVC calls it running for ever."""
    monkeypatch.setattr(queueing, "repository", lambda: folder)
    monkeypatch.setattr(queueing, "git", lambda *_: "c0ffee\n")
    monkeypatch.setattr(queueing, "commit", lambda _: "c0ffee")
    monkeypatch.setattr(queueing, "dvc", lambda *_: STATUS.format(active, idle))
    queue = Queue()
    found = [queue.poll()[0].state for _ in range(queueing._GONE_AFTER)]
    assert found == [State.running] * (queueing._GONE_AFTER - 1) + [state]


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([{"a": "stopped", "b": "done"}, {"a": "done", "b": "done"}], 0),
        ([{"a": "stopped", "b": "done"}, {"a": "stopped", "b": "done"}], 1),
        ([{"a": "failed", "b": "done"}], 1),
    ],
)
def test_a_run_whose_worker_was_killed_is_begun_again_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ends: list[dict[str, str]], status: int
) -> None:
    class Ends(Watched):
        def __init__(self) -> None:
            super().__init__([], folder / "log")

        def start(self, jobs: int) -> None:
            """Nothing is there to be started."""

        def wait(self, *_: object) -> dict[str, State]:
            return {name: State(state) for name, state in left.pop(0).items()}

        def error_line(self, name: str) -> str:
            return f"{name} has a fault"

    left = list(ends)
    write(folder, "question: q?\nruns: {a: {}, b: {}}\n")
    monkeypatch.setattr(queueing, "Queue", Ends)
    monkeypatch.setattr(experiments, "_queue_missing", lambda *_: ["a"] if left else [])
    with pytest.raises(typer.Exit) as left_with:
        inspect.unwrap(experiments.run_suite)("s")
    assert left_with.value.exit_code == status
    assert not left


class Epochs:
    """A queue that knows which epoch each run is in."""

    def __init__(self) -> None:
        self.now: dict[str, tuple[int, int]] = {}

    def epoch(self, name: str) -> tuple[int, int] | None:
        return self.now.get(name)


def test_progress_is_printed_with_place_epoch_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [suites.Run(name, name, None, {}) for name in ("a", "b", "c")]
    queue, clock = Epochs(), [0.0]
    progress = Progress(queue, runs, 1, lambda: clock[0])  # type: ignore[arg-type]

    def look(seconds: float, **states: str) -> list[str]:
        clock[0] = seconds
        progress.polled({name: State(state) for name, state in states.items()})
        return capsys.readouterr().out.splitlines()

    progress.changed("a", State.running)
    assert capsys.readouterr().out == "run 1 of 3, a: running\n"
    queue.now = {"a": (1, 4)}
    assert look(60, a="running", b="queued", c="queued") == ["run 1 of 3, a: epoch 1 of 4"]
    queue.now = {"a": (3, 4)}  # half of it took 5 min: 10 min each, 5 of 30 are over
    left = "about 25 min left for the suite"
    assert look(300, a="running", b="queued", c="queued") == [f"run 1 of 3, a: epoch 3 of 4, {left}"]
    assert look(301, a="running", b="queued", c="queued") == []
    clock[0] = 480.0
    progress.changed("a", State.done)
    progress.changed("b", State.running)
    assert capsys.readouterr().out == "run 1 of 3, a: done after 8 min\nrun 2 of 3, b: running\n"
    queue.now = {"b": (2, 4)}  # 8 min each, 2 of 16 are over
    left = "about 14 min left for the suite"
    assert look(600, a="done", b="running", c="queued") == [f"run 2 of 3, b: epoch 2 of 4, {left}"]


def test_an_epoch_is_read_from_the_newest_bar_of_a_log(folder: Path) -> None:
    queue = Watched([], folder / "log")
    queue._entries = [Entry("a", "1", State.running, None, folder / "log")]
    (folder / "log").write_text("Running stage 'train'\n")
    assert queue.epoch("a") is None
    bars = "\r".join(f"epoch {epoch}/5:  40%|####      | 8/20 [00:10<00:15]" for epoch in range(1, 5))
    (folder / "log").write_text("x" * 30_000 + bars)
    assert queue.epoch("a") == (4, 5)


@pytest.mark.parametrize(
    ("jobs", "cores", "usual", "done", "threads", "said"),
    [
        (1, 2, 2, [], None, ""),
        (2, 2, 2, [], 1, "compute.threads = 1 in each run, for 2 runs at a time on 2 cores (the commit has 2)"),
        (3, 2, 2, [], 1, "compute.threads = 1 in each run, for 3 runs at a time on 2 cores (the commit has 2)"),
        (2, 16, 2, [], None, ""),
        (4, 16, 8, [], 4, "compute.threads = 4 in each run, for 4 runs at a time on 16 cores (the commit has 8)"),
        (1, 2, 2, [1], 1, "compute.threads = 1 in each run, as in the 1 runs that are done (the commit has 2)"),
        (2, 2, 2, [2, 2], None, ""),
    ],
)
def test_several_runs_at_a_time_have_fewer_threads_each_and_the_same_as_those_that_are_done(
    jobs: int,
    cores: int,
    usual: int,
    done: list[int],
    threads: int | None,
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(folder, "question: q?\nruns: {a: {}, b: {seed: 2}, c: {seed: 3}}\n")
    monkeypatch.setattr(compute, "cores", lambda: cores)
    head, *others = (SimpleNamespace(params={"compute": {"threads": count}}) for count in (usual, *done))
    queue = SimpleNamespace(head=lambda: head)
    assert experiments._threads(suites.load("s"), queue, others, jobs) == threads  # type: ignore[arg-type]
    assert capsys.readouterr().out.rstrip() == said


def test_a_suite_that_sets_its_threads_has_them_and_one_that_was_mixed_is_refused(folder: Path) -> None:
    write(folder, "question: q?\noverrides: {compute.threads: 2}\nruns: {a: {}, b: {seed: 2}}\n")
    assert experiments._threads(suites.load("s"), None, [], 9) is None  # type: ignore[arg-type]
    write(folder, "question: q?\nruns: {a: {}, b: {seed: 2}}\n")
    head, *mixed = (SimpleNamespace(params={"compute": {"threads": count}}) for count in (2, 1, 2))
    queue = SimpleNamespace(head=lambda: head)
    with pytest.raises(UserError, match=r"^the runs of s that are done differ in compute.threads \(1, 2\).*exp remove"):
        experiments._threads(suites.load("s"), queue, mixed, 1)  # type: ignore[arg-type]


def test_a_run_is_queued_with_its_threads_as_a_setting(copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.folder)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DVC_SITE_CACHE_DIR", "PATH"):
        monkeypatch.setenv(name, copy.environment[name])
    queue = Queue()
    queue.add(suites.Run("r-a", "a", 5, {"seed": 5}), threads=3)
    [entry] = queue.poll()
    assert (entry.name, entry.state) == ("r-a", State.queued)
    params = yaml.safe_load(copy.run("git", "show", f"{entry.revision}:params.yaml").stdout)
    assert (params["seed"], params["compute"]["threads"]) == (5, 3)


def test_the_suite_of_a_run_is_known(folder: Path) -> None:
    assert suites.owner("s-a") is None
    write(folder, "question: q?\nruns: {a: {}}\n")
    write(folder, "question: q?\nruns: {b: {}}\n", name="s-a")
    assert suites.owner("s-a") == "s"
    assert suites.owner("s-a-b") == "s-a"
    assert suites.owner("s-c") is None


SUITE = """
question: Does the beam matter?
overrides: {evaluate.max_words: 20}
scores: [cider, val.loss.caption]
runs:
  long: {evaluate.beam_size: 3}
  broken: {features.weights: none.pth}
  wide: {evaluate.beam_size: 2}
"""


def states(project: Project) -> dict[str, str]:
    lines = project.run("captioning", "suite", "list", "beams").stdout.splitlines()[1:]
    return {line.split()[0].removeprefix("beams-"): line.split()[1] for line in lines}


def test_a_suite_is_stopped_continued_and_told_in_a_table(copy: Project, tmp_path: Path) -> None:
    write(copy.folder, SUITE, name="beams")
    gate, stage = tmp_path / "gate", copy.folder / "stages/evaluate.py"
    os.mkfifo(gate)  # as long as it is there, a run waits for what nobody writes
    begin = "def main(settings: Settings) -> None:\n"
    stage.write_text(
        stage.read_text().replace(begin, f"{begin}    Path({str(gate)!r}).exists() and open({str(gate)!r}).read()\n")
    )
    (copy.folder / "docs/page.md").write_text("<!-- suite beams -->\n<!-- end -->\n")
    copy.run("git", "add", "-A")
    copy.run("git", "commit", "-qm", "a suite")
    head = copy.run("git", "rev-parse", "HEAD").stdout
    command = ("captioning", "suite", "run", "beams")
    with subprocess.Popen(
        command, cwd=copy.folder, env=copy.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("run 1 of 3, beams-long: running" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert "the same command continues" in process.communicate()[1]
    assert process.returncode == 130
    gate.unlink()
    assert states(copy) == {"long": "missing", "broken": "missing", "wide": "missing"}
    assert "0 active, 0 idle" in copy.run("dvc", "queue", "status").stdout
    assert copy.run("git", "status", "--porcelain").stdout == ""

    done = copy.run(*command, check=False)
    assert done.returncode == 1, done.stderr
    assert "beams-long: done" in done.stdout
    assert "beams-broken failed: error: features.weights" in done.stderr
    assert done.stderr.rstrip().endswith("its log: `dvc queue logs beams-broken`")
    assert states(copy) == {"long": "done", "broken": "failed", "wide": "done"}
    assert copy.run("git", "rev-parse", "HEAD").stdout == head
    assert copy.run("git", "status", "--porcelain").stdout == ""
    assert "none.pth" in copy.run("dvc", "queue", "logs", "beams-broken").stdout
    table = copy.run("captioning", "suite", "table", "beams", "--write", "docs/page.md", check=False)
    assert table.stderr == ("error: 1 of 3 runs of beams are not done (beams-broken): `captioning suite run beams`\n")


def test_a_suite_has_results_of_trainings_without_steps_of_cross_entropy(copy: Project, tmp_path: Path) -> None:
    """Neighbours are fitted, and self-critical steps alone have a reward, not a loss."""
    start = shutil.copytree(copy.folder / "data/train/model", tmp_path / "start")
    critical = f"{{train.start: {start}, train.epochs: 0, train.self_critical.epochs: 1}}"
    write(copy.folder, f"question: Which?\nruns: {{near: {{decoder: neighbours}}, critical: {critical}}}\n", "steps")
    page = copy.folder / "docs/journal.md"
    page.write_text("# Page\n<!-- suite steps -->\n<!-- end -->\n")
    copy.run("git", "add", "-A")
    copy.run("git", "commit", "-qm", "a suite")
    copy.run("captioning", "suite", "run", "steps")
    copy.run("captioning", "suite", "table", "steps", "--write", "docs/journal.md")
    curves = [set(run["curves"]) for run in json.loads(copy.read("experiments/steps.results.json"))["runs"]]
    assert curves == [{"val.cider", "val.loss.caption"}, {"val.cider", "val.loss.caption", "train.gradient_norm.all"}]
    block = results.blocks(page)["steps"]
    assert "| near | " in block
    assert "| critical | " in block


def test_every_command_of_the_page_on_experiments(copy: Project) -> None:
    """With a `depth` that takes seconds; then its results, for those who have no experiments."""
    runs = "runs: {resnet18: {evaluate.max_words: 4}, resnet50: {evaluate.max_words: 2}}\n"
    write(copy.folder, "question: Deeper?\n" + runs, "depth")
    page = copy.folder / "docs/journal.md"
    page.write_text("# Page\n<!-- suite depth -->\n<!-- end -->\n")
    copy.run("git", "add", "-A")
    copy.run("git", "commit", "-qm", "a suite")
    printed = typed(copy, "experiments.md")
    assert "depth-resnet50  missing  evaluate.max_words=2" in printed["captioning suite list"]
    assert "depth-resnet50: done" in printed["captioning suite run depth"]
    assert copy.run("captioning", "suite", "run", "depth").stdout.startswith("2 of 2 runs are done at ")

    kept = json.loads(copy.read("experiments/depth.results.json"))
    assert [run["overrides"] for run in kept["runs"]] == [{"evaluate.max_words": 4}, {"evaluate.max_words": 2}]
    assert all(run["seconds"] > 0 for run in kept["runs"])
    block = results.blocks(page)["depth"]
    assert "| resnet50 | " in block
    assert "- depth-resnet50: " in block
    with contextlib.chdir(copy.folder):
        suite = suites.load("depth")
    image = f"\n![{alternative_text.markdown(suite, Results(**kept))}](suite-depth.svg)\n"
    assert block == printed["captioning suite table depth"] + image
    for run in kept["runs"]:
        assert kept["intervals"][run["label"]].keys() >= run["scores"].keys()
        assert all(low <= run["scores"][name] <= high for name, (low, high) in kept["intervals"][run["label"]].items())
    assert b"with 95 % intervals" in results.image_of(page, "depth").read_bytes()
    assert b"Gradient norm" in results.image_of(page, "depth").read_bytes()
    assert [list(map(len, run["curves"].values())) for run in kept["runs"]] == [[2, 2, 2, 2]] * 2  # epochs
    copy.run("git", "add", "-A")
    copy.run("git", "commit", "-qm", "its results")
    shown = copy.run("captioning", "suite", "table", "depth")
    assert shown.stdout + image == block
    assert "this is experiments/depth.results.json" in shown.stderr
    anew = json.loads(copy.run("captioning", "compare", "depth-resnet50", "--format", "json").stdout)
    scores = {name: score["value"] for name, score in anew["groups"][0]["scores"].items()}
    assert kept["runs"][1]["scores"] == pytest.approx(scores)


def test_a_workspace_that_differs_from_the_commit_is_refused(copy: Project) -> None:
    write(copy.folder, "question: q?\nruns: {a: {}}\n", name="one")
    copy.set("seed=3")
    done = copy.run("captioning", "suite", "run", "one", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: every run starts from the last commit, and 1 files differ from it, such as params.yaml"
    )
    assert copy.run("dvc", "queue", "status").stdout.startswith("No experiment tasks")
