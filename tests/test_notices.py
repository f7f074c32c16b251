"""What `captioning predict` prints on standard error, by the model's own record."""

from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import pytest

from captioning.captioner.cards import Card
from captioning.cli.notices import Notices
from captioning.models.descriptions import CONTENT, describe
from captioning.models.python import TrainedModel
from captioning.settings.schema import Settings
from captioning.system.errors import UserError

CARD = Card(
    encoder="resnet18",
    decoder="lstm",
    decoder_options={},
    transform={},
    settings={"dataset": "scenes"},
    compute={},
    provenance={},
    scores={"epoch": 4, "val/cider": 1.774},
)
PHOTOGRAPHS = replace(CARD, settings={"dataset": "flickr8k"}, scores={})


def test_every_data_set_says_what_its_images_are() -> None:
    assert set(CONTENT) == set(get_args(Settings.model_fields["dataset"].annotation))


def test_a_model_is_described_by_its_record() -> None:
    said = "model short: resnet18 + lstm, trained on scenes: drawings, epoch 4, CIDEr 1.77 on its validation images"
    assert describe("short", CARD, keeps_statistics=True) == [said]
    older = describe("short", CARD, keeps_statistics=False)
    assert older == [said, "it was trained on drawings alone: its captions of photographs are guesses"]
    bare = ["model x: resnet18 + lstm, trained on flickr8k: photographs"]
    assert describe("x", PHOTOGRAPHS, keeps_statistics=False) == bare
    unknown = replace(PHOTOGRAPHS, settings={})
    assert describe("x", unknown, keeps_statistics=True) == ["model x: resnet18 + lstm, trained on an unknown data set"]


def model(titles: str, *cards: Card) -> TrainedModel:
    members = [SimpleNamespace(card=card, statistics=()) for card in cards]
    return TrainedModel(SimpleNamespace(members=members), titles)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 60])
def test_unlike_images_are_named_and_many_are_counted(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    notices = Notices()
    notices.begin(model("abc", CARD, CARD, PHOTOGRAPHS))
    capsys.readouterr()
    for place in range(count):
        notices.differs(f"{place}.jpg")  # type: ignore[arg-type]
    notices.end(80)
    theirs = "the images that this model was trained on (scenes: drawings, flickr8k: photographs)"
    expected = [f"{place}.jpg: unlike {theirs}; its caption is a guess" for place in range(min(count, 3))]
    expected += [f"{count} of 80 files: unlike {theirs}; their captions are guesses"] if count > 3 else []
    assert capsys.readouterr().err.splitlines() == expected


def test_skipped_files_are_reported_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    notices = Notices()
    notices.skip("a.jpg", FileNotFoundError(2, "No such file or directory"))
    notices.skip("b.jpg", UserError("b.jpg: not an image"))
    for name in ("c.jpg", "d.jpg", "e.jpg"):
        notices.skip(name, UserError(f"{name}: not an image"))
    notices.end(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["error: a.jpg: No such file or directory", "error: b.jpg: not an image"]
    assert lines[5:] == ["5 of 10 files skipped: a.jpg, b.jpg, c.jpg and 2 more"]
