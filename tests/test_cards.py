"""model.json: what is refused, in one line, and what is still read."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.captioner import cards, model
from captioning.system.errors import UserError
from captioning.system.files import digest
from tests.model_cards import edit, make_older
from tests.properties import examples
from tests.test_ensembles import folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("model") / "a")


@pytest.fixture
def made(whole: Path, tmp_path: Path) -> Path:
    """A copy of a model folder, whose card may be damaged."""
    copy = tmp_path / "a"
    copy.mkdir()
    for path in whole.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_a_card_is_read_as_it_was_written(whole: Path) -> None:
    record = cards.read(whole)
    assert (record.portable, record.threads) == (True, 2)
    assert record.files == {name: digest(whole / name) for name in cards.FILES}


@examples(60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(whole: Path, place: float, bit: int) -> None:
    data = bytearray((whole / cards.NAME).read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    try:
        value = json.loads(data)
    except ValueError:
        return  # read_json says so
    with pytest.raises(UserError, match=r"model\.json: (damaged|format \d+, made by a newer version)"):
        cards.parse(value, "model.json")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"format": "2"},
        {"format": 1},
        {"format": 1, "sha256": {}},
        {"format": 1, "sha256": []},
        {"format": True},
        {"format": 1, "encoder": 3},
        {"format": 2, "files": {}},
    ],
)
def test_what_is_no_card_is_one_line(value: Any) -> None:
    with pytest.raises(UserError, match=r"^a/model\.json: damaged") as fault:
        cards.parse(value, "a/model.json")
    assert "\n" not in str(fault.value)
    assert len(str(fault.value)) < 300


@pytest.mark.parametrize("files", [{}, {"vocab.txt": "0"}, {"../vocab.txt": "0"}, [], None, {"vocab.txt": {}}])
def test_digests_that_are_taken_away_turn_no_check_off(made: Path, files: Any) -> None:
    edit(made, files=files)
    with pytest.raises(UserError, match=r"model\.json: damaged"):
        model.load(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"compute": {}},
        {"compute": {"portable": 1, "threads": 2}},
        {"compute": {"portable": True, "threads": 0}},
        {"transform": {"image_size": 32}},
        {"decoder_options": {}},
        {"decoder_options": {"embedding_size": 16}},
        {"decoder": "gpt"},
        {"encoder": "resnet-of-another-version"},
        {"encoder": "resnet18"},
        {"scores": None},
    ],
)
def test_a_card_that_does_not_fit_the_weights_is_one_line(made: Path, changes: dict[str, Any]) -> None:
    edit(made, **changes)
    with pytest.raises(UserError) as fault:
        model.load(made)
    assert "\n" not in str(fault.value)


def test_an_older_card_is_read_and_a_newer_one_says_so(made: Path) -> None:
    files = cards.read(made).files
    make_older(made)
    assert cards.read(made).files == files
    model.load(made)
    (made / "vocab.txt").write_text("another")
    with pytest.raises(UserError, match=r"vocab\.txt: not the file that model\.json describes"):
        model.load(made)
    edit(made, format=3)
    with pytest.raises(UserError, match=r"format 3, made by a newer version of captioning; update"):
        model.load(made)
