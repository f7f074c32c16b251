"""The pipeline end to end through DVC: what re-runs, whose code runs, the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml

from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import SPECIAL
from captioning.system.archives import ImageArchives
from captioning.system.files import digest
from tests.imports import ROOT, STAGES, closure, listed
from tests.model_cards import make_older
from tests.noise import noise
from tests.project import OWN, TINY, Project

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
AFTER_FEATURES = ["train", "evaluate"]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_lists_exactly_the_folders_a_stage_imports_from(stage: str) -> None:
    code = [path for path in PIPELINE["stages"][stage]["deps"] if path.startswith(("src/", "stages/"))]
    assert code == listed(stage)


def test_early_stages_never_import_torch() -> None:
    """`objects` loads it where it trains a detector, and nowhere else."""
    for stage in ("download", "vocab", "split", "objects"):
        code = f"import sys, stages.{stage}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0, stage


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_lists_exactly_the_settings_a_stage_reads(project: Project, stage: str) -> None:
    """Runs the stage once more with settings that note what is read, and the modules that are loaded.

    `features` reads other settings when the encoder is frozen, and `objects` when it trains: they run both ways.
    """
    other_way = {"features": ("trainable: auto", "trainable: false"), "objects": ("objects: none", "objects: trained")}
    read: set[str] = set()
    files: set[str] = set()
    for old, new in [("", ""), *([other_way[stage]] if stage in other_way else [])]:
        other = project.folder / "other.yaml"
        other.write_text(project.read("params.yaml").replace(old, new))
        printed = project.run("python", str(ROOT / "tests" / "recorder.py"), stage, str(other)).stdout
        other.unlink()
        seen = json.loads(printed.splitlines()[-1])
        read.update(seen["settings"])
        files.update(seen["files"])
    written = yaml.safe_load(project.read("params.yaml"))
    listed = PIPELINE["stages"][stage].get("params", [])
    listed = [key.replace("${decoder}", written["decoder"]) if isinstance(key, str) else key for key in listed]
    if stage == "check":
        assert listed == [{"params.yaml": None}]  # every setting, and those that are none
        listed = sorted({leaf.split(".")[0] for leaf in read})
    for leaf in read:
        assert any(leaf == key or leaf.startswith(f"{key}.") for key in listed), f"{leaf} is read and not listed"
    for key in listed:
        assert any(leaf == key or leaf.startswith(f"{key}.") for leaf in read), f"{key} is never read"
    assert files <= set(closure(stage))
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q", "--force")


def test_git_and_dvc_are_clean_after_a_run(project: Project) -> None:
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert json.loads(project.run("dvc", "status", "--json").stdout) == {}
    assert project.stages_to_run() == []


def test_outputs_are_what_their_readers_expect(project: Project) -> None:
    metrics = json.loads(project.read("data/evaluate/metrics.json"))
    names = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
    assert names <= metrics.keys()
    references = json.loads(project.read("data/split/references_test.json"))
    assert metrics["signature"][:2] == ["refs:5", f"images:{len(references['images'])}"]
    assert "signature" not in project.run("dvc", "metrics", "show", "--md").stdout
    baselines = json.loads(project.read("data/evaluate/baselines.json"))
    assert names == baselines["floor"].keys() == baselines["human"].keys()
    assert {"distinct_1", "distinct_2", "vocabulary_used", "novel_captions"} <= baselines["variety"].keys()
    images = json.loads(project.read("data/split/references_test.json"))["images"]
    captions = json.loads(project.read("data/evaluate/captions.json"))
    assert {row["image_id"] for row in captions} == {image["id"] for image in images}
    truth = json.loads(project.read("data/evaluate/truth.json"))
    rows = pd.read_csv(project.folder / "data/evaluate/per_image.csv")
    assert rows["true"].isin([0, 1]).all()
    assert metrics["true_captions"] == truth["model"]["true_captions"] == rows["true"].mean()
    assert truth["human"]["true_captions"] == 1
    assert truth["floor"]["different_captions"] == 1
    assert not any({"hallucination", "grounding"} & row.keys() for row in truth.values())  # no objects are read
    assert project.read("data/evaluate/samples.md").count("\n| ") == 3 * (6 + 1)
    assert (project.folder / "data/train/plots/metrics/train/loss/presence.tsv").exists()
    live = json.loads(project.read("data/train/metrics.json"))
    assert {"encoder", "decoder_lstm", "all"} <= live["train"]["gradient_norm"].keys()
    assert live["val"].keys() == names | {"loss", "true_captions"}
    speeds = json.loads(project.read("logs/train/metrics.json"))
    assert speeds["images_per_second"] > 0
    assert speeds["peak_memory_mib"] > 0


def test_the_model_says_how_it_was_made(project: Project) -> None:
    card = json.loads(project.read("data/train/model/model.json"))
    assert card["settings"]["features"]["weights"] == "none"
    assert card["settings"]["features"]["trainable"] is True
    assert card["settings"]["features"]["image_size"] == 32
    assert card["compute"] == {"portable": True, "instructions": "AVX2", "threads": 1, "processes": 1}


def test_artifacts_name_the_data_set_and_the_model() -> None:
    assert {name: entry["type"] for name, entry in PIPELINE["artifacts"].items()} == {
        "dataset": "dataset",
        "model": "model",
    }


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("encoder=resnet34", ["weights", "features", "train"]),
        ("evaluate.beam_size=2", ["evaluate"]),
        ("evaluate.top_p=0.5", ["evaluate"]),
        ("train.optimizer.lr=0.002", ["train"]),
        ("train.self_critical.epochs=1", ["train"]),
        ("seed=2", ["objects", "features", *AFTER_FEATURES]),
        ("vocab.min_count=2", ["vocab"]),
        ("split.limit=4", ["vocab", "split", "evaluate"]),
        ("split.max_words=9", ["split"]),
        ("download.scenes.val=7", ["download"]),
    ],
)
def test_a_setting_re_runs_only_what_reads_it(project: Project, override: str, stages: list[str]) -> None:
    """The stages that read it; those after them run if what they read has changed, which `--dry` cannot know."""
    assert sorted(project.stages_to_run(override)) == sorted(["check", *stages])


def test_an_edit_to_the_decoder_re_runs_neither_download_nor_features(copy: Project) -> None:
    path = copy.folder / "src/captioning/decoders/lstm.py"
    path.write_text(path.read_text() + "# edited\n")
    assert copy.stages_to_run() == AFTER_FEATURES


def test_what_editors_and_desktops_leave_is_no_change(copy: Project) -> None:
    for name in ("lstm.py~", ".lstm.py.swp", "#lstm.py#", ".#lstm.py", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (copy.folder / "src/captioning/decoders" / name).write_text("litter")
    assert copy.stages_to_run() == []


def test_changing_the_encoder_back_is_a_run_cache_hit(copy: Project) -> None:
    lock = copy.read("dvc.lock")
    printed = copy.run("dvc", "exp", "run", "-S", "encoder=squeezenet1_1", "-S", "train.epochs=1").stdout
    ran = [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]
    assert sorted(ran) == sorted(["check", "weights", "features", "train", "evaluate"])
    assert copy.read("dvc.lock") != lock
    printed = copy.run("dvc", "exp", "run", "-S", f"encoder={TINY['encoder']}", "-S", "train.epochs=2").stdout
    assert "Running stage" not in printed
    assert copy.read("dvc.lock") == lock
    assert "encoder=squeezenet1_1" in copy.run("captioning", "experiments").stdout


def test_another_engine_stores_the_features_of_a_frozen_encoder(copy: Project) -> None:
    """From the archive to scores; what is stored is what torch stores, to the last bits of float16."""
    frozen = ("-S", "features.trainable=false", "-S", "decoder=attention", "-S", "train.epochs=1")
    frozen = (*frozen, "-S", "compute.portable=false")
    stored = {}
    for engine in ("torch", "openvino"):
        copy.run("dvc", "exp", "run", *frozen, "-S", f"features.engine={engine}")
        shards = sorted((copy.folder / "data/features").glob("regions-*.npy"))
        stored[engine] = np.concatenate([np.load(shard) for shard in shards]).astype(np.float32)
    assert "cider" in json.loads(copy.read("data/evaluate/metrics.json"))
    np.testing.assert_allclose(stored["openvino"], stored["torch"], rtol=2e-3, atol=1e-3 * stored["torch"].max())


def test_a_stage_alone_is_an_experiment_in_a_clone_without_the_cache(
    project: Project, home: Path, tmp_path: Path
) -> None:
    subprocess.run(["git", "clone", "-q", str(project.folder), str(tmp_path / "clone")], check=True)
    clone = Project(tmp_path / "clone", home)
    clone.run("dvc", "exp", "run", "download", "--name", "other", "-S", "download.scenes.seed=2")
    assert "other" in clone.run("dvc", "exp", "list", "--name-only").stdout


def test_no_stage_reads_a_file_inside_a_folder_that_dvc_keeps() -> None:
    """DVC looks into the folder of the committed dvc.lock for such a file, and a clone does not have that folder."""
    folders = {out for stage in PIPELINE["stages"].values() for out in stage.get("outs", []) if not Path(out).suffix}
    assert "data/download" in folders
    for stage in PIPELINE["stages"].values():
        read = [Path(path) for path in stage.get("deps", []) if "${" not in path]
        assert [path for path in read if {str(folder) for folder in path.parents} & folders] == []


def test_two_experiments_on_other_data_share_stages_in_a_clone_without_the_cache(
    project: Project, home: Path, tmp_path: Path
) -> None:
    """Each begins with the committed dvc.lock, as those of a queue do, and its outputs are nowhere."""
    subprocess.run(["git", "clone", "-q", str(project.folder), str(tmp_path / "clone")], check=True)
    clone = Project(tmp_path / "clone", home)
    for name, setting in (("first", "split.max_words=8"), ("second", "split.max_words=9")):
        clone.run("git", "restore", "dvc.lock", "params.yaml")
        other = ("-S", "download.scenes.seed=2", "-S", setting)
        ran = clone.run("dvc", "exp", "run", "split", "--name", name, *other).stdout
    assert "Stage 'vocab' is cached" in ran
    assert "Running stage 'split'" in ran


def test_a_limited_run_sees_those_images_alone(copy: Project) -> None:
    copy.run("dvc", "exp", "run", "-S", "split.limit=4", "-S", "train.epochs=1")
    card = json.loads(copy.read("data/split/summary.json"))
    assert [part["images"] for part in card["splits"].values()] == [4, 4, 4]
    assert card["vocabulary"] == len(copy.read("data/vocab/vocab.txt").splitlines())
    ids = [line.split(",")[0] for line in copy.read("data/split/images.csv").splitlines()[1:]]
    assert json.loads(copy.read("data/features/index.json"))["ids"] == ids
    assert len(json.loads(copy.read("data/evaluate/captions.json"))) == 4
    training = pd.read_csv(copy.folder / "data/download/captions.csv", dtype=str)
    training = training[training["image_id"].isin(ids[:4])]["caption"]
    words = {word for caption in training for word in tokenize(caption)}
    assert set(copy.read("data/vocab/vocab.txt").split()) - set(SPECIAL) == words


def test_what_a_training_starts_from_counts_by_its_content_and_must_fit(copy: Project) -> None:
    shutil.copytree(copy.folder / "data/train/model", copy.folder / "baseline")
    copy.run("dvc", "add", "baseline")
    apart = ("-S", "train.start=baseline", "-S", "train.epochs=0", "-S", "train.self_critical.epochs=1")
    copy.run("dvc", "exp", "run", *apart)
    card = json.loads(copy.read("data/train/model/model.json"))
    baseline = digest(copy.folder / "baseline/model.json")
    assert card["provenance"]["start"] == {"path": "baseline", "sha256": baseline}
    assert card["scores"]["epoch"] == 1
    assert {"train/reward/sample", "train/reward/baseline", "train/words/sample"} <= card["scores"].keys()
    assert copy.stages_to_run() == []
    edited = copy.folder / "baseline/model.json"
    edited.unlink()  # DVC's cache may hold the same file
    edited.write_text("{}")
    assert copy.stages_to_run() == ["train"]
    copy.run("dvc", "checkout", "--force", "baseline.dvc")
    for changes, said in (
        (["train.start=data/weights"], "train.epochs = 0: data/weights has no decoder"),
        (["train.self_critical.epochs=0"], "there is nothing to train"),
        (["decoder=neuraltalk"], "decoder (lstm, here neuraltalk)"),
    ):
        before = copy.read("params.yaml")
        copy.set(*changes)
        done = copy.run("python", "-m", "stages", "train", check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        assert len([line for line in done.stderr.splitlines() if "error: " in line]) == 1
        (copy.folder / "params.yaml").write_text(before)


def test_the_same_bytes_under_other_limits(project: Project, home: Path, tmp_path: Path) -> None:
    """Another folder, one core, three threads and the plainest instruction set asked for: dvc.lock is the same."""
    limits = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "ATEN_CPU_CAPABILITY": "default", "PYTHONHASHSEED": "7"}
    other = Project.create(tmp_path / "other", home / "other", **limits)
    one_core = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); "
    other.run(sys.executable, "-c", one_core + "os.execvp('dvc', ['dvc', 'repro'])")
    assert other.read("dvc.lock") == project.read("dvc.lock")


def test_a_queued_experiment_runs_its_own_copy_of_the_code(copy: Project) -> None:
    copy.run("dvc", "exp", "run", "--queue", "-S", "evaluate.beam_size=2", "--name", "queued")
    broken = copy.folder / "src/captioning/search/__init__.py"
    broken.write_text("raise SystemExit('the code of the workspace ran')\n")
    copy.run("dvc", "exp", "run", "--run-all")
    copy.run("git", "checkout", "-q", "src")
    shown = json.loads(copy.run("dvc", "exp", "show", "--json").stdout)
    assert "queued" in json.dumps(shown)
    copy.run("dvc", "exp", "apply", "queued")
    assert yaml.safe_load(copy.read("params.yaml"))["evaluate"]["beam_size"] == 2
    assert copy.run("dvc", "status", "--json").stdout.strip() == "{}"


def test_predict_by_a_model_of_drawings_calls_a_photograph_and_noise_unlike(project: Project, tmp_path: Path) -> None:
    """Training images are not; a model folder of an older version says only what it was trained on."""
    with ImageArchives(project.folder / "data/download") as image_files:
        images = pd.read_csv(project.folder / "data/split/images.csv")
        for file in images.loc[images["split"] == "train", "file"][:5]:
            (tmp_path / f"scene-{Path(file).name}").write_bytes(image_files.read(file))
    shutil.copy(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg", tmp_path / "photo.jpg")
    noise((96, 96), 90).save(tmp_path / "noise.png")
    done = project.run("captioning", "predict", *OWN, str(tmp_path))
    assert len(done.stdout.splitlines()) == 7
    unlike = "unlike the images that this model was trained on (scenes: drawings); its caption is a guess"
    assert done.stderr.splitlines()[1:] == [f"{tmp_path}/{name}: {unlike}" for name in ("noise.png", "photo.jpg")]
    older = tmp_path / "older"
    shutil.copytree(project.folder / "data/train/model", older)
    make_older(older, "statistics.safetensors")
    again = project.run("captioning", "predict", str(tmp_path), "--model", str(older))
    assert again.stdout == done.stdout
    about, guess = again.stderr.splitlines()[-2:]
    assert about.startswith(f"model {older}: mobilenet_v3_small + lstm, trained on scenes: drawings, epoch ")
    assert guess == "it was trained on drawings alone: its captions of photographs are guesses"


def test_predict_captions_images_and_reports_the_bad_one(project: Project, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    for name in ("best", "random", "worst"):
        shutil.copy(project.folder / "data/evaluate/gallery/test.png", gallery / f"{name}.png")
    (tmp_path / "bad.jpg").write_text("not an image")
    done = project.run(
        "captioning", "predict", *OWN, str(gallery), str(tmp_path / "bad.jpg"), "--format", "jsonl", check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["best.png", "random.png", "worst.png"]
    assert all(row["caption"] is not None for row in rows)
    assert done.returncode == 1
    about, bad, *unlike, counted = done.stderr.splitlines()
    assert re.fullmatch(
        r"model data/train/model: mobilenet_v3_small \+ lstm, trained on scenes: drawings, epoch \d, "
        r"CIDEr \d\.\d\d on its validation images",
        about,
    )
    assert bad.startswith(f"error: {tmp_path}/bad.jpg: not an image that can be decoded (its format is not known)")
    assert all(": unlike the images that this model was trained on (scenes: drawings)" in line for line in unlike)
    assert counted == f"1 of 4 files skipped: {tmp_path}/bad.jpg"
    assert project.run("captioning", "predict", *OWN, f"{gallery}/w*.png").stdout.startswith(f"{gallery}/worst.png\t")
    for nothing in (f"{tmp_path}/*.png", str(tmp_path / "absent.jpg"), str(project.folder / "stages")):
        done = project.run("captioning", "predict", *OWN, nothing, f"{gallery}/best.png", check=False)
        assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
        assert done.stderr.startswith(f"error: {nothing}: ")
    for name in ("caf\udce9\x1b[31m.png", "._best.png", "@eaDir/best.png"):
        (gallery / name).parent.mkdir(exist_ok=True)
        shutil.copy(gallery / "best.png", gallery / name)
    (gallery / "bad\udce9.png").write_text("not an image")
    done = project.run("captioning", "predict", *OWN, str(gallery), check=False)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [
        f"{gallery}/{name}.png" for name in ("best", "caf\\xe9\\x1b[31m", "random", "worst")
    ]
    assert f"error: {gallery}/bad\\xe9.png: not an image" in done.stderr
    assert done.stderr.splitlines()[-1] == f"1 of 5 files skipped: {gallery}/bad\\xe9.png"
    rows = project.run(
        "captioning", "predict", *OWN, str(gallery), "--format", "jsonl", check=False
    ).stdout.splitlines()
    assert f"{gallery}/caf\udce9\x1b[31m.png" in [json.loads(row)["file"] for row in rows]
    done = project.run("captioning", "predict", "--model", str(tmp_path), "absent.jpg", check=False)
    assert (done.returncode, done.stdout) == (1, "")  # and the model is not even looked for
    assert done.stderr == "error: absent.jpg: No such file or directory\n1 of 1 files skipped: absent.jpg\n"
    done = project.run("captioning", "predict", "--model", str(tmp_path), f"{gallery}/best.png", check=False)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/model.json: no such file\n")
