"""The ways to train, through DVC as a user would: what docs/models.md says, and what is refused."""

import json
import sys

import pytest
import yaml

from tests.project import Project


def test_each_way_is_one_command(copy: Project) -> None:
    """The commands of docs/models.md, but for the one that wants photographs."""
    commands = [line for line in copy.commands("Ways to train") if "dataset=" not in line]
    assert len(commands) == 7
    weights = {(copy.folder / "data/train/model/decoder.safetensors").read_bytes()}
    for command in commands:
        copy.run("git", "restore", "params.yaml")
        copy.run(*command.split())
        settings = json.loads(copy.read("data/train/model/model.json"))["settings"]
        for key, _, value in (part.partition("=") for part in command.split() if "=" in part):
            found = settings
            for name in key.split("."):
                found = found[name]
            assert found == yaml.safe_load(value), key
        assert len(json.loads(copy.read("data/evaluate/captions.json"))) == 6
        weights.add((copy.folder / "data/train/model/decoder.safetensors").read_bytes())
        mirrored = list((copy.folder / "data/features").glob("mirrored_means-*.npy"))
        assert bool(mirrored) == ("features.mirror=true" in command)
    assert len(weights) == 8


@pytest.mark.parametrize(
    ("changes", "stage", "said"),
    [
        (
            ["train.fine_tune.from_block=layer5"],
            "train",
            "resnet18 has no such block; write all, none or one of conv1, bn1",
        ),
        (["features.trainable=false", "train.augment.flip=0.5"], "train", "train.augment.flip = 0.5 is for a trained"),
        (
            ["features.trainable=false", "features.mirror=true", "train.augment.crop=0.5"],
            "train",
            "train.augment.crop = 0.5 is for a trained",
        ),
        (["features.mirror=true"], "features", "features.mirror = true is for a frozen encoder"),
        (
            ["features.trainable=false", "evaluate.mirror=true"],
            "features",
            "and features.mirror = false stores no mirrored",
        ),
        (["train.augment.image_size=33"], "train", "32 pixels are stored (features.image_size); write 16 to 32"),
    ],
)
def test_a_setting_that_would_do_nothing_stops_the_stage_in_words(
    copy: Project, changes: list[str], stage: str, said: str
) -> None:
    copy.set(*changes)
    done = copy.run(sys.executable, "-m", f"stages.{stage}", check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
