"""Stages are killed, starved and run twice at once at random moments, and then run again.

`python -m tests.faults --kills 100 --seed 1` prints how many of the repeated runs left the bytes of an undisturbed one.

A stage runs in a fork of this process, which has loaded torch already, in a tiny project of its own. Moments are drawn
from the seed: the n-th time that the stage makes, opens to write, renames or removes a file (an audit hook counts),
or a time by the clock. Full disks and read-only folders are real: mounts in a mount namespace of this process.
"""

import argparse
import ctypes
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from tests import changes, damage, dvc_faults
from tests.damage import MissedError
from tests.forks import Run, asked_to_leave, warm
from tests.imports import ROOT, STAGES
from tests.project import TINY, merge
from tests.trees import difference, half_written, tree
from tests.zygote import serving

GRACE = 5.0  # seconds from SIGTERM to the end
REDRAWS = 30  # other moments that are tried when a run ended before its fault
THREADS = 1
SETTINGS = {  # smaller still than TINY
    "encoder": "shufflenet_v2_x0_5",
    "decoder": "oscar",  # which reads objects
    "objects": "labels",
    "compute": {"threads": THREADS},
    "download": {"scenes": {"train": 12, "val": 4, "test": 4}},
    "features": {"shard_size": 8},
}
_NEW_NAMESPACE = 0x00020000  # CLONE_NEWNS


class Bench:
    """The tiny project, undisturbed: what each stage read and left, how often it changed the disk, how long it took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._cases = folder, 0
        self.events: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.trees: dict[str, dict[str, str]] = {}
        self.before: dict[str, Path] = {}
        self.expected: dict[str, dict[str, str]] = {}  # results after a change
        settings = yaml.safe_load((ROOT / "params.yaml").read_text())
        project = folder / "undisturbed"
        project.mkdir()
        (project / "params.yaml").write_text(yaml.safe_dump(merge(merge(settings, TINY), SETTINGS)))
        for stage in STAGES:
            self.before[stage] = shutil.copytree(project, folder / f"before-{stage}")
            run = Run(stage, project)
            ended = run.wait()
            assert ended.status == 0, f"{stage} undisturbed: {ended.said}"
            self.events[stage], self.seconds[stage] = int(run.events.read_text()), ended.seconds
            self.trees[stage] = tree(project)

    @contextmanager
    def case(self, stage: str, *, small: bool = False) -> Iterator[Path]:
        """A project in which the stage is next. small: on a file system of its own."""
        self._cases += 1
        folder = self.folder / f"case-{self._cases}"
        folder.mkdir()
        if small:
            mount("-t", "tmpfs", "tmpfs", str(folder))
        try:
            yield shutil.copytree(self.before[stage], folder, dirs_exist_ok=True)
        finally:
            if small:
                subprocess.run(["umount", "-l", folder], check=True)
            shutil.rmtree(folder)

    def again(self, stage: str, folder: Path) -> str:
        """Repeat the command. What is wrong then; empty: the same bytes as undisturbed, and nothing left over."""
        ended = Run(stage, folder).wait()
        if ended.status:
            return f"repeated: status {ended.status}, said {ended.said[-1500:]}"
        return difference(tree(folder), self.trees[stage])


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def killed_at_a_write(bench: Bench, stage: str, draw: random.Random) -> str:
    with bench.case(stage) as folder:
        ended = Run(stage, folder, draw.randint(1, bench.events[stage])).wait()
        if ended.status != -signal.SIGKILL:
            raise MissedError
        return bench.again(stage, folder)


def killed_by_the_clock(bench: Bench, stage: str, draw: random.Random) -> str:
    with bench.case(stage) as folder:
        run = Run(stage, folder)
        run.over(draw.uniform(0, bench.seconds[stage]))
        run.send(signal.SIGKILL)
        if run.wait().status != -signal.SIGKILL:
            raise MissedError
        return bench.again(stage, folder)


def terminated(bench: Bench, stage: str, draw: random.Random) -> str:
    with bench.case(stage) as folder:
        if draw.random() < 0.5:
            ended = Run(stage, folder, draw.randint(1, bench.events[stage]), asked_to_leave).wait()
            late = 0.0
        else:
            run = Run(stage, folder)
            run.over(draw.uniform(0, bench.seconds[stage]))
            sent = time.monotonic()
            run.send(signal.SIGTERM)
            ended = run.wait()
            late = time.monotonic() - sent
        if ended.status in (0, -signal.SIGTERM):  # it had ended, or not begun
            raise MissedError
        said = ended.said.splitlines()[-1:]
        if ended.status != 143 or said != ["terminated; run the same command again to go on"] or late > GRACE:
            return f"status {ended.status} after {late:.1f} s, said {ended.said[-1500:]}"
        return half_written(folder, stage, bench.trees[stage]) or bench.again(stage, folder)


def full_disk(bench: Bench, stage: str, draw: random.Random) -> str:
    with bench.case(stage, small=True) as folder:
        disk = os.statvfs(folder)
        used = disk.f_blocks - disk.f_bfree
        sizes = [(bench.before[stage].parent / "undisturbed" / name).stat().st_size for name in bench.trees[stage]]
        pages = sum(-(-size // disk.f_frsize) for size in sizes)
        size = max(1, used + draw.randint(0, max(0, pages - used - 1))) * disk.f_frsize
        mount("-o", f"remount,size={size}", str(folder))
        ended = Run(stage, folder).wait()
        if ended.status == 0:
            raise MissedError
        mount("-o", "remount,size=1g", str(folder))
        return ended.error() or half_written(folder, stage, bench.trees[stage]) or bench.again(stage, folder)


def read_only(bench: Bench, stage: str, draw: random.Random) -> str:
    """From the beginning or from a moment on, the results or what is unfinished may not be written."""
    with bench.case(stage) as folder:
        place = draw.choice([folder, folder / "data", folder / ".scratch"])
        place.mkdir(exist_ok=True)
        mount("--bind", str(place), str(place))
        try:
            ended = Run(stage, folder, draw.randint(1, bench.events[stage]), lambda: bar(place)).wait()
        finally:
            subprocess.run(["umount", "-l", place], check=True)
        if ended.status == 0:  # nothing was written there from this moment on
            raise MissedError
        wrong = ended.error() or half_written(folder, stage, bench.trees[stage], barred=True)
        return wrong or bench.again(stage, folder)


def bar(place: Path) -> None:
    """Let nothing more be written under a mount, unless a file is open there for writing."""
    with suppress(subprocess.CalledProcessError):
        mount("-o", "remount,bind,ro", str(place))


def two_at_once(bench: Bench, stage: str, draw: random.Random) -> str:
    """Both end well and leave one result; every other time the first is killed while the second is there."""
    with bench.case(stage) as folder:
        kill = draw.random() < 0.5
        first = Run(stage, folder, draw.randint(2, bench.events[stage]) if kill else 0)
        first.over(draw.uniform(0, bench.seconds[stage] / 2))
        second = Run(stage, folder)
        ends = [first.wait(), second.wait()]
        if ends[0].status not in (0, -signal.SIGKILL) or ends[1].status:
            return f"two at once: {ends}"
        return difference(tree(folder), bench.trees[stage]) or bench.again(stage, folder)


STAGES_OF = damage.STAGES_OF | changes.STAGES_OF
KINDS = (killed_at_a_write, killed_by_the_clock, terminated, full_disk, read_only, two_at_once, *STAGES_OF)
MOUNTS = (full_disk, read_only)


def attempt(work: Callable[[random.Random], str], draw: random.Random) -> str:
    """Do `work` at another moment for as long as its run has ended before the fault."""
    for _ in range(REDRAWS):
        with suppress(MissedError):
            return work(draw)
    return f"no fault came in {REDRAWS} tries"


def may_mount() -> bool:
    """Get a mount namespace, in which nothing that is mounted is seen from outside."""
    if os.geteuid() or ctypes.CDLL(None).unshare(_NEW_NAMESPACE):
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="faults in all")
    parser.add_argument("--dvc", type=int, default=4, help="how many of them hit a command of DVC")
    parser.add_argument("--commands", nargs="*", default=[], help="these commands of DVC alone, such as commit")
    parser.add_argument("--seed", type=int, default=1, help="draws the moments")
    parser.add_argument("--minutes", type=float, default=60.0, help="no fault is caused after so many")
    parser.add_argument("--kinds", nargs="*", default=[], help="of these kinds alone, such as bits_flipped")
    chosen = parser.parse_args()
    until = time.monotonic() + 60 * chosen.minutes
    kinds = KINDS if may_mount() else tuple(kind for kind in KINDS if kind not in MOUNTS)
    wanted = [kind for kind in kinds if not chosen.kinds or kind.__name__ in chosen.kinds]
    if kinds != KINDS:
        print("skipped: full disk and read-only folder; they want root and a mount namespace")
    with tempfile.TemporaryDirectory() as folder:
        bench, draw = Bench(Path(folder)), random.Random(chosen.seed)
        works = on_stages(bench, wanted, chosen.kills - chosen.dvc, draw) if chosen.kills > chosen.dvc else []
        if not chosen.dvc:
            return report(works, draw, chosen.seed, until)
        home = Path(folder) / "home"
        home.mkdir()
        with serving(home / "bin"):
            settings = bench.folder / "undisturbed/params.yaml"
            works += dvc_faults.works(Path(folder) / "dvc", home, settings, chosen.dvc, chosen.commands)
            draw.shuffle(works)  # so that of each kind some were caused, whenever the time is over
            return report(works, draw, chosen.seed, until)


Work = tuple[str, str, Callable[[random.Random], str]]
"""What is hit, the kind of fault, and what causes it and returns what is wrong after the repeated run."""


def on_stages(bench: Bench, kinds: list[Callable[..., str]], count: int, draw: random.Random) -> list[Work]:
    """So many faults of stages, each kind and stage as often as the others."""
    drawn = [(stage, kind) for kind in kinds for stage in STAGES_OF.get(kind, STAGES)]
    draw.shuffle(drawn)
    return [
        (stage, kind.__name__, lambda draw, stage=stage, kind=kind: kind(bench, stage, draw))
        for stage, kind in (drawn * (count // len(drawn) + 1))[:count]
    ]


def report(works: list[Work], draw: random.Random, seed: int, until: float) -> int:
    """Cause the faults, none after `until`, and print the table; 0: every repeated run ended with the same bytes."""
    came: Counter[tuple[str, str]] = Counter()
    equal: Counter[tuple[str, str]] = Counter()
    for number, (stage, kind, work) in enumerate(works, 1):
        if time.monotonic() > until:
            print(f"stopped: the time is over, and {len(works) - number + 1} faults were not caused")
            break
        wrong = attempt(work, draw)
        came[stage, kind] += 1
        equal[stage, kind] += not wrong
        print(f"{number} of {len(works)}: {stage}, {kind}: {wrong or 'equal'}", flush=True)
    names = list(dict.fromkeys(kind for _, kind, _ in works))
    print("| stage |", " | ".join(name.replace("_", " ") for name in names), "|")
    print("|---|" + "---|" * len(names))
    for stage in dict.fromkeys(stage for stage, _, _ in works):
        cells = [f"{equal[stage, kind]}/{came[stage, kind]}" if came[stage, kind] else "" for kind in names]
        print(f"| {stage} |", " | ".join(cells), "|")
    print(f"{came.total()} kills, seed {seed}: {equal.total()} repeated to equal bytes")
    return int(equal != came)


if __name__ == "__main__":
    warm(THREADS)
    status = main()
    gc.unfreeze()
    sys.exit(status)
