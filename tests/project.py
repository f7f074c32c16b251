"""A tiny copy of this project in a temporary git repository, driven through DVC as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
OWN = ("--model", "data/train/model")  # what the pipeline trained, for `captioning predict`
_LEFT_OUT = ("dvc.lock", "params.yaml", "benchmarks/", "tests/", "website/")  # what no command reads
TINY = {
    "encoder": "mobilenet_v3_small",  # few weights: each checkpoint and each model writes them
    "decoder": "lstm",
    "compute": {"threads": 1},
    "download": {"scenes": {"train": 24, "val": 6, "test": 6, "image_size": 64}},
    "vocab": {"min_count": 1},
    "features": {"image_size": 32, "shard_size": 16},
    "decoders": {
        "lstm": {"embedding_size": 16, "hidden_size": 24},
        "neuraltalk": {"hidden_size": 24},
        "transformer": {"width": 16, "layers": 2, "heads": 2, "feed_forward": 32},
        "neighbours": {"neighbours": 4},
        "oscar": {"width": 16, "layers": 2, "heads": 2, "feed_forward": 32},
    },
    "train": {
        "epochs": 2,
        "batch_size": 20,
        "checkpoint_steps": 4,
        "optimizer": {"warmup_steps": 2},
        "labels": {"epochs": 0},
    },
}


def merge(base: dict, change: dict) -> dict:
    """`base` with the values of `change`, section by section."""
    merged = dict(base)
    for key, value in change.items():
        merged[key] = merge(base[key], value) if isinstance(value, dict) else value
    return merged


class Project:
    """A repository in `folder`; `run` starts a command in it, with what is in `home`/bin before all else."""

    def __init__(self, folder: Path, home: Path, **limits: str) -> None:
        self.folder = folder
        hidden = ("DVC_", "GIT_", "OMP_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_", "CAPTIONING_", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.environment = {
            **kept,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PATH": os.pathsep.join([str(home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "DVC_NO_ANALYTICS": "true",
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "GIT_AUTHOR_NAME": "tester",
            "GIT_AUTHOR_EMAIL": "tester@example.org",
            "GIT_COMMITTER_NAME": "tester",
            "GIT_COMMITTER_EMAIL": "tester@example.org",
            **limits,
        }

    @classmethod
    def create(cls, folder: Path, home: Path, **limits: str) -> "Project":
        """Copy what git tracks, shrink the settings, and commit."""
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith(_LEFT_OUT):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        settings = yaml.safe_load((ROOT / "params.yaml").read_text())
        (folder / "params.yaml").write_text(yaml.safe_dump(merge(settings, TINY), sort_keys=False))
        project = cls(folder, home, **limits)
        project.run("git", "init", "-q", "-b", "main", "--template=")
        project.run("git", "add", "-A")
        project.run("git", "commit", "-qm", "a tiny copy")
        project.run("git", "repack", "-adq")  # one file for 700: tests copy them
        return project

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return what it printed; fail with its output when it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def set(self, *overrides: str) -> None:
        """Change settings, given as `key=value`, in params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for override in overrides:
            key, _, value = override.partition("=")
            *sections, name = key.split(".")
            section = values
            for part in sections:
                section = section[part]
            section[name] = yaml.safe_load(value)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def stages_to_run(self, *overrides: str) -> list[str]:
        """The stages that `dvc repro` would begin with, under settings given as `key=value`."""
        path = self.folder / "params.yaml"
        before = path.read_text()
        try:
            self.set(*overrides)
            printed = self.run("dvc", "repro", "--dry").stdout
        finally:
            path.write_text(before)
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]

    def read(self, name: str) -> str:
        """A text file of the repository."""
        return (self.folder / name).read_text(encoding="utf-8")
