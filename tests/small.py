"""A small project whose results were written by hand and recorded with `dvc commit`: all a revision has, in no time."""

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from captioning.captioner import cards
from captioning.system.sealed import sealed

PARAMS: dict[str, Any] = {
    "seed": 1,
    "dataset": "scenes",
    "encoder": "resnet18",
    "compute": {"threads": 1},
    "split": {"limit": None},
    "train": {"optimizer": {"lr": 0.001}},
    "evaluate": {"max_words": 30},
    "unused": {"width": 8},
}
STAGES: dict[str, dict[str, Any]] = {
    "check": {"params": [{"params.yaml": None}], "outs": ["data/check"]},
    "download": {"params": ["dataset"], "deps": ["data/check"], "outs": ["data/download"]},
    "split": {
        "params": ["split"],
        "deps": ["data/download/captions.csv"],
        "outs": ["data/split/references_test.json"],
    },
    "train": {
        "params": ["encoder", "seed", "train"],
        "deps": ["data/download", "src/lib", "stages/train.py"],
        "outs": ["data/train/metrics.json", "data/train/model", "data/train/plots"],
    },
    "evaluate": {
        "params": ["evaluate"],
        "deps": ["data/split/references_test.json", "data/train/model", "src/lib"],
        "outs": [
            "data/evaluate/attention",
            "data/evaluate/baselines.json",
            "data/evaluate/captions.json",
            "data/evaluate/per_image.csv",
        ],
        "metrics": [{"data/evaluate/metrics.json": {"cache": False}}],
    },
}
CURVES = ("val/cider", "train/loss/caption", "val/loss/caption", "train/gradient_norm/all")
IMAGES = (1, 2, 3)


def _results() -> dict[str, Any]:
    said = ["a dog runs", "a cat sits", "two birds fly"]
    weights = {name: name for name in cards.FILES}
    empty: dict[str, Any] = {}
    card = cards.Card("resnet18", "lstm", empty, empty, empty, {"portable": True, "threads": 1}, empty, empty)
    files = {name: sha256(text.encode()).hexdigest() for name, text in weights.items()}
    model = sealed({"format": cards.FORMAT, **asdict(card), "files": files})
    return {
        "data/check/README.txt": "checked\n",
        "data/download/captions.csv": "image_id,caption\n",
        "data/split/references_test.json": {
            "images": [{"id": k, "file_name": f"a.zip/{k}.png"} for k in IMAGES],
            "annotations": [{"id": k, "image_id": k, "caption": f"{text} there"} for k, text in enumerate(said, 1)],
        },
        "data/train/metrics.json": {"val": {"cider": 1.5}, "epoch": 1},
        "data/train/model/model.json": model,
        **{f"data/train/model/{name}": text for name, text in weights.items()},
        **{f"data/train/plots/metrics/{name}.tsv": "step\tvalue\n0\t0.5\n1\t0.75\n" for name in CURVES},
        "data/evaluate/attention/index.json": {"pictures": []},
        "data/evaluate/baselines.json": {"floor": {"cider": 0.25}},
        "data/evaluate/captions.json": [{"image_id": k, "caption": text} for k, text in enumerate(said, 1)],
        "data/evaluate/per_image.csv": "image_id,coco_id,file,hypothesis\n"
        + "".join(f"img{k},{k},a.zip/{k}.png,x\n" for k in IMAGES),
        "data/evaluate/metrics.json": {"bleu_1": 0.5, "cider": 1.25},
    }


class Small:
    """The project in `folder`, of the git repository `git_folder`, both of which may be the same."""

    def __init__(self, folder: Path, git_folder: Path) -> None:
        self.folder, self.git_folder = folder, git_folder

    @classmethod
    def create(cls, folder: Path, git_folder: Path) -> "Small":
        """Write, record and commit it."""
        small = cls(folder, git_folder)
        git_folder.mkdir(parents=True, exist_ok=True)
        small.git("init", "-q", "-b", "main", str(git_folder), folder=git_folder)
        small.write(".dvc/config", "[core]\n    analytics = false\n    autostage = false\n")
        small.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
        small.write(".gitignore", "/data/*/*\n!/data/evaluate/metrics.json\n")
        small.write(".dvcignore", "__pycache__\n")
        small.write("src/lib/a.py", "A = 1\n")
        small.write("src/lib/inner/b.py", "B = 2\n")
        small.write("stages/train.py", "print()\n")
        small.write("params.yaml", yaml.safe_dump(PARAMS, sort_keys=False))
        stages = {name: {"cmd": "false", **stage} for name, stage in STAGES.items()}
        small.write("dvc.yaml", yaml.safe_dump({"stages": stages}, sort_keys=False))
        for path, content in _results().items():
            small.write(path, content)
        small.record()
        small.commit("all of it")
        return small

    def write(self, path: str, content: Any) -> None:
        """Write a file: text or bytes as they are, all else as JSON. What DVC has made read-only is replaced."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())

    def set(self, key: str, value: Any) -> None:
        """Change a setting in params.yaml, by its dotted key."""
        values = yaml.safe_load((self.folder / "params.yaml").read_text())
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = value
        self.write("params.yaml", yaml.safe_dump(values, sort_keys=False))

    def record(self, *stages: str) -> None:
        """`dvc commit` of some stages, or of all: dvc.lock says that they ran with what lies there."""
        with contextlib.chdir(self.folder), Repo() as repo:
            for stage in stages or (None,):
                repo.commit(stage, force=True)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """What a git command prints, in the project."""
        who = {f"GIT_{role}_{what}": "tester" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ("git", "-c", "commit.gpgsign=false", *arguments)
        done = subprocess.run(
            command, cwd=folder or self.folder, env=kept | who, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit all that git tracks, and return the commit."""
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def experiment(self, name: str, base: str) -> str:
        """Make what lies there an experiment of the commit `base`, as DVC keeps them, and go back to it."""
        made = self.commit(name)
        self.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
        self.git("reset", "-q", "--hard", base)
        return made

    def copy(self, folder: Path) -> "Small":
        """A copy that a test may spoil."""
        shutil.copytree(self.git_folder, folder, symlinks=True)
        return Small(folder / self.folder.relative_to(self.git_folder), folder)
