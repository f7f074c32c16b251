"""Files, settings and scores of a revision, read without a checkout."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from captioning.experiments import compare
from captioning.experiments.revisions import resolve
from captioning.system.errors import UserError
from tests.project import Project

CAPTIONS = "data/evaluate/captions.json"


@pytest.fixture
def inside(copy: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A reproduced project that a test may spoil, and this process in it."""
    return enter(copy, monkeypatch)


def enter(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", project.environment["DVC_SITE_CACHE_DIR"])
    return project


def cached(project: Project, path: str) -> Path:
    """The file of the local cache that holds an output."""
    lock = subprocess.run(["git", "show", "HEAD:dvc.lock"], cwd=project.folder, capture_output=True, text=True).stdout
    md5 = lock.partition(f"path: {path}\n")[2].partition("md5: ")[2].split()[0]
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def test_each_kind_of_name_is_read_and_the_workspace_stays_as_it_is(
    experimented: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = enter(experimented, monkeypatch)
    inside.run("git", "tag", "--force", "first")
    head = inside.run("git", "rev-parse", "HEAD").stdout.strip()
    before = inside.run("git", "status", "--porcelain").stdout
    main, tag, commit, experiment, workspace = resolve(["main", "first", head[:8], "short", "workspace"])
    assert main.sha == tag.sha == commit.sha == head != experiment.sha
    assert (commit.short, workspace.short) == (head[:7], "workspace")
    here = (inside.folder / CAPTIONS).read_bytes()
    assert main.read(CAPTIONS) == workspace.read(CAPTIONS) == here
    assert max(len(row["caption"].split()) for row in json.loads(experiment.read(CAPTIONS))) == 3
    assert [revision.params["evaluate"]["max_words"] for revision in (main, experiment)] == [30, 3]
    assert main.metrics["cider"] == json.loads(inside.read("data/evaluate/metrics.json"))["cider"]
    assert compare.baselines(main) == json.loads(inside.read(compare.BASELINES))
    assert {"floor", "human", "variety"} == compare.baselines(main).keys()
    assert inside.run("git", "status", "--porcelain").stdout == before


def test_the_workspace_is_read_as_it_lies_there(inside: Project) -> None:
    inside.set("seed=7")
    main, workspace = resolve(["main", "workspace"])
    assert [revision.params["seed"] for revision in (main, workspace)] == [1, 7]
    assert workspace.read("params.yaml") == (inside.folder / "params.yaml").read_bytes() != main.read("params.yaml")


@pytest.mark.usefixtures("inside")
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    [head] = resolve(["HEAD"])
    with pytest.raises(UserError, match=r"^HEAD: no data/none.csv in this revision; run its pipeline"):
        head.read("data/none.csv")
    with pytest.raises(UserError, match="data/evaluate is a folder"):
        head.read("data/evaluate")
    with pytest.raises(UserError, match=r"^gone: no commit, branch, tag or experiment has this name"):
        resolve(["HEAD", "gone"])
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(outside)
        with pytest.raises(UserError, match="not in a DVC repository"):
            resolve(["HEAD"])


def test_a_file_that_only_a_remote_has_asks_for_a_pull(inside: Project, tmp_path: Path) -> None:
    inside.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    inside.run("dvc", "push", CAPTIONS)
    assert list((tmp_path / "store").rglob(cached(inside, CAPTIONS).name))
    [head] = resolve(["HEAD"])
    cached(inside, CAPTIONS).unlink()
    with pytest.raises(
        UserError, match=r"^HEAD: .*captions.json is not in the local cache; .*`dvc exp pull origin HEAD`"
    ):
        head.read(CAPTIONS)
    (inside.folder / CAPTIONS).unlink()
    with pytest.raises(UserError, match=r"^workspace: .* is not in the local cache; fetch it with `dvc pull`"):
        resolve(["workspace"])[0].read(CAPTIONS)


def test_damaged_bytes_are_refused(inside: Project) -> None:
    path = cached(inside, CAPTIONS)
    damaged = path.with_suffix(".damaged")
    shutil.copy(path, damaged)
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes().replace(b"caption", b"kaption"))
    damaged.replace(path)
    [head] = resolve(["HEAD"])
    with pytest.raises(UserError, match=r"captions.json is damaged in the local cache"):
        head.read(CAPTIONS)
