"""What `auto` means for labels, captions an image and the transformer, and what is refused there."""

import re
from typing import Any

import pytest

from captioning.settings.resolve import decoder_options, for_training, load
from captioning.settings.schema import Settings
from captioning.system.errors import UserError
from captioning.training import labelling
from tests.imports import ROOT

PHOTOGRAPHS = {"dataset": "flickr8k"}
TRAINED = {"features.trainable": True}
FROZEN = {"features.trainable": False}
STARTED = {"train.start": "baseline"}
NO_BLOCK = {"train.encoder.from_block": "none"}
LABELS, CAPTIONS, HEADS = "train.labels.epochs", "train.captions_per_image", "decoders.transformer.heads"


def loaded(*changes: dict[str, Any]) -> Settings:
    """The shipped settings with changes."""
    return load(ROOT / "params.yaml", {key: value for change in changes for key, value in change.items()})


@pytest.mark.parametrize(
    ("changes", "captions", "labels"),
    [
        ([], 2, "quick"),
        ([PHOTOGRAPHS], "all", 0),
        ([PHOTOGRAPHS, TRAINED], "all", 0),
        ([FROZEN], "all", 0),
        ([STARTED], 2, 0),
        ([NO_BLOCK], 2, 0),
        ([{CAPTIONS: "all", LABELS: 0}], "all", 0),
        ([{CAPTIONS: 3, LABELS: 2}], 3, 2),
        ([STARTED, {LABELS: 2}], 2, 2),
        ([PHOTOGRAPHS, TRAINED, {CAPTIONS: 3}], 3, 0),
        ([FROZEN, {CAPTIONS: "all", LABELS: 0}], "all", 0),
    ],
)
def test_captions_an_image_and_epochs_of_labels(
    changes: list[dict[str, Any]], captions: int | str, labels: int | str
) -> None:
    settings = loaded(*changes)
    assert (settings.train.captions_per_image, settings.train.labels.epochs) == (captions, labels)
    recorded = for_training(settings)["train"]
    assert (recorded["captions_per_image"], recorded["labels"]["epochs"]) == (captions, labels)


@pytest.mark.parametrize(
    ("written", "light", "epochs"), [("quick", True, 6), ("quick", False, 3), (5, False, 5), (0, True, 0)]
)
def test_a_heavy_backbone_has_half_as_many_epochs_of_labels(written: Any, light: bool, epochs: int) -> None:
    assert labelling.epochs(written, light=light) == epochs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([FROZEN, {CAPTIONS: 2}], "train.captions_per_image = 2 is for a trained encoder"),
        ([FROZEN, {LABELS: 1}], "train.labels.epochs = 1: the encoder is frozen, so there is nothing"),
        ([NO_BLOCK, {LABELS: 3}], "train.labels.epochs = 3: the encoder is frozen"),
        ([PHOTOGRAPHS, {LABELS: 3}], "train.labels.epochs = 3: the encoder is frozen"),
        ([PHOTOGRAPHS, TRAINED, {LABELS: 3}], "flickr8k does not say what is in its images"),
        ([{HEADS: 5}], "heads = 5: the width, 128, is not a multiple of 2 * heads"),
        ([PHOTOGRAPHS, {HEADS: 3}], "heads = 3: the width, 256, is not a multiple of 2 * heads"),
        ([{"decoders.transformer.width": 60}], "decoders.transformer.heads = 4: the width, 60, is not a multiple"),
    ],
)
def test_a_setting_that_would_do_nothing_or_does_not_fit_is_refused_in_one_line(
    changes: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError, match=rf"params.yaml, line \d+: .*{re.escape(said)}") as caught:
        loaded(*changes)
    assert "\n" not in str(caught.value)


def test_heads_of_a_decoder_that_is_not_trained_are_no_fault() -> None:
    assert not hasattr(decoder_options(loaded({"decoder": "updown", HEADS: 5})), "heads")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], {"width": 128, "layers": 2, "heads": 4, "feed_forward": 256, "dropout": 0.0}),
        ([PHOTOGRAPHS], {"width": 256, "layers": 3, "heads": 4, "feed_forward": 1024, "dropout": 0.1}),
        (
            [{"decoders.transformer.width": 64, "decoders.transformer.feed_forward": 99}],
            {"width": 64, "layers": 2, "heads": 4, "feed_forward": 99, "dropout": 0.0},
        ),
    ],
)
def test_the_transformer_has_the_size_of_its_data_set(changes: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    settings = loaded(*changes)
    assert vars(decoder_options(settings)) == expected
    assert for_training(settings)["decoders"] == {"transformer": expected}


def test_the_average_of_the_weights_is_shorter_where_training_is() -> None:
    settings = [loaded(*changes) for changes in ([], [PHOTOGRAPHS], [{"train.optimizer.ema": 0}])]
    assert [each.train.optimizer.ema for each in settings] == [0.99, 0.998, 0]


def test_the_rate_is_lower_on_photographs_where_the_decoder_needs_it() -> None:
    """What .003 does there is in docs/journal.md."""
    drawn = {name: loaded({"decoder": name}).train.optimizer.lr for name in ("neuraltalk", "transformer", "lstm")}
    assert set(drawn.values()) == {0.003}
    rates = {name: loaded(PHOTOGRAPHS, {"decoder": name}).train.optimizer.lr for name in (*drawn, "attention", "oscar")}
    assert rates == {"neuraltalk": 0.001, "transformer": 0.003, "oscar": 0.001, "lstm": 0.003, "attention": 0.003}
    assert loaded(PHOTOGRAPHS, {"decoder": "neuraltalk", "train.optimizer.lr": 0.003}).train.optimizer.lr == 0.003
