"""The commands of `captioning` about experiments: `experiments`, `compare`, `report`, `suite run | list | table`."""

import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captioning.cli.notices import name_some, print_lines
from captioning.cli.places import check_file, in_project, written
from captioning.system.errors import UserError
from captioning.system.signals import Stopped

if TYPE_CHECKING:
    from captioning.experiments.queueing import Queue
    from captioning.experiments.revisions import Revision
    from captioning.experiments.suites import Suite

_Captions = Annotated[
    list[Path] | None,
    typer.Option(
        "--captions",
        help="A file of another program's captions of the first revision's test images, named as the file; repeatable.",
    ),
]
_PIPED = (160, 24)  # columns and lines where the output is no terminal
suite_app = typer.Typer(no_args_is_help=True, help="Families of experiments, a file each in experiments/.")


class Format(StrEnum):
    """How a comparison is printed."""

    text = "text"
    md = "md"
    json = "json"


@in_project
def experiments(
    all_commits: Annotated[
        bool, typer.Option("--all-commits", "-A", help="Of every commit, not of the last one alone.")
    ] = False,
    by: Annotated[str | None, typer.Option(help="Sort by this score, best first, such as `cider`.")] = None,
) -> None:
    """Show experiments, a row each: test scores, and what was changed.

    `dvc exp show` has a column for every setting and source file as well.
    """
    from captioning.experiments.commands import exp_show, repository
    from captioning.experiments.table import collect, examined, table

    repository()
    document = exp_show(*["--all-commits"] * all_commits)
    rows = collect(document, by, examined(document))
    print(*table(rows, shutil.get_terminal_size(_PIPED).columns), sep="\n")
    edited = [row.name for row in rows if row.edited]
    if edited:
        print_lines([f"code was edited since the scores were made of {name_some(edited)}"])


@in_project
def compare(
    revisions: Annotated[
        list[str],
        typer.Argument(
            help="Commits, branches, tags, experiments, or `workspace`; the others are compared with the first."
        ),
    ],
    output: Annotated[Format, typer.Option("--format", help="text, md (Markdown) or json.")] = Format.text,
    captions: _Captions = None,
    images: Annotated[int, typer.Option(min=0, help="Images shown on which two differ most.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the bootstrap.")] = 0,
) -> None:
    """Compare experiments with the first: scores, intervals of the differences, and a verdict in words.

    Revisions that differ in nothing but `seed` are taken together. Nothing is checked out, and nothing is downloaded.
    """
    from captioning.experiments import beside, verdicts
    from captioning.experiments.compare import compare as compared

    comparison = compared(beside.read(revisions, captions or []), seed=seed)
    if output is Format.json:
        print(json.dumps(verdicts.document(comparison, images), indent=1, ensure_ascii=False))
    else:
        print((verdicts.text if output is Format.text else verdicts.markdown)(comparison, images), end="")


@in_project
def report(
    revisions: Annotated[list[str], typer.Argument(help="As in `compare`; the others are compared with the first.")],
    captions: _Captions = None,
    out: Annotated[Path, typer.Option(help="The file that is written.")] = Path("report.html"),
    images: Annotated[str, typer.Option(help="Number of images shown, or `all`.")] = "300",
    seed: Annotated[int, typer.Option(min=0, help="Seeds the bootstrap, and which images are shown.")] = 0,
) -> None:
    """Write one HTML file with scores, curves, settings and images; it needs no network.

    Half of the images are those on which the experiments differ most. Nothing is checked out or downloaded.
    """
    from captioning.experiments import beside
    from captioning.experiments import report as pages
    from captioning.experiments.compare import compare as compared

    check_file("--out", out)
    if images != "all" and not images.isdecimal():
        raise UserError(f"--images {images}: give a number of images, 0 for none, or `all`")
    limit = None if images == "all" else int(images)
    comparison = compared(beside.read(revisions, captions or []), seed=seed)
    command = " ".join(["captioning report", *revisions, *(f"--captions {path.name}" for path in captions or [])])
    with written("--out", out):
        size = pages.write(out, comparison, command, limit, seed)
    print(f"{out}: {size / 1e6:.1f} MB; open it in a browser")


@suite_app.command("list")
@in_project
def list_suites(
    names: Annotated[list[str] | None, typer.Argument(help="Suites; all of them if none is named.")] = None,
) -> None:
    """List the suites, their questions, and the state of each run: done, running, queued, failed, missing, stale."""
    from captioning.experiments import results, suites
    from captioning.experiments.queueing import Queue, State

    queue = Queue()
    for name in names or suites.names():
        suite = suites.load(name)
        stale = dict.fromkeys(results.refusals(suite, queue), State.stale)
        print(f"{name}: {suite.question.strip()}")
        print(*results.state_lines(suite, queue.states(suite.runs) | stale), sep="\n")


@suite_app.command("run")
@in_project
def run_suite(
    name: Annotated[str, typer.Argument(help="A suite: experiments/NAME.yaml.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
) -> None:
    """Run what is not done of a suite, from the last commit, through DVC's queue, and wait for it.

    Ctrl-C (or SIGTERM) stops the runs; the same command continues. Failed runs are tried again.
    The exit status is 1 when one failed. If several runs at a time would have more threads than this machine has
    cores, each gets fewer: that is a setting, `compute.threads`, and all runs of the suite have the same one.
    """
    from captioning.experiments import suites
    from captioning.experiments.progress import Progress
    from captioning.experiments.queueing import Queue, State

    suite = suites.load(name)
    queue = Queue()
    states: dict[str, State] = {}
    lost: set[str] = set()  # runs whose process was gone once
    try:
        while _queue_missing(suite, queue, jobs):
            queue.start(jobs)
            progress = Progress(queue, suite.runs, jobs)
            states = queue.wait(suite.runs, jobs, progress.changed, progress.polled)
            again = {run for run, state in states.items() if state is State.stopped} - lost
            if not again:
                break
            lost |= again
    except Stopped as stopped:
        print_lines(["stopping; the same command continues"])
        queue.stop(suite.runs)
        raise typer.Exit(stopped.status) from None
    failed = [run for run, state in states.items() if state is not State.done]
    for run in failed:
        gone = "its process was ended from outside, twice; the same command continues"
        error = gone if states[run] is State.stopped else queue.error_line(run)
        print(f"{run} failed: {error}; its log: `dvc queue logs {run}`", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


def _queue_missing(suite: "Suite", queue: "Queue", jobs: int) -> list[str]:
    """Queue what is neither done nor on its way; return the names of all that is not done."""
    from captioning.experiments import results
    from captioning.experiments.queueing import State
    from captioning.experiments.revisions import Revision

    states, done = queue.states(suite.runs), queue.done()
    revisions = {run.name: Revision(run.name, done[run.name]) for run in suite.runs if run.name in done}
    missing = [
        run for run in suite.runs if run.name not in done and states[run.name] not in (State.queued, State.running)
    ]
    for run in suite.runs:
        if run.name in revisions:
            results.check_overrides(run, revisions[run.name])
    results.check_whole(suite, queue)
    if missing:
        threads = _threads(suite, queue, list(revisions.values()), jobs)
        for run in missing:
            queue.add(run, threads)
    unfinished = [name for name, state in states.items() if state is not State.done]
    print(f"{len(states) - len(unfinished)} of {len(states)} runs are done at {queue.baseline[:7]}", flush=True)
    return unfinished


def _threads(suite: "Suite", queue: "Queue", done: list["Revision"], jobs: int) -> int | None:
    """The `compute.threads` of the runs to come, and say so; None: that of the commit, or what the suite itself sets.

    It decides the last bits of every result, so that runs that are done decide it; else cores and jobs do.
    """
    from captioning.experiments.queueing import THREADS, threads_of
    from captioning.system.compute import cores

    if any(THREADS in run.overrides for run in suite.runs):
        return None
    default = threads_of(queue.head())
    counts = {threads_of(revision) for revision in done}
    if len(counts) > 1:
        raise UserError(
            f"the runs of {suite.name} that are done differ in {THREADS} ({', '.join(map(str, sorted(counts)))}), so "
            f"that they cannot be compared; remove those of one kind with `dvc exp remove`, and run the suite again"
        )
    share = max(1, cores() // jobs) if jobs * default > cores() else default
    threads = counts.pop() if counts else share
    if threads == default:
        return None
    cause = f"as in the {len(done)} runs that are done" if done else f"for {jobs} runs at a time on {cores()} cores"
    print(f"{THREADS} = {threads} in each run, {cause} (the commit has {default})", flush=True)
    return threads


@suite_app.command("table")
@in_project
def show_table(
    name: Annotated[str, typer.Argument(help="A suite: experiments/NAME.yaml.")],
    write: Annotated[
        Path | None,
        typer.Option(help="Store the results in experiments/, and put table and chart into this page."),
    ] = None,
) -> None:
    """Print what a suite found, as a Markdown table, from the experiments of the last commit.

    Where none of them was run there, the results that were kept in experiments/ are shown.
    """
    from captioning.experiments import charts, results, suites
    from captioning.experiments.queueing import Queue
    from captioning.system.files import write_bytes, write_text

    suite, kept = suites.load(name), results.read(name)
    if write is not None:
        check_file("--write", write)
    gathered = results.gather(suite, Queue(), kept)
    if not (gathered.runs or gathered.refused) and kept:
        print(f"no run of {name} at {gathered.commit[:7]}; this is {results.path_of(name)}", file=sys.stderr)
        gathered = kept
    results.check_complete(suite, gathered, required=write is not None)
    if write is None:
        print(results.table(suite, gathered), end="")
        return
    page, chart = results.put(write, name, results.block(suite, gathered)), charts.of_suite(suite, gathered)
    with written("--write", write):
        write_text(write, page)
        write_bytes(results.image_of(write, name), chart)
        results.write(name, gathered)
