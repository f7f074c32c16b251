"""The SLURM recipes of docs/scale.md, under a real slurmctld and slurmd, on two namespaces of this machine.

    sudo python -m tests.slurm_cluster

Two machines as in `tests.two_machines`, each with a slurmd; the first has the slurmctld. A job that says `dvc exp run`
is ended by its time limit, submitted again, and must leave the bytes of an undisturbed run. The page's script for two
machines is submitted as it stands, but for GPUs, and must leave what one process leaves.
Needs root, and Debian's packages slurmctld, slurmd, slurm-client and munge.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from captioning.system import compute

compute.pin(portable=True, threads=1)

from tests.project import Project  # noqa: E402
from tests.test_distributed import assert_close, outputs  # noqa: E402
from tests.trees import difference, tree  # noqa: E402
from tests.two_machines import MACHINES, PAGE, PREPARE, machines  # noqa: E402

_LONG = ("train.epochs=400", "train.patience=1000")  # minutes, so that a limit of one ends it
_SECONDS = 30  # until SLURM has started
_SMALLER = {  # what the page's script asks for, and what there is here
    "#SBATCH --gpus-per-node=8\n": "",
    "--cpus-per-task=64": "--cpus-per-task=1",
    "--nproc-per-node 8": "--nproc-per-node 1",
    "source .venv/bin/activate\n": "",
}
_CONFIGURATION = """
ClusterName=captioning
SlurmctldHost=node0
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
NodeName=node[0-1] CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""


def inside(name: str, *command: str) -> list[str]:
    """A command on one of the machines."""
    cgroups = "mountpoint -q /sys/fs/cgroup || mount -t tmpfs none /sys/fs/cgroup"  # slurmd asks for a mount there
    typed = f"hostname {name} && {cgroups} && exec {shlex.join(command)}"
    return ["ip", "netns", "exec", name, "unshare", "--uts", "bash", "-c", typed]


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """SLURM on both machines; what its commands need in the environment."""
    (folder / "controller").mkdir(parents=True)
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    environment = {"SLURM_CONF": str(configuration)}
    with ExitStack() as running:
        running.enter_context(_daemon(_munge(folder / "munge")))
        running.enter_context(_daemon(inside("node0", "slurmctld", "-D", "-f", str(configuration))))
        for name in MACHINES:
            (folder / name).mkdir()
            running.enter_context(_daemon(inside(name, "slurmd", "-D", "-N", name, "-f", str(configuration))))
        _wait_until_idle(environment)
        yield environment


def _wait_until_idle(environment: dict[str, str]) -> None:
    """Until both machines take jobs."""
    for _ in range(_SECONDS):
        shown = subprocess.run(
            inside("node0", "sinfo", "-h", "-N", "-o", "%t"),
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        if shown.stdout.split() == ["idle"] * len(MACHINES):
            return
        time.sleep(1)
    logs = sorted(Path(environment["SLURM_CONF"]).parent.glob("*.log"))
    said = "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-5:])
    raise SystemExit(f"SLURM: the machines are not idle after {_SECONDS} s:\n{shown.stdout}{shown.stderr}{said}")


def _munge(folder: Path) -> list[str]:
    """What starts munged, which signs SLURM's messages, with a key of its own."""
    folder.mkdir(mode=0o755)
    (folder / "key").write_bytes(bytes(range(64)) * 2)
    (folder / "key").chmod(0o600)
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    return ["munged", "--foreground", "--force", *(f"--{option}={folder / name}" for option, name in places.items())]


@contextmanager
def _daemon(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            yield
        finally:
            started.terminate()


def submit(project: Project, script: str, environment: dict[str, str]) -> str:
    """Submit a script, wait for its end, and return the job's state, such as COMPLETED or TIMEOUT."""
    path = project.folder.parent / "job.sh"
    path.write_text(script)
    given = project.environment | environment
    typed = inside("node0", "sbatch", "--wait", "--parsable", f"--output={path}.log", str(path))
    submitted = subprocess.run(typed, cwd=project.folder, env=given, capture_output=True, text=True, check=False)
    job = re.match(r"\d+", submitted.stdout)
    if job is None:
        raise SystemExit(f"sbatch: {submitted.stderr}")
    shown = subprocess.run(
        inside("node0", "scontrol", "show", "job", job[0]), env=given, capture_output=True, text=True, check=True
    )
    state = re.search(r"JobState=(\w+)", shown.stdout)
    assert state is not None, shown.stdout
    print(f"job {job[0]}: {state[1]}")
    if state[1] not in ("COMPLETED", "TIMEOUT"):
        raise SystemExit(Path(f"{path}.log").read_text())
    return state[1]


def page_script() -> str:
    """The page's script for two machines, without GPUs, with a process a machine."""
    part = PAGE.read_text().partition("\n## SLURM")[2].partition("\n## ")[0]
    script = part.partition("```bash\n")[2].partition("```")[0]
    for there, here in _SMALLER.items():
        assert there in script, script
        script = script.replace(there, here)
    return script


def limited(project: Project, undisturbed: Project, environment: dict[str, str]) -> None:
    """A job of one machine that its time limit ends, submitted again."""
    arguments = " ".join(f"-S {setting}" for setting in _LONG)
    script = "#!/bin/bash\n#SBATCH --time={}\ndvc exp run --name limited " + arguments + "\n"
    if submit(project, script.format("00:01:00"), environment) != "TIMEOUT":
        raise SystemExit("the run was quicker than its limit: nothing was ended")
    unfinished = [path.name for path in (project.folder / ".scratch/train").iterdir()]
    print(f"left of the training: {', '.join(unfinished)}")
    assert submit(project, script.format("00:30:00"), environment) == "COMPLETED"
    undisturbed.run("dvc", "exp", "run", "--name", "limited", *(f"-S{setting}" for setting in _LONG))
    found, expected = (tree(one.folder) for one in (project, undisturbed))
    if found != expected:
        raise SystemExit(difference(found, expected))
    print(f"dvc exp run, ended and submitted again: {len(found)} files, the bytes of an undisturbed run")


def main() -> None:
    """Start the cluster, and run both recipes."""
    script = page_script()
    with tempfile.TemporaryDirectory() as name, machines():
        folder = Path(name)
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        one = Project.create(folder / "one", home)
        one.set("features.trainable=false", "decoders.lstm.dropout=0.0")
        one.run(*shlex.split(PREPARE))
        one.run("git", "add", "-A")
        one.run("git", "commit", "-qm", "prepared")
        others = [Project(folder / copy, home) for copy in ("two", "limited", "undisturbed")]
        for other in others:
            shutil.copytree(one.folder, other.folder, symlinks=True)
        with cluster(folder / "slurm") as environment:
            submit(others[0], script, environment)
            for stage in ("features", "train", "evaluate"):
                one.run("python", "-m", "stages", stage)
                assert_close(outputs(others[0], stage), outputs(one, stage))
            print("two machines: what one process leaves")
            limited(others[1], others[2], environment)


if __name__ == "__main__":
    main()
