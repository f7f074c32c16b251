"""Each revision's results are its own: settings, data and code that it has are those with which its stages ran."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from captioning.cli import gallery
from captioning.experiments import coherence, compare, results, suites
from captioning.experiments.queueing import Queue, State
from captioning.experiments.revisions import Revision, resolve
from captioning.experiments.table import collect, examined, table
from captioning.models import released
from captioning.system.errors import UserError
from tests.imports import ROOT
from tests.small import Small

FILES = results.SCORES
MODEL = Path("data/train/model")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(autouse=True)
def _own_folders(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of DVC's or of the user's cache is outside the test."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(site))
    monkeypatch.setenv("XDG_CACHE_HOME", str(site))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Callable[[str], Small]:
    """A small project by its folder in its git repository, made once each."""
    known: dict[str, Small] = {}

    def make(inside: str) -> Small:
        if inside not in known:
            folder = tmp_path_factory.mktemp("git")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DVC_SITE_CACHE_DIR", str(site))
                known[inside] = Small.create(folder / inside, folder)
        return known[inside]

    return make


@pytest.fixture(params=[".", "cap", "apps/own cap"])
def small(
    made: Callable[[str], Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Small:
    """A copy, and this process in it: alone in its git repository, or a folder of a larger one."""
    copy = made(request.param).copy(tmp_path / "copy")
    monkeypatch.chdir(copy.folder)
    return copy


@pytest.fixture
def alone(made: Callable[[str], Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """As `small`, alone in its git repository."""
    copy = made(".").copy(tmp_path / "copy")
    monkeypatch.chdir(copy.folder)
    return copy


def fault(name: str, files: tuple[str, ...] = FILES) -> str | None:
    return coherence.examine(resolve([name])[0], files).fault


def test_what_was_run_as_a_whole_belongs_together(small: Small) -> None:
    """Digests of source folders are those that DVC itself recorded."""
    (small.folder / "src/lib/__pycache__").mkdir()
    small.write("src/lib/__pycache__/a.pyc", "ignored")
    for revision in resolve(["HEAD", "main", "workspace"]):
        assert coherence.examine(revision, FILES) == (None, [])
        assert revision.params["encoder"] == "resnet18"
        assert revision.metrics == {"bleu_1": 0.5, "cider": 1.25}
        assert revision.names("data/train/plots")[0] == "data/train/plots/metrics/train/gradient_norm/all.tsv"
        assert len(compare.read(revision).captions) == 3
    assert compare.read(resolve(["HEAD"])[0]).settings["encoder"] == "resnet18"


@pytest.mark.parametrize("where", ["HEAD", "workspace"])
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("encoder", "resnet34", "train ran with encoder = resnet18, and params.yaml has resnet34"),
        ("train.optimizer.lr", 0.1, "train ran with train.optimizer.lr = 0.001, and params.yaml has 0.1"),
        ("split.limit", 2, "split ran with split.limit = null, and params.yaml has 2"),
        ("dataset", "", "download ran with dataset = scenes, and params.yaml has ''"),
        ("evaluate", {}, "evaluate ran with evaluate.max_words = 30, and params.yaml has none"),
        ("train.new", True, "train ran with train.new = none, and params.yaml has true"),
        ("unused.width", 16, None),
    ],
)
def test_a_setting_that_a_stage_did_not_run_with_is_named(
    alone: Small, where: str, key: str, value: Any, said: str | None
) -> None:
    alone.set(key, value)
    alone.record("check")
    if where == "HEAD":
        alone.commit("not run")
    assert fault(where) == said
    revision = resolve([where])[0]
    if said is None:
        compare.read(revision)
    else:
        with pytest.raises(UserError, match=rf"^{where}: .* ran with .*; run "):
            compare.read(revision)


def test_a_stage_that_leads_to_nothing_that_is_read_does_not_count(alone: Small) -> None:
    """A model is that of its settings, whatever captions were made with it."""
    alone.set("evaluate.max_words", 3)
    alone.commit("not run")
    assert fault("HEAD", ("data/train/model/model.json",)) is None
    assert fault("HEAD")


def half_run(small: Small, *stages: str) -> None:
    """Other data, of which only some stages know."""
    small.write("data/download/captions.csv", "image_id,caption\nx,y\n")
    small.record(*stages)


def test_data_that_was_made_anew_since_is_named(alone: Small) -> None:
    half_run(alone, "download")
    assert fault("workspace") == "split ran with another data/download/captions.csv than download made"
    alone.record("split")
    assert fault("workspace") == "train ran with another data/download than download made"
    alone.record()
    assert fault("workspace") is None


def test_a_file_that_was_not_recorded_or_was_changed_is_named(alone: Small) -> None:
    alone.write("data/evaluate/captions.json", [{"image_id": k, "caption": "better"} for k in (1, 2, 3)])
    assert fault("workspace") == "data/evaluate/captions.json is not what dvc.lock records"
    alone.record()
    assert fault("workspace") is None
    alone.write("data/evaluate/metrics.json", {"cider": 9.9})
    alone.commit("a better number")
    assert fault("HEAD") == "data/evaluate/metrics.json is not what dvc.lock records"
    index = "data/evaluate/attention/index.json"
    alone.write(index, {"pictures": [], "more": 1})
    with pytest.raises(UserError, match=rf"^workspace: {index} is not what dvc.lock records; restore it"):
        resolve(["workspace"])[0].read(index)
    alone.write("dvc.lock", "schema: '2.0'\n")
    assert (fault("workspace") or "").startswith("dvc.lock does not record data/evaluate/captions.json")


def test_a_score_in_git_of_a_stage_that_was_not_run_is_named(alone: Small) -> None:
    """Its dvc.lock began anew, with the first stages."""
    stages = yaml.safe_load((alone.folder / "dvc.lock").read_text())["stages"]
    del stages["evaluate"]
    alone.write("dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))
    alone.commit("half of it")
    said = "dvc.lock does not record data/evaluate/metrics.json, so that its settings are unknown"
    assert fault("HEAD", (coherence.METRICS,)) == said
    (alone.folder / "data/evaluate/metrics.json").unlink()
    alone.commit("no score")
    assert fault("HEAD", (coherence.METRICS,)) is None


def test_a_project_that_is_a_submodule_is_read(alone: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = tmp_path / "above"
    above.mkdir()
    alone.git("init", "-q", "-b", "main", folder=above)
    add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(alone.folder), "parts/cap")
    alone.git(*add, folder=above)
    monkeypatch.chdir(above / "parts/cap/src")
    [head] = resolve(["HEAD"])
    assert coherence.examine(head, FILES) == (None, [])
    assert head.params["encoder"] == "resnet18"
    with pytest.raises(UserError, match=r"^HEAD: data/evaluate/captions.json is not in the local cache; fetch it"):
        head.read(compare.CAPTIONS)


def test_a_project_in_a_larger_dvc_repository_is_read(
    made: Callable[[str], Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = made("cap").copy(tmp_path / "copy")
    (small.folder / ".dvc").rename(small.git_folder / ".dvc")
    small.record()
    small.commit("DVC's folder is git's")
    monkeypatch.chdir(small.folder / "src/lib")
    for revision in resolve(["HEAD", "workspace"]):
        assert coherence.examine(revision, FILES) == (None, [])
        assert len(compare.read(revision).captions) == 3
        assert revision.names("stages") == ["stages/train.py"]
        assert revision.metrics["cider"] == 1.25


def test_edited_code_is_a_warning(alone: Small, caplog: pytest.LogCaptureFixture) -> None:
    alone.write("src/lib/inner/b.py", "B = 3\n")
    alone.commit("a comment, perhaps")
    with caplog.at_level(logging.WARNING):
        compare.read(resolve(["HEAD"])[0])
    assert caplog.messages == ["HEAD: code was edited since these results were made (src/lib)"]
    (alone.folder / "stages/train.py").unlink()
    assert coherence.examine(resolve(["workspace"])[0], FILES) == (None, ["src/lib", "stages/train.py"])


def test_an_older_lock_that_lacks_stages_and_digests_is_read(alone: Small) -> None:
    stages = yaml.safe_load((alone.folder / "dvc.lock").read_text())["stages"]
    for entry in stages["train"]["deps"]:
        del entry["hash"]  # DVC 2 left it out, and took the digest of a text with other line ends
        if entry["path"].startswith("src"):
            entry["md5"] = "0" * 32
    older = {"schema": "2.0", "stages": {name: stages[name] for name in ("split", "train", "evaluate")}}
    alone.write("dvc.lock", yaml.safe_dump(older))
    alone.commit("an older version")
    assert fault("HEAD") is None
    assert coherence.examine(resolve(["HEAD"])[0], FILES).code == []
    assert len(compare.read(resolve(["HEAD"])[0]).captions) == 3


@pytest.mark.parametrize(
    "text", ["[", "[1]\n", "", "\xff", "stages: [1]\n", "stages:\n  train: 1\n", "stages:\n  train: {deps: 3}\n"]
)
@pytest.mark.parametrize("path", ["dvc.lock", "params.yaml"])
def test_a_damaged_lock_is_one_line(alone: Small, path: str, text: str) -> None:
    alone.write(path, text.encode("latin-1"))
    if path == "params.yaml" and text.startswith("stages"):
        return
    with pytest.raises(UserError, match=rf"^workspace: {path}") as caught:
        compare.read(Revision("workspace", "workspace"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_the_project_itself_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert fault("HEAD", (compare.CAPTIONS, compare.PER_IMAGE, compare.REFERENCES, coherence.METRICS)) is None


def test_a_model_of_other_settings_is_refused(small: Small) -> None:
    assert released.models(["HEAD"], None, MODEL)
    small.set("encoder", "resnet34")
    small.commit("not run")
    with pytest.raises(UserError, match=r"^HEAD: train ran with encoder = resnet18, and params.yaml has resnet34; run"):
        released.models(["HEAD"], None, MODEL)


def test_the_gallery_is_of_its_settings(alone: Small) -> None:
    alone.set("evaluate.max_words", 3)
    with pytest.raises(UserError, match=r"^workspace: evaluate ran with evaluate.max_words = 30"):
        gallery.sample(3, 0)


def depth(small: Small) -> str:
    """A suite of which one run was made as a whole, and the other stopped after its first stages."""
    small.write("experiments/depth.yaml", "question: q?\nscores: [cider]\nruns: {a: {seed: 2}, b: {encoder: other}}\n")
    base = small.commit("a suite")
    small.set("seed", 2)
    small.write("data/evaluate/metrics.json", {"cider": 0.75})
    small.record()
    small.experiment("depth-a", base)
    small.set("encoder", "other")
    small.record("check", "download")
    small.experiment("depth-b", base)
    return base


def suite_of_two() -> suites.Suite:
    made = {"a": {"seed": 2}, "b": {"encoder": "other"}}
    runs = [suites.Run(f"depth-{name}", name, None, overrides) for name, overrides in made.items()]  # type: ignore[arg-type]
    return suites.Suite("depth", "q?", ["cider"], runs)


REASON = "train ran with encoder = resnet18, and params.yaml has other"


def test_a_half_run_experiment_has_no_scores_in_the_table_of_its_suite(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth(small)
    monkeypatch.setattr(Queue, "seconds", lambda *_: None)
    suite, queue = suite_of_two(), Queue()
    found = results.gather(suite, queue, None)
    assert [run.label for run in found.runs] == ["a"]
    lines = results.table(suite, found).splitlines()
    assert [line.split(" | ")[1] for line in lines if line.startswith("| ")] == ["CIDEr", "0.7500", "–"]
    assert f"- depth-b: no scores shown: {REASON}; it was not run as a whole" in lines
    assert "refused" not in found.model_dump()
    assert results.refusals(suite, queue) == {"depth-b": REASON}
    with pytest.raises(UserError, match=r"^depth-b: .*: remove it with `dvc exp remove depth-b`, then run the suite"):
        results.check_whole(suite, queue)
    results.check_complete(suite, found.model_copy(update={"runs": []}), required=False)
    with pytest.raises(UserError, match="1 of 2 runs of depth are not done"):
        results.check_complete(suite, found, required=True)
    assert State.stale == "stale"


def test_a_half_run_experiment_has_no_scores_in_the_table_of_experiments(small: Small) -> None:
    base = depth(small)
    shas = {name: small.git("rev-parse", f"refs/exps/{base[:2]}/{base[2:]}/{name}") for name in ("depth-a", "depth-b")}

    def state(rev: str, name: str | None, **more: Any) -> dict[str, Any]:
        data = {"metrics": {"m": {"data": {"cider": 1.25}}}, "params": {"p": {"data": {}}}, "deps": {}}
        return {"rev": rev, "name": name, "data": data, "experiments": None, **more}

    runs = [{"name": name, "revs": [state(sha, name)], "executor": None} for name, sha in shas.items()]
    small.set("train.optimizer.lr", 0.5)
    document = [state("workspace", None), state(base, "main", experiments=runs)]
    here, main, a, b = collect(document, known=examined(document))
    assert (main.scores, a.scores, b.scores, here.scores) == ({"cider": 1.25}, {"cider": 1.25}, {}, {})
    assert b.state == f"not its own scores: {REASON}"
    assert here.state == ("not its own scores: train ran with train.optimizer.lr = 0.001, and params.yaml has 0.5")
    assert [line.split()[:2] for line in table([main, a, b], 160)[2:]] == [
        ["main", "1.250"],
        ["depth-a", "1.250"],
        ["depth-b", "–"],
    ]


def test_a_neighbour_in_the_git_repository_does_not_stop_a_suite(small: Small) -> None:
    small.write("docs/a page.md", "text")
    neighbour = small.git_folder / "neighbour.txt"
    neighbour.write_text("one")
    small.git("add", "-A", folder=small.git_folder)
    small.commit("a neighbour")
    small.write("docs/a page.md", "other text")
    if small.git_folder != small.folder:
        neighbour.write_text("two")
    Queue().check_clean()
    small.set("seed", 9)
    with pytest.raises(UserError, match=r"1 files differ from it, such as params.yaml: commit"):
        Queue().check_clean()


def test_another_repository_is_read_by_its_path(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [head] = resolve(["HEAD"], str(small.folder))
    assert head.params["encoder"] == "resnet18"
    assert head.read(compare.CAPTIONS).startswith(b"[")
    assert SimpleNamespace(**head.metrics).cider == 1.25


def test_another_repository_is_held_to_itself_by_its_address(
    alone: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.git("clone", "-q", "--bare", str(alone.folder), str(tmp_path / "origin.git"))
    monkeypatch.chdir(tmp_path)
    [head] = resolve(["HEAD"], str(tmp_path / "origin.git"))
    assert coherence.examine(head, FILES) == (None, [])
