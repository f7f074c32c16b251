"""Damaged files of a revision: one line that says which file of which revision is wrong, and what to do."""

import json
import random
import shutil
from collections.abc import Callable, Iterator

import pytest
import yaml

from captioning.experiments import coherence, compare, table
from captioning.experiments.queueing import threads_of
from captioning.experiments.revisions import Revision, resolve
from captioning.experiments.worktree import checked_out
from captioning.models import choice, released
from captioning.system.errors import UserError, printed
from tests.damaged_bytes import damage, retyped
from tests.small import Small

ALIASES = "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 20)}]\n" for last, name in ("ab", "bc", "cd", "de", "ef")
)
DAMAGES: dict[str, bytes | None] = {  # None: a folder in its place
    "fails the schema": b"schema: '2.0'\nstages:\n  train: {outs: 3}\n",
    "no stages": b"stages: [1, 2]\n",
    "not YAML": b"stages: [\n",
    "no mapping": b"- 1\n",
    "empty": b"",
    "not UTF-8": b"stages: \xff\xfe\n",
    "a date that is none": b"stages: 2020-99-99\n",
    "an object": b"stages: !!python/object:os.system {}\n",
    "nested without end": b"stages: " + b"[" * 3000,
    "nested deeply": b"stages: " + b"[" * 200 + b"]" * 200,
    "aliases of aliases": b"a: &a [" + b"x, " * 20 + b"]\n" + ALIASES.encode(),
    "an alias of itself": b"stages: &s {a: *s}\n",
    "a folder": None,
}
READERS: dict[str, Callable[[Revision], object]] = {
    "compare": compare.read,
    "metrics": lambda revision: revision.metrics,
    "names": lambda revision: revision.names("data/evaluate"),
    "predict": lambda revision: released.models([revision.sha], None, choice.TRAINED),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """A small project, and this process in it."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        small = Small.create(folder, folder)
        patch.chdir(folder)
        yield small


def put(small: Small, path: str, content: bytes | None) -> None:
    if content is None:
        (small.folder / path).unlink()
        (small.folder / path).mkdir()
        (small.folder / path / "inside").write_text("x")
    else:
        small.write(path, content)


def restored(small: Small, path: str, head: str) -> None:
    shutil.rmtree(small.folder / path, ignore_errors=True)
    small.git("reset", "-q", "--hard", head)


def committed(small: Small, path: str, content: bytes | None) -> Revision:
    """A commit with this file, and the workspace as it was before."""
    head = small.git("rev-parse", "HEAD")
    put(small, path, content)
    sha = small.commit("damaged")
    restored(small, path, head)
    return resolve([sha])[0]


def said(read: Callable[[Revision], object], revision: Revision) -> str:
    """How it was refused, as it is printed: in one line; empty: it was read."""
    try:
        read(Revision("old", revision.sha))
    except UserError as fault:
        text = printed(fault)
        assert len(text.splitlines()) == 1, text
        assert text.isprintable(), text
        assert len(text) <= 300, text
        return text
    return ""


@pytest.mark.parametrize("path", ["dvc.lock", "dvc.yaml"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_each_reader_names_the_file_and_the_revision(whole: Small, path: str, kind: str) -> None:
    revision = committed(whole, path, DAMAGES[kind])
    for name, read in READERS.items():
        text = said(read, revision)
        assert path in text, f"{name}: {text}"
        assert text.startswith(("old: ", f"{revision.sha}: ")), f"{name}: {text}"
        assert "restore it with `git restore`" in text, f"{name}: {text}"


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_workspace_is_read_as_carefully(whole: Small, kind: str) -> None:
    head = whole.git("rev-parse", "HEAD")
    put(whole, "dvc.lock", DAMAGES[kind])
    try:
        assert "dvc.lock" in said(compare.read, Revision("workspace", "workspace"))
    finally:
        restored(whole, "dvc.lock", head)


def test_a_row_of_the_table_says_what_is_wrong_and_a_worktree_is_refused(whole: Small) -> None:
    revision = committed(whole, "dvc.lock", DAMAGES["fails the schema"])
    assert "dvc.lock" in str(table._examine("old", revision.sha).fault)
    for content, begin in (
        (DAMAGES["not YAML"], "dvc.lock is not YAML"),
        (b"schema: '2.0'\n", "no stage in its dvc.l"),
    ):
        damaged = Revision("old", committed(whole, "dvc.lock", content).sha)
        with pytest.raises(UserError, match=begin), checked_out(damaged, whole.folder):
            pass
    assert whole.git("worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    "params", ["compute: 3\n", "compute: {threads: two}\n", "compute: {threads: 0}\n", "seed: 1\n"]
)
def test_threads_that_are_no_number_are_named(whole: Small, params: str) -> None:
    text = said(threads_of, committed(whole, "params.yaml", params.encode()))
    assert text.startswith("old: params.yaml has no number compute.threads; restore it")


@pytest.mark.parametrize("path", ["dvc.lock", "dvc.yaml", "params.yaml", "data/evaluate/metrics.json"])
def test_values_of_other_types_are_read_or_refused(whole: Small, path: str) -> None:
    """In every place, and some are missing or have another name. JSON is YAML."""
    draw, document = random.Random(path), yaml.safe_load((whole.folder / path).read_bytes())
    for _ in range(6):
        revision = committed(whole, path, retyped(json.dumps(document).encode(), draw))
        for read in (compare.read, READERS["metrics"], coherence.stages):
            said(read, revision)


@pytest.mark.parametrize("path", [".dvc/config", ".dvcignore"])
def test_dvcs_own_files_are_read_or_refused(whole: Small, path: str) -> None:
    draw, text = random.Random(path), (whole.folder / path).read_bytes()
    for content in (b"\xff\xfe\n", None, *(damage(text * 3, draw) for _ in range(4))):
        revision = committed(whole, path, content)
        for read in (compare.read, READERS["metrics"]):
            said(read, revision)


def test_a_stage_that_depends_on_itself_has_an_end(whole: Small) -> None:
    lock = yaml.safe_load((whole.folder / "dvc.lock").read_bytes())
    lock["stages"]["split"]["deps"].append({"path": "data/split", "md5": "0" * 32})
    revision = committed(whole, "dvc.lock", yaml.safe_dump(lock).encode())
    coherence.examine(revision, [compare.CAPTIONS])
    said(compare.read, revision)


def test_a_workspace_whose_dvcignore_is_no_text_is_refused(whole: Small) -> None:
    head = whole.git("rev-parse", "HEAD")
    whole.write(".dvcignore", b"\xff\n")
    try:
        with pytest.raises(UserError, match=r"^this folder: .dvcignore or .dvc/config: .*; restore it with"):
            resolve(["workspace"])
    finally:
        restored(whole, ".dvcignore", head)
