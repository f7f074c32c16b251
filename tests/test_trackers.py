"""Other trackers: what each wrote is read back, none stops a run, and none changes a byte of the model."""

import builtins
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from captioning.settings.resolve import for_training, load
from captioning.settings.schema import Settings
from captioning.training.tracking import sinks
from captioning.training.tracking.base import Run
from captioning.training.tracking.sinks import Trackers
from tests.imports import ROOT
from tests.pages import typed
from tests.project import Project

ALL = ("mlflow", "tensorboard", "trackio", "wandb")
SETTINGS = {"seed": 1, "train": {"optimizer": {"lr": 0.5}}, "decoders": {"lstm": {"layers": 2}}}
FLAT = {"seed": 1, "train.optimizer.lr": 0.5, "decoders.lstm.layers": 2}
RED = Image.new("RGB", (5, 4), "red")
LOSSES = [0.5, 0.25]


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where trackers write; the variables that could send them elsewhere are unset."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)  # it reads where to write when it is imported
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "TRACKIO_DIR"):  # which Trackio's sink sets: they go with the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", constants.HF_HUB_OFFLINE)
    return tmp_path / "logs"


def log(*names: str) -> None:
    with Trackers(names, "a-run", SETTINGS) as tracker:
        for loss in LOSSES:
            tracker.image("validation.png", RED)
            tracker.epoch({"train/loss": loss}, {"train/images_per_second": 3.0})


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: a log in blocks of 32 KiB, as LevelDB's, after seven bytes of header."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place < len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def test_tensorboard_event_file_is_read_back(logs: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log("tensorboard")
    log("tensorboard")  # a run that goes on writes its file anew
    events = EventAccumulator(str(logs / "tensorboard" / "a-run")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == list(enumerate(LOSSES))
    image = events.Images("validation.png")[-1]
    assert (image.step, image.width, image.height) == (1, 5, 4)
    said = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert all(f"| {name} | {value} |" in said for name, value in FLAT.items())


def test_mlflow_store_is_read_back(logs: Path) -> None:
    log("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient((logs / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("captioning")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "a-run"
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in FLAT.items()}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == list(enumerate(LOSSES))
    (image,) = (logs / "mlflow").rglob("epoch_1/validation.png")
    assert np.array_equal(np.asarray(Image.open(image)), np.asarray(RED))


def test_wandb_offline_run_is_read_back(logs: Path) -> None:
    import wandb

    log("wandb")
    wandb.teardown()  # as at the end of the process: W&B's service may close the file after `finish` has returned
    (path,) = (logs / "wandb").glob("offline-run-*/run-*.wandb")
    records = list(wandb_records(path))
    (begun,) = [record.run for record in records if record.HasField("run")]
    assert (begun.project, begun.display_name) == ("captioning", "a-run")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config.items() >= FLAT.items()
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [(row["_step"], row["train/loss"]) for row in rows] == list(enumerate(LOSSES))
    image = path.parent / "files" / rows[1]["validation.png/path"]
    assert np.array_equal(np.asarray(Image.open(image)), np.asarray(RED))
    (ended,) = [record.exit for record in records if record.HasField("exit")]
    assert ended.exit_code == 0


def test_trackio_database_is_read_back(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is on this machine, whatever the environment says, and nothing is asked of a network."""
    import socket

    asked: list[object] = []

    def refused(*where: object) -> None:
        asked.append(where)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setenv("HF_TOKEN", "a-token")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/somewhere")
    log("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    assert asked == []
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert (logs / "trackio/captioning.db").is_file()
    assert SQLiteStorage.get_runs("captioning") == ["a-run"]
    config = SQLiteStorage.get_run_config("captioning", "a-run")
    assert config is not None
    assert config.items() >= FLAT.items()
    rows = SQLiteStorage.get_logs("captioning", "a-run")
    assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == list(enumerate(LOSSES))
    image = [row["validation.png"] for row in rows if "validation.png" in row][-1]
    assert np.array_equal(np.asarray(Image.open(logs / "trackio/media" / image["file_path"]).convert("RGB")), RED)


def test_each_says_where_it_wrote_and_the_command_that_shows_it(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(logs.parent)
    log(*ALL)
    lines = dict(zip(ALL, capsys.readouterr().out.splitlines(), strict=True))
    for name, line in lines.items():
        assert line.startswith(f"train.trackers: {name} wrote to logs/{name}")
        folder = line.partition("wrote to ")[2].partition(";")[0]
        assert list((logs.parent / folder).iterdir()), line
    page = " ".join((ROOT / "docs/trackers.md").read_text(encoding="utf-8").split())
    commands = [
        "uvx mlflow ui --backend-store-uri logs/mlflow",
        "tensorboard --logdir logs/tensorboard",
        "TRACKIO_DIR=logs/trackio trackio show --project captioning",
        "wandb leet logs/wandb",
    ]
    for name, command in zip(ALL, commands, strict=True):
        assert f"{command}" in lines[name]
        assert command in page


def test_a_path_outside_the_working_folder_is_shown_whole(
    logs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    log("tensorboard")
    assert f"tensorboard --logdir {logs}/tensorboard" in capsys.readouterr().out


def test_wandb_online_without_a_key_does_not_ask(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    log("wandb")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "wandb is not used: RuntimeError: WANDB_MODE is online and there is no API key; run wandb login" in said


@pytest.mark.parametrize("name", ALL)
def test_one_that_is_not_installed_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def missing(module: str, *rest: Any, **more: Any) -> Any:
        if module.split(".")[0] == name or module == f"torch.utils.{name}":
            raise ModuleNotFoundError(f"No module named '{module}'")
        return real(module, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    log(name)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"pip install 'captioning[{name}]'" in said


class Failing:
    """A tracker that fails in one of its methods, and keeps what it was told."""

    told: list[str]

    def __init__(self, at: str, run: Run) -> None:
        self.at, self.told = at, []
        self._tell("begin", run)

    def _tell(self, what: str, *_: object) -> None:
        self.told.append(what)
        if what == self.at:
            raise OSError(f"no room\nfor {what}")

    def scalars(self, epoch: int, row: Mapping[str, float]) -> None:
        self._tell("scalars", epoch, row)

    def image(self, epoch: int, name: str, image: Image.Image) -> None:
        self._tell("image", epoch, name, image)

    def end(self, well: bool) -> None:
        self._tell("well" if well else "badly")

    def where(self) -> str:
        return "nowhere"


@pytest.mark.parametrize("at", ["begin", "image", "scalars", "well"])
def test_one_that_fails_is_dropped_in_one_line_and_the_others_go_on(
    at: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[Failing] = []

    def begin(at: str, run: Run) -> Failing:
        begun.append(Failing(at, run))
        return begun[-1]

    begins = {"wandb": lambda run: begin(at, run), "mlflow": lambda run: begin("never", run)}
    monkeypatch.setattr(sinks, "_SINKS", begins)
    log("wandb", "mlflow")
    assert begun[-1].told == ["begin", *["image", "scalars"] * 2, "well"]
    assert all(other.told[-1] == at for other in begun[:-1])
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("warning: train.trackers: wandb ")
    assert said.endswith(f"OSError: no room for {at}")


def test_a_run_that_fails_is_said_to_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Failing("never", Run("a-run", {}, Path()))
    monkeypatch.setattr(sinks, "_SINKS", {"wandb": lambda _: sink})
    with pytest.raises(KeyboardInterrupt), Trackers(["wandb"], "a-run", {}):
        raise KeyboardInterrupt
    assert sink.told[-1] == "badly"


def test_who_looks_on_is_not_part_of_the_model() -> None:
    settings = load(ROOT / "params.yaml")
    watched = Settings.model_validate(
        settings.model_dump() | {"train": {**settings.train.model_dump(), "trackers": ALL}}
    )
    assert watched.train.trackers == ALL
    assert for_training(watched) == for_training(settings)


def test_the_same_bytes_whoever_looks_on(copy: Project) -> None:
    before = outputs(copy)
    typed(copy, "trackers.md")
    assert outputs(copy) == before
    for name in ALL:
        assert list((copy.folder / "logs" / name).rglob("*")), name
    assert "logs" not in copy.run("git", "status", "--short").stdout


def outputs(project: Project) -> dict[str, bytes]:
    """What train and evaluate left, by path."""
    folders = [project.folder / "data" / stage for stage in ("train", "evaluate")]
    return {
        path.relative_to(project.folder).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
