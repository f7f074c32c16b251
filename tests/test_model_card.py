"""The cards of shipped models are what `captioning release` writes: no figure and no sentence is typed by hand."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioning.captioner import cards, confidence, model
from captioning.captioner.confidence import Reliability
from captioning.experiments import verdicts
from captioning.models import model_card, shipped
from captioning.models.release import SCORES, Measured, check_statistics, released_card
from captioning.system.errors import UserError
from captioning.vision.features.unlikeness import KeptStatistics

LABELS = {"floor": "constant-caption baseline", "human": "human baseline"}


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, without its heading."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]] for table in found
    ]


def figures(text: str, pattern: str) -> list[float]:
    """The numbers in the first match of a pattern, whose blanks are blanks or line ends."""
    match = re.search(pattern.replace(" ", r"\s+"), text)
    assert match, pattern
    return [float(group.replace(",", "").rstrip("%")) for group in match.groups()]


def measured(folder: Path, text: str) -> Measured:
    """What the card says was measured."""
    scores, bins, words = tables(text)
    rows = {row[0]: dict(zip(SCORES, map(float, row[1:]), strict=True)) for row in scores if "to" not in row[1]}
    ends = [[float(end) for end in cell.split(" to ")] for cell in next(row for row in scores if "to" in row[1])[1:]]
    own = rows.pop("this model")
    error, brier, auc = figures(text, r"error is ([\d.]+), the Brier score ([\d.]+), .* curve ([\d.]+)\.\n")
    images, different = figures(text, r"Of ([\d,]+) test images it makes ([\d,]+) different")
    changed, change = figures(text, r"trained, ([\d.]+)% of .* CIDEr changes by ([-+][\d.]+)\.\n")
    return Measured(
        scores={name: (own[name], *pair) for name, pair in zip(SCORES, ends, strict=True)},  # type: ignore[misc]
        full={"cider": own["cider"] - change},
        changed=changed / 100,
        run=rows.pop("the run's own test scores"),
        rows={name: rows[label] for name, label in LABELS.items() if label in rows},
        reliability=Reliability([(float(a), float(b), int(c)) for a, b, c in bins], error, brier, auc),
        calibration=confidence.read(folder),
        images=int(images),
        different=int(different),
        common=[(said, int(count)) for said, count in re.findall(r"^- (.+) \((\d+)\)$", text, re.MULTILINE)],
        gendered={word: (float(a.rstrip("%")) / 100, float(b.rstrip("%")) / 100) for word, a, b in words},
    )


@pytest.mark.parametrize("name", shipped.names())
def test_the_card_is_what_a_release_writes(name: str) -> None:
    folder = shipped.folder(name)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert model_card.text(folder, cards.read(folder).card, measured(folder, text)) == text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 100


def test_a_model_that_an_older_version_trained_is_not_released() -> None:
    """Its statistics are of other numbers, so the release would have no confidence."""
    saved = model.read(shipped.folder("photographs"))
    check_statistics(saved)
    older = KeptStatistics(torch.zeros(4, 24), torch.zeros(4, 24))
    with pytest.raises(UserError, match="an older version of captioning trained it; run `dvc repro train` first"):
        check_statistics(saved._replace(statistics=older))


def test_a_release_names_no_place_of_the_machine() -> None:
    card = cards.read(shipped.folder(shipped.names()[0])).card
    places = {
        "start": "/srv/runs/first",
        "parts": ["~/models/a", "../b", {"source": "file://localhost/srv/archives", "count": 3}],
    }
    kept = {"weights": "weights/lite2.pth", "source": "https://example.org/a/b", "optional": None}
    released = released_card(
        replace(
            card,
            settings=card.settings | {"train": places | kept},
            provenance={
                "start": {"path": "/srv/runs/first", "sha256": "0" * 64},
                "weights": {"kind": "file", "origin": "/srv/weights/own.pth", "stored": "1" * 64},
            },
        ),
        "mine",
        "this run",
    )
    expected = kept | {"start": "first", "parts": ["a", "b", {"source": "archives", "count": 3}]}
    assert released.settings["train"] == expected
    assert released.provenance["start"] == {"path": "first", "sha256": "0" * 64}
    assert "own.pth" in released.provenance["licence"]
    assert "/srv" not in str(released)


def test_prose_is_wrapped_and_the_rest_stays() -> None:
    prose = "- " + "word " * 40 + "`a-long-name-that-stays-whole`"
    lines = model_card.wrapped(prose).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 100
    assert all(line.startswith("  word") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == prose
    for part in (verdicts.table([["a" * 80, "b" * 80], ["c", "d"]]), "    " + "code " * 40, "## " + "heading " * 40):
        assert model_card.wrapped(part) == part
