"""Results of a suite: gathered from DVC's experiments, kept in git as data, shown as a table in a page.

`experiments/NAME.results.json` is the data; a page has the table between `<!-- suite NAME -->` and `<!-- end -->`, and
an image of it. Whoever has the repository has all three, and a test holds them together, without the experiments.
"""

import itertools
import logging
import math
import re
import statistics
from collections.abc import Iterable
from pathlib import Path

from dvc.utils.flatten import flatten
from pydantic import Field, ValidationError

from captioning.experiments import alternative_text, bootstrap, coherence, compare, recorded, verdicts
from captioning.experiments.compare import Experiment
from captioning.experiments.queueing import THREADS, Queue, State, threads_of
from captioning.experiments.revisions import Revision
from captioning.experiments.suites import FOLDER, Run, Suite, Value
from captioning.settings.sections import Section
from captioning.system.errors import UserError, reason
from captioning.system.files import read_json, write_json

CURVES = ("val.cider", "train.loss.caption", "val.loss.caption", "train.gradient_norm.all")
PLOTS = "data/train/plots/metrics"
LAST = "data/train/metrics.json"  # the scalars of the last epoch
SCORES = (compare.CAPTIONS, compare.PER_IMAGE, compare.REFERENCES, coherence.METRICS, LAST)
_BLOCK = r"<!-- suite {} -->\n(.*?)<!-- end -->"


class Result(Section):
    """One finished run: what it was, and its scores by dotted name. `seconds` is None where it was not measured.

    curves: values by epoch, of those metrics in CURVES that the run has.
    """

    label: str
    seed: int | None
    overrides: dict[str, Value]
    scores: dict[str, float]
    seconds: float | None
    curves: dict[str, list[float]] = Field(default_factory=dict)


class Results(Section):
    """All finished runs of a suite, from one commit, and verdicts on their differences.

    intervals: of each label, low and high ends of the 95 % interval of each test score, by name; see `bootstrap`.
    refused: runs whose scores are another setting's, each with the reason; not kept.
    """

    commit: str
    runs: list[Result]
    verdicts: list[str]
    threads: int | None = None  # `compute.threads` of every run, where it is not that of the commit
    intervals: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    refused: dict[str, str] = Field(default_factory=dict, exclude=True)


def path_of(name: str) -> Path:
    """Where a suite's results are kept."""
    return FOLDER / f"{name}.results.json"


def read(name: str) -> Results | None:
    """The kept results of a suite, or None. Raises UserError when the file is not what `write` writes."""
    path = path_of(name)
    if not path.exists():
        return None
    try:
        return Results.model_validate(read_json(path))
    except ValidationError as invalid:
        error = invalid.errors()[0]
        where = ".".join(map(str, error["loc"]))
        raise UserError(
            f"{path}: {where}: {error['msg']}; `captioning suite table {name} --write PAGE` renews it"
        ) from None


def write(name: str, results: Results) -> None:
    """Keep the results of a suite."""
    write_json(path_of(name), results.model_dump(exclude={"threads"} if results.threads is None else None))


def gather(suite: Suite, queue: Queue, kept: Results | None) -> Results:
    """The results of the suite's experiments that are done at HEAD.

    A run that DVC took from its cache did nothing that could be timed: if `kept` has the same run with the same scores,
    its time stays. Raises UserError when an experiment was made with other overrides than the suite has now.
    """
    refused = refusals(suite, queue)
    done = {name: sha for name, sha in queue.done().items() if name not in refused}
    runs = [run for run in suite.runs if run.name in done]
    revisions = {run.name: Revision(run.name, done[run.name]) for run in runs}
    scored = [_result(suite, run, revisions[run.name], queue.seconds(run.name)) for run in runs]
    earlier = {(result.label, result.seed): result for result in (kept.runs if kept else [])}
    timed = [_with_time(result, earlier.get((result.label, result.seed))) for result in scored]
    experiments = {run: compare.read(revision) for run, revision in revisions.items()}
    sets_threads = any(THREADS in run.overrides for run in suite.runs)
    return Results(
        commit=queue.baseline,
        runs=timed,
        verdicts=_verdicts(suite, list(experiments.values())),
        threads=None if sets_threads else _threads(queue, revisions.values()),
        intervals=_intervals(suite, experiments),
        refused=refused,
    )


def refusals(suite: Suite, queue: Queue) -> dict[str, str]:
    """The runs at HEAD whose scores are another setting's, each with the reason: only a part of their stages ran."""
    done = queue.done()
    runs = [Revision(run.name, done[run.name]) for run in suite.runs if run.name in done]
    examined = {revision.name: coherence.examine(revision, SCORES).fault for revision in runs}
    return {name: fault for name, fault in examined.items() if fault}


def check_whole(suite: Suite, queue: Queue) -> None:
    """Raise UserError when an experiment of the suite's name has another setting's scores: it would count as done."""
    for name, fault in refusals(suite, queue).items():
        raise UserError(f"{name}: {fault}: remove it with `dvc exp remove {name}`, then run the suite again")


def _threads(queue: Queue, revisions: Iterable[Revision]) -> int | None:
    """The `compute.threads` that `suite run` gave every run beyond what the suite says; None: that of the commit."""
    counts = set(map(threads_of, revisions))
    return counts.pop() if len(counts) == 1 and counts != {threads_of(queue.head())} else None


def check_overrides(run: Run, revision: Revision) -> None:
    """Raise UserError when an experiment has other settings than the run of the suite that it is named after."""
    params = flatten(revision.params)
    differing = [key for key, value in run.overrides.items() if params.get(key) != value]
    if differing:
        raise UserError(
            f"{run.name} was made with {differing[0]}={params.get(differing[0])}, and the suite now says "
            f"{run.overrides[differing[0]]}: remove it with `dvc exp remove {run.name}`, then run the suite"
        )


def _result(suite: Suite, run: Run, revision: Revision, seconds: float | None) -> Result:
    check_overrides(run, revision)
    numbers = _numbers(revision)
    for name in suite.scores:
        if name not in numbers:
            raise UserError(f"{run.name} has no score {name}, which `scores` of {FOLDER}/{suite.name}.yaml asks for")
        if not isinstance(numbers[name], int | float) or not math.isfinite(numbers[name]):
            raise UserError(f"{run.name}: {name} is {numbers[name]!r}, which is no number; choose other `scores`")
    scores = {name: numbers[name] for name in suite.scores}
    identity = {"label": run.label, "seed": run.seed, "overrides": run.overrides}
    return Result(**identity, scores=scores, seconds=seconds, curves=_curves(revision))


def _numbers(revision: Revision) -> dict[str, float]:
    """Test scores, baselines and the last epoch's scalars, by dotted name."""
    parts = (recorded.read(revision, LAST, recorded.SCALARS), compare.baselines(revision), revision.metrics)
    return {name: value for part in parts for name, value in flatten(part).items()}


def _curves(revision: Revision) -> dict[str, list[float]]:
    """Those of CURVES that the run has, by epoch, as long as they are finite.

    Not every training has all of them: `neighbours` takes no steps, and self-critical steps have a reward, not a loss.
    """
    plots, curves = set(revision.names(PLOTS)), {}
    for name in CURVES:
        path = f"{PLOTS}/{name.replace('.', '/')}.tsv"
        if path in plots:
            values = (value for _, value in recorded.curve(revision, path))
            curves[name] = list(itertools.takewhile(math.isfinite, values))
    return curves


def _with_time(result: Result, earlier: Result | None) -> Result:
    is_same = earlier is not None and (earlier.overrides, earlier.scores) == (result.overrides, result.scores)
    times = [r.seconds for r in (result, earlier if is_same else None) if r is not None and r.seconds is not None]
    return result.model_copy(update={"seconds": max(times, default=None)})


def _verdicts(suite: Suite, experiments: list[Experiment]) -> list[str]:
    """A line for each run against the first, and what the intervals do not cover. Empty with a single run."""
    if len(suite.labels) < 2 or len(experiments) < 2:
        return []
    comparison = compare.compare(experiments)
    lines = [verdicts.verdict(comparison, g) for g in range(1, len(comparison.groups))]
    return lines + verdicts.caveats(comparison)


def _intervals(suite: Suite, experiments: dict[str, Experiment]) -> dict[str, dict[str, tuple[float, float]]]:
    """The interval of each score of each label, over test images and the seeds that are done."""
    intervals = {}
    for label in suite.labels:
        models = [experiments[run.name].model for run in suite.of(label) if run.name in experiments]
        if models:
            low, high = bootstrap.interval(bootstrap.draw([models]))[:, 0].tolist()
            intervals[label] = dict(zip(models[0].names, zip(low, high, strict=True), strict=True))
    return intervals


def check_complete(suite: Suite, results: Results, required: bool) -> None:
    """Say which runs have no result; raise UserError when there is none at all, or when one of each is `required`."""
    present = {(result.label, result.seed) for result in results.runs}
    missing = [run.name for run in suite.runs if (run.label, run.seed) not in present]
    if not missing:
        return
    message = f"{len(missing)} of {len(suite.runs)} runs of {suite.name} are not done ({', '.join(missing)})"
    if required or not (results.runs or results.refused):
        raise UserError(f"{message}: `captioning suite run {suite.name}`")
    logging.getLogger(__name__).warning("%s", message)


def table(suite: Suite, results: Results) -> str:
    """The results as Markdown: the question, a row a label (mean ± standard deviation over seeds), and the verdicts."""
    seeds = sorted({result.seed for result in results.runs if result.seed is not None})
    names = [alternative_text.TITLES.get(name, name) for name in suite.scores]
    rows = [["", *names, "time", "command"]]
    for label in suite.labels:
        of_label = [result for result in results.runs if result.label == label]
        scores = [_mean([result.scores[name] for result in of_label if name in result.scores]) for name in suite.scores]
        rows.append([label, *scores, _time(result.seconds for result in of_label), f"`{suite.command(label)}`"])
    note = f"; mean ± standard deviation over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    note += f"; each run with `compute.threads={results.threads}`" if results.threads else ""
    parts = [
        suite.question.strip(),
        verdicts.table(rows),
        f"All of it: `captioning suite run {suite.name}`, from commit `{results.commit[:7]}`{note}.",
        "\n".join(f"- {line}" for line in [*_refused(results), *results.verdicts]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _refused(results: Results) -> list[str]:
    return [f"{name}: no scores shown: {fault}; it was not run as a whole" for name, fault in results.refused.items()]


def _mean(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _time(seconds: Iterable[float | None]) -> str:
    """The mean time of a run."""
    known = [value for value in seconds if value is not None]
    if not known:
        return "–"
    minutes, rest = divmod(round(statistics.mean(known)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def image_of(page: Path, name: str) -> Path:
    """The path of a suite's chart that a page shows."""
    return page.with_name(f"suite-{name}.svg")


def block(suite: Suite, results: Results) -> str:
    """What a page has between a suite's two markers: the table, and the image with what it shows in words."""
    return f"{table(suite, results)}\n![{alternative_text.markdown(suite, results)}](suite-{suite.name}.svg)\n"


def put(page: Path, name: str, text: str) -> str:
    """A page with this text between a suite's two markers. Raises UserError when it does not have them once."""
    try:
        content = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{page}: no such page, or no text ({reason(fault)})") from None
    pattern = re.compile(_BLOCK.format(re.escape(name)), re.DOTALL)
    if len(pattern.findall(content)) != 1:
        raise UserError(
            f"{page}: write the lines `<!-- suite {name} -->` and `<!-- end -->` once, where the table is to be"
        )
    return pattern.sub(lambda _: f"<!-- suite {name} -->\n{text}<!-- end -->", content)


def blocks(page: Path) -> dict[str, str]:
    """What a page has between the markers of each suite, by suite."""
    matches = re.findall(_BLOCK.format(r"([\w.-]+)"), page.read_text(encoding="utf-8"), re.DOTALL)
    return dict(matches)


def state_lines(suite: Suite, states: dict[str, State]) -> list[str]:
    """A line a run: its name, where it is, and what makes it."""
    width = max(len(run.name) for run in suite.runs)
    return [f"  {run.name:<{width}}  {states[run.name]:<7}  {' '.join(run.arguments)}" for run in suite.runs]
