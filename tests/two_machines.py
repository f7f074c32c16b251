"""The commands of docs/scale.md for several machines, between two network namespaces of this one.

    sudo python -m tests.two_machines

A namespace has a name, an address and a loopback of its own; both see one folder. The lines of the page are run as they
stand, with one process a machine. What the stages leave is compared with what one process leaves, and `dvc status` must
find nothing to do after `dvc commit`. Needs Linux, root, and `ip` of iproute2.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioning.system import compute

compute.pin(portable=True, threads=1)

from tests.imports import ROOT  # noqa: E402
from tests.project import Project  # noqa: E402
from tests.test_distributed import assert_close, in_processes, outputs  # noqa: E402

MACHINES = {"node0": "10.77.0.1", "node1": "10.77.0.2"}
PAGE = ROOT / "docs/scale.md"
_HOSTS = Path("/etc/netns")  # `ip netns exec` shows the files of a folder here in place of those of /etc
PREPARE = "dvc repro weights objects"


def commands() -> list[str]:
    """The lines of the page that start a stage on each machine, for one process a machine."""
    part = PAGE.read_text().partition("## Several machines, by hand")[2].partition("\n## ")[0]
    found = re.findall(r"^torchrun .*$", part, re.MULTILINE)
    assert len(found) == 3, found
    assert f"\n{PREPARE}\n" in part
    return [line.replace("--nproc-per-node 8", "--nproc-per-node 1") for line in found]


@contextmanager
def machines() -> Iterator[None]:
    """Two namespaces that reach each other by name, over a pair of virtual cables."""
    hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in MACHINES.items())
    try:
        for name in MACHINES:
            _ip("netns", "add", name)
            (_HOSTS / name).mkdir(parents=True)
            (_HOSTS / name / "hosts").write_text(hosts)
        _ip("link", "add", "eth0", "netns", "node0", "type", "veth", "peer", "name", "eth0", "netns", "node1")
        for name, address in MACHINES.items():
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
        yield
    finally:
        for name in MACHINES:
            subprocess.run(["ip", "netns", "delete", name], check=False)
            shutil.rmtree(_HOSTS / name, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def on_each(line: str, project: Project) -> None:
    """Run a line on all machines at once, as somebody does who types it on each."""
    running = []
    for name in MACHINES:
        typed = f"hostname {name} && exec {line}"
        command = ["ip", "netns", "exec", name, "unshare", "--uts", "bash", "-c", typed]
        running.append(subprocess.Popen(command, cwd=project.folder, env=project.environment))
    statuses = [one.wait() for one in running]
    if any(statuses):
        raise SystemExit(f"{line}: ended with status {' and '.join(map(str, statuses))}")


def main() -> None:
    """Run all stages on one machine and on two, and compare."""
    with tempfile.TemporaryDirectory() as folder, machines():
        home = Path(folder) / "home"
        home.mkdir()
        one = Project.create(Path(folder) / "one", home)
        one.set("features.trainable=false", "decoders.lstm.dropout=0.0")
        one.run(*shlex.split(PREPARE))
        shutil.copytree(one.folder, Path(folder) / "two", symlinks=True)
        two = Project(Path(folder) / "two", home)
        for line in commands():
            stage = line.split()[-1]
            on_each(line, two)
            one.run("python", "-m", "stages", stage)
            assert_close(outputs(two, stage), outputs(one, stage))
            print(f"{stage}: what two machines left is what one process left")
        card = two.read("data/train/model/model.json")
        assert re.search(r'"processes": 2\b', card), card
        two.run("dvc", "commit", "--force", "features", "train", "evaluate")
        in_processes(two, 1)
        print(two.run("dvc", "status").stdout.strip())


if __name__ == "__main__":
    sys.exit(main())
