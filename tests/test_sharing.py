"""Sharing through a folder and through S3 (a server on this machine): the same bytes, or a refusal."""

import hashlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

import captioning
from captioning.captioner import model
from captioning.models import released
from captioning.system.errors import UserError
from tests.project import OWN, TINY, Project

MODEL = Path("data/train/model")
DECODER = MODEL / "decoder.safetensors"
NUMBERS = itertools.count()  # of buckets
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def damaged(data: bytes) -> bytes:
    """The same with one bit flipped."""
    return data[:-1] + bytes([data[-1] ^ 1])


class Folder:
    """A DVC remote in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.options = folder, {"url": str(folder)}

    def damage(self, md5: str) -> None:
        path = self.folder / "files/md5" / md5[:2] / md5[2:]
        path.chmod(0o644)
        path.write_bytes(damaged(path.read_bytes()))


class Bucket:
    """A DVC remote in a bucket of its own."""

    def __init__(self, address: str, name: str) -> None:
        self._client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name=KEYS["AWS_DEFAULT_REGION"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        self._client.create_bucket(Bucket=name)
        self._bucket, self.options = name, {"url": f"s3://{name}/captioning", "endpointurl": address}

    def _place(self, md5: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"captioning/files/md5/{md5[:2]}/{md5[2:]}"}

    def damage(self, md5: str) -> None:
        place = self._place(md5)
        data = self._client.get_object(**place)["Body"].read()
        self._client.put_object(**place, Body=damaged(data))


class Team:
    """An author who has published, and as many colleagues with clones of their own as are wanted."""

    def __init__(self, author: Project, store: Any, folder: Path) -> None:
        self.author, self.store, self.folder, self.origin = author, store, folder, folder / "origin.git"
        author.environment |= KEYS
        author.run("git", "init", "-q", "--bare", "-b", "main", str(self.origin))
        author.run("git", "remote", "add", "origin", str(self.origin))
        author.run("dvc", "remote", "add", "--default", "storage", store.options["url"])
        author.run("dvc", "remote", "modify", "storage", "verify", "true")
        if "endpointurl" in store.options:
            author.run("dvc", "remote", "modify", "storage", "endpointurl", store.options["endpointurl"])
        author.run("git", "commit", "-qam", "a place to share")
        author.run("dvc", "push")
        author.run("git", "tag", "-a", "model@v1.0.0", "-m", "the first that may be used")
        author.run("git", "push", "-q", "origin", "main", "model@v1.0.0")

    def colleague(self, name: str) -> Project:
        """A fresh clone, on another machine: nothing of DVC's is shared but the remote."""
        clone, home = self.folder / name, self.folder / f"home of {name}"
        clone.mkdir()
        home.mkdir()
        made = Project(clone, home, **KEYS)
        made.run("git", "clone", "-q", str(self.origin), ".")
        return made


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def team(request: pytest.FixtureRequest, experimented: Project, home: Path, tmp_path: Path) -> Team:
    shutil.copytree(experimented.folder, tmp_path / "author", symlinks=True)
    author = Project(tmp_path / "author", home)
    if request.param == "folder":
        return Team(author, Folder(tmp_path / "store"), tmp_path)
    return Team(author, Bucket(request.getfixturevalue("s3"), f"bucket-{next(NUMBERS)}"), tmp_path)


def enter(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go where a colleague is, with what is in the cache there; returns the colleague's cache of models."""
    monkeypatch.chdir(project.folder)
    for name in ("HOME", "XDG_CACHE_HOME", "DVC_SITE_CACHE_DIR", *KEYS):
        monkeypatch.setenv(name, project.environment[name])
    return Path(project.environment["XDG_CACHE_HOME"]) / "captioning/models"


def digests(project: Project) -> dict[str, str]:
    files = sorted(path for path in (project.folder / "data").rglob("*") if path.is_file())
    return {str(path.relative_to(project.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def md5(project: Project, path: Path) -> str:
    return hashlib.md5((project.folder / path).read_bytes(), usedforsecurity=False).hexdigest()


def test_a_clone_pulls_the_same_bytes(team: Team) -> None:
    colleague = team.colleague("colleague")
    assert not (colleague.folder / MODEL).exists()
    colleague.run("dvc", "pull")
    assert digests(colleague) == digests(team.author)
    assert colleague.stages_to_run() == []


def folders(names: list[str] | None, repo: str | None, default: Path) -> list[Path]:
    return [found.folder for found in released.models(names, repo, default)]


def test_a_damaged_object_is_refused(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `dvc pull`, and where a model is asked for by its revision."""
    sent = md5(team.author, DECODER)
    team.store.damage(sent)
    colleague = team.colleague("colleague")
    pulled = colleague.run("dvc", "pull", check=False)
    assert pulled.returncode != 0
    assert not (colleague.folder / DECODER).exists()
    stranger = team.colleague("stranger")
    kept = enter(stranger, monkeypatch)
    with pytest.raises(UserError, match=r"^HEAD: .*decoder.safetensors is damaged in .*; send it again with"):
        folders(["HEAD"], None, MODEL)
    assert not list(kept.iterdir())


def test_a_release_is_used_straight_from_git_and_dvc(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = team.colleague("stranger")
    kept = enter(stranger, monkeypatch)
    [folder] = folders(["model@v1.0.0"], None, MODEL)
    assert folder.parent == kept
    for path in (team.author.folder / MODEL).iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert model.read(folder).card.encoder == TINY["encoder"]
    assert not (stranger.folder / "data/train/model").exists()
    assert stranger.run("git", "status", "--porcelain").stdout == ""
    monkeypatch.chdir(kept)  # in no repository
    origin = str(team.origin)
    assert folders(["model@v1.0.0", "main"], origin, MODEL) == [folder, folder]
    assert folders(None, origin, MODEL) == [folder]
    loaded, image = captioning.load("model@v1.0.0", repo=origin), np.zeros((40, 40, 3), np.uint8)
    assert loaded.titles[0].startswith("model@v1.0.0, commit ")
    assert loaded(image) == captioning.load(folder)(image)
    (folder / "vocab.txt").write_text("spoilt\n")
    assert folders(["model@v1.0.0"], origin, MODEL) == [folder]
    assert model.read(folder).vocabulary.words


def test_predict_takes_a_release_or_an_experiment(experimented: Project, home: Path, tmp_path: Path) -> None:
    shutil.copytree(experimented.folder, tmp_path / "copy", symlinks=True)
    copy = Project(tmp_path / "copy", home)
    copy.run("git", "tag", "-a", "model@v1.0.0", "-m", "the first that may be used")
    image = str(copy.folder / "data/evaluate/gallery/test.png")
    said = copy.run("captioning", "predict", *OWN, image).stdout
    shutil.rmtree(copy.folder / MODEL)
    assert copy.run("captioning", "predict", image, "--model", "model@v1.0.0").stdout == said
    elsewhere = Project(tmp_path, home)
    repo = ("--repo", str(copy.folder))
    assert elsewhere.run("captioning", "predict", image, *repo, "--model", "short").stdout == said
    wrong = copy.run("captioning", "predict", image, "--model", "nonsuch", check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(
        "error: --model nonsuch: no such folder, and no revision: nonsuch: no commit, branch"
    )
    wrong = elsewhere.run("captioning", "predict", image, "--repo", str(tmp_path / "none"), check=False)
    assert wrong.stderr.startswith(f"error: --model HEAD: {tmp_path / 'none'}")
    assert wrong.stderr.count("\n") == 1, wrong.stderr


def test_a_colleague_applies_an_experiment(team: Team) -> None:
    """One that was run after the remote was committed: an experiment is pushed to the remote of its own commit."""
    team.author.run("dvc", "exp", "run", "-S", "evaluate.max_words=4", "--name", "winner")
    team.author.run("dvc", "exp", "push", "origin", "winner")
    colleague = team.colleague("colleague")
    assert "winner" in colleague.run("dvc", "exp", "list", "origin", "--all-commits", "--name-only").stdout.split()
    colleague.run("dvc", "exp", "pull", "origin", "winner")
    colleague.run("dvc", "exp", "apply", "winner")
    assert digests(colleague) == digests(team.author)
    assert colleague.read("params.yaml") == team.author.read("params.yaml")
    assert colleague.stages_to_run() == []
    image = "data/evaluate/gallery/test.png"
    said = [project.run("captioning", "predict", *OWN, image).stdout for project in (colleague, team.author)]
    assert said[0] == said[1] != ""


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("endpointurl", "http://127.0.0.1:9", "Could not connect to the endpoint URL"),
        ("url", "s3://nonsuch/captioning", "bucket does not exist"),
        ("profile", "nobody", "The config profile (nobody) could not be found"),
    ],
)
def test_a_remote_out_of_reach_is_told_in_one_line(
    s3: str, experimented: Project, home: Path, tmp_path: Path, option: str, value: str, said: str
) -> None:
    shutil.copytree(experimented.folder, tmp_path / "author", symlinks=True)
    team = Team(Project(tmp_path / "author", home), Bucket(s3, f"bucket-{next(NUMBERS)}"), tmp_path)
    colleague = team.colleague("colleague")
    colleague.run("dvc", "remote", "modify", "--local", "storage", option, value)
    colleague.environment["AWS_MAX_ATTEMPTS"] = "1"
    failed = colleague.run("captioning", "predict", "docs/captions.png", "--model", "model@v1.0.0", check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert failed.stderr.startswith("error: model@v1.0.0: data/train/model/model.json is not in the local cache, and")
    assert said in failed.stderr
