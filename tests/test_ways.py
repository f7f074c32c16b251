"""The ways to train, through DVC as a user would: what docs/models.md says, and what is refused."""

import pytest

from tests.project import Project


@pytest.mark.parametrize(
    ("changes", "stage", "said"),
    [
        (
            ["train.encoder.from_block=layer5"],
            "train",
            "'layer5': mobilenet_v3_small has no such block; write all, none",
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
    done = copy.run("python", "-m", "stages", stage, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
