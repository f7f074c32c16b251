"""The pipeline stopped: stages that are killed go on and end with the same bytes, and a fault ends one in words."""

import json
import shutil
import signal
import subprocess
import sys

from tests.project import Project


def kill_after(project: Project, stage: str, text: str) -> None:
    """Start a stage and kill it, with no chance to clean up, once it prints `text`."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "stages", stage],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if text in line:
                process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "".join(printed)


def test_killed_training_goes_on_and_ends_with_the_same_bytes(copy: Project) -> None:
    shutil.rmtree(copy.folder / "data/train")
    kill_after(copy, "train", "val/cider")
    assert not (copy.folder / "data/train/model").exists()
    assert list((copy.folder / ".scratch/train").iterdir())
    printed = copy.run("dvc", "repro", "--force", "--single-item", "train")
    assert "going on at epoch 2" in printed.stdout + printed.stderr
    assert copy.run("git", "status", "--porcelain").stdout == ""
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
    assert not list((copy.folder / ".scratch/train").iterdir())


KILLED = """
import os, signal
from stages import run
from captioning.system import compute
compute.pin(portable=True, threads=1)
from captioning.data.extraction import extraction
write = extraction._Work.write
def once(self, index, count, batches):
    if index == 1:
        next(batches)
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, index, count, batches)
extraction._Work.write = once
run("features")
"""


def test_killed_features_go_on_and_end_with_the_same_bytes(copy: Project) -> None:
    shutil.rmtree(copy.folder / "data/features")
    shutil.rmtree(copy.folder / ".scratch/features")  # where the store still was, whole
    assert copy.run(sys.executable, "-c", KILLED, check=False).returncode == -signal.SIGKILL
    assert not (copy.folder / "data/features").exists()
    assert list((copy.folder / ".scratch/features").glob("*/records/00000.json"))
    printed = copy.run("dvc", "repro", "--force", "--single-item", "features")
    assert "going on: 20 images are left" in printed.stdout + printed.stderr
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
    assert len(list((copy.folder / ".scratch/features").glob("[!.]*"))) == 1
    shutil.rmtree(copy.folder / "data/features")
    printed = copy.run("dvc", "repro", "--force", "--single-item", "features")
    assert "features: 0image" in printed.stderr  # no image is read again
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}


def test_a_fault_in_the_settings_stops_the_stage_in_words(copy: Project) -> None:
    path = copy.folder / "params.yaml"
    path.write_text(path.read_text().replace("min_count: 1", "min_count: none"))
    done = copy.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "vocab.min_count = 'none'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loss_that_is_not_finite_stops_with_step_and_rate(copy: Project) -> None:
    path = copy.folder / "params.yaml"
    path.write_text(path.read_text().replace("    lr: 0.001\n    from_block", "    lr: 1.0e+9\n    from_block"))
    model = copy.folder / "data/train/model/decoder.safetensors"
    before = model.read_bytes()
    done = copy.run("python", "-m", "stages", "train", check=False)
    assert done.returncode == 1
    assert "the loss is not finite at step" in done.stderr
    assert "lr " in done.stderr
    assert model.read_bytes() == before
