"""What `auto` means for labels, captions an image and the transformer, and what is refused there."""

import re
from pathlib import Path
from typing import Any

import pytest

from captioning.settings import resolve
from captioning.settings.resolve import load
from captioning.system.errors import UserError
from tests.test_settings import FROZEN, written

PHOTOGRAPHS = ("dataset: scenes", "dataset: flickr8k")
TRAINED = ("trainable: auto", "trainable: true")
STARTED = ("start: data/weights", "start: baseline")
LABELS, CAPTIONS = "label_epochs: auto", "captions_per_image: auto"
NO_BLOCK = ("from_block: all", "from_block: none")
TRANSFORMER = ("\ndecoder: lstm", "\ndecoder: transformer")


def loaded(folder: Path, *changes: tuple[str, str]) -> Any:
    """The settings with changes, with the transformer as decoder."""
    text = (Path(__file__).resolve().parents[1] / "params.yaml").read_text()
    return load(written(folder, *([TRANSFORMER] if TRANSFORMER[0] in text else []), *changes))


@pytest.mark.parametrize(
    ("changes", "captions", "labels"),
    [
        ([], 2, 6),
        ([PHOTOGRAPHS], None, 0),
        ([PHOTOGRAPHS, TRAINED], None, 0),
        ([FROZEN], None, 0),
        ([STARTED], 2, 0),
        ([NO_BLOCK], 2, 0),
        ([(CAPTIONS, "captions_per_image: all"), (LABELS, "label_epochs: 0")], None, 0),
        ([(CAPTIONS, "captions_per_image: 3"), (LABELS, "label_epochs: 2")], 3, 2),
        ([STARTED, (LABELS, "label_epochs: 2")], 2, 2),
        ([PHOTOGRAPHS, TRAINED, (CAPTIONS, "captions_per_image: 3")], 3, 0),
        ([FROZEN, (CAPTIONS, "captions_per_image: all"), (LABELS, "label_epochs: 0")], None, 0),
    ],
)
def test_captions_an_image_and_epochs_of_labels(
    tmp_path: Path, changes: list[tuple[str, str]], captions: int | None, labels: int
) -> None:
    settings = loaded(tmp_path, *changes)
    assert resolve.captions_per_image(settings) == captions
    assert resolve.label_epochs(settings) == labels
    recorded = resolve.for_training(settings)["train"]
    assert (recorded["captions_per_image"], recorded["label_epochs"]) == (captions, labels)


@pytest.mark.parametrize(("changes", "labels"), [([], 3), ([STARTED], 0), ([(LABELS, "label_epochs: 5")], 5)])
def test_a_heavy_backbone_has_half_as_many_epochs_of_labels(
    tmp_path: Path, changes: list[tuple[str, str]], labels: int
) -> None:
    settings = loaded(tmp_path, *changes)
    assert resolve.label_epochs(settings, light=False) == labels
    assert resolve.for_training(settings, light=False)["train"]["label_epochs"] == labels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([FROZEN, (CAPTIONS, "captions_per_image: 2")], "train.captions_per_image = 2 is for a trained encoder"),
        ([FROZEN, (LABELS, "label_epochs: 1")], "train.labels.epochs = 1: the encoder is frozen, so there is nothing"),
        ([NO_BLOCK, (LABELS, "label_epochs: 3")], "train.labels.epochs = 3: the encoder is frozen"),
        ([PHOTOGRAPHS, (LABELS, "label_epochs: 3")], "train.labels.epochs = 3: the encoder is frozen"),
        ([PHOTOGRAPHS, TRAINED, (LABELS, "label_epochs: 3")], "flickr8k does not say what is in its images"),
        ([("    heads: 4", "    heads: 5")], "heads = 5: the width, 128, is not a multiple of 2 * heads"),
        ([PHOTOGRAPHS, ("    heads: 4", "    heads: 3")], "heads = 3: the width, 256, is not a multiple of 2 * heads"),
    ],
)
def test_a_setting_that_would_do_nothing_or_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, changes: list[tuple[str, str]], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        resolve.for_training(loaded(tmp_path, *changes))
    assert "\n" not in str(caught.value)


def test_a_width_that_is_written_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line \d+: decoders.transformer.heads = 4: .*width 60 is not a multiple of 2"):
        loaded(tmp_path, ("    width: auto", "    width: 60"))


def test_heads_of_a_decoder_that_is_not_trained_are_no_fault(tmp_path: Path) -> None:
    other = loaded(tmp_path, ("\ndecoder: transformer", "\ndecoder: updown"), ("    heads: 4", "    heads: 5"))
    assert "heads" not in resolve.decoder_options(other)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], {"width": 128, "layers": 2, "heads": 4, "feed_forward": 256, "dropout": 0.0}),
        ([PHOTOGRAPHS], {"width": 256, "layers": 3, "heads": 4, "feed_forward": 1024, "dropout": 0.1}),
        (
            [("    width: auto", "    width: 64"), ("    feed_forward: auto", "    feed_forward: 99")],
            {"width": 64, "layers": 2, "heads": 4, "feed_forward": 99, "dropout": 0.0},
        ),
    ],
)
def test_the_transformer_has_the_size_of_its_data_set(
    tmp_path: Path, changes: list[tuple[str, str]], expected: dict[str, Any]
) -> None:
    settings = loaded(tmp_path, *changes)
    assert resolve.decoder_options(settings) == expected
    assert resolve.for_training(settings)["train"]["transformer"] == expected


def test_the_average_of_the_weights_is_shorter_where_training_is(tmp_path: Path) -> None:
    found = [resolve.ema(loaded(tmp_path, *changes)) for changes in ([], [PHOTOGRAPHS], [("  ema: auto", "  ema: 0")])]
    assert found == [0.99, 0.998, 0]
