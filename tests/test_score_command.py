"""`captioning score`: formats, names of images, faults in words, and the same numbers as elsewhere."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from captioning import metrics
from captioning.cli.app import app
from captioning.experiments import outside, scoring
from captioning.metrics.signature import signature
from captioning.system.errors import UserError

REFERENCES = {
    "1": ["a dog runs in a field", "the dog is running"],
    "2": ["two cats sit on a sofa", "cats on a couch"],
    "3": ["a red bird sings", "the bird is red"],
}
NAMES = {"1": "train/one.jpg", "2": "train/two.jpg", "3": "val/three.jpg"}
SAID = {"1": "a dog runs", "2": "two cats on a sofa", "3": "a bird"}


def coco(folder: Path) -> Path:
    path = folder / "references.json"
    annotations = [{"image_id": int(i), "caption": text} for i, texts in REFERENCES.items() for text in texts]
    images = [{"id": int(i), "file_name": name} for i, name in NAMES.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        with path.open("w", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
@pytest.mark.parametrize("key", ["image_id", "file", "image"])
@pytest.mark.parametrize("caption", ["caption", "text", "hypothesis"])
def test_captions_of_every_format_have_the_same_scores(tmp_path: Path, suffix: str, key: str, caption: str) -> None:
    calls = {"image_id": lambda i: i, "file": lambda i: NAMES[i], "image": lambda i: f"/mnt/x/{Path(NAMES[i]).name}"}
    rows = [{key: calls[key](i), caption: text} for i, text in SAID.items()]
    scored = scoring.score(coco(tmp_path), [written(tmp_path / f"said{suffix}", rows)], draws=20)
    expected = metrics.score(REFERENCES, SAID).corpus
    [found] = scored.scores.values()
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)
    assert all(one.low <= one.value + 1e-9 and one.value <= one.high + 1e-9 for one in found.values())


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_references_of_every_format_are_the_same(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [{"image": i, "caption": text} for i, texts in REFERENCES.items() for text in texts]
    listed = [{"image": i, "references": texts} for i, texts in REFERENCES.items()]
    assert outside.read_references(written(tmp_path / f"a{suffix}", rows)).captions == REFERENCES
    if suffix != ".csv":
        assert outside.read_references(written(tmp_path / f"b{suffix}", listed)).captions == REFERENCES


def test_files_are_compared_with_the_first(tmp_path: Path) -> None:
    first = written(tmp_path / "a.jsonl", [{"id": i, "caption": text} for i, text in SAID.items()])
    other = written(tmp_path / "b.csv", [{"id": i, "caption": REFERENCES[i][0]} for i in SAID])
    scored = scoring.score(coco(tmp_path), [first, other], draws=200)
    [differences] = scored.differences.values()
    gained = metrics.score(REFERENCES, {i: REFERENCES[i][0] for i in SAID}).corpus["cider"]
    assert differences["cider"].value == pytest.approx(gained - metrics.score(REFERENCES, SAID).corpus["cider"])
    with pytest.raises(UserError, match="named twice"):
        scoring.score(coco(tmp_path), [first, first])


def test_the_signature_says_what_was_counted() -> None:
    assert signature(REFERENCES).startswith("refs:2|images:3|case:lower|tokens:ptb-3.4.1|idf:refs|")
    assert signature({"a": ["x"], "b": ["x", "y"]}).startswith("refs:1-2|images:2|")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "x", r"a\.txt: captions are read from"),
        ("none.json", None, r"none\.json: no such file"),
        ("a.json", "{", r"a\.json, line 1: not JSON"),
        ("a.json", "{}", r"a\.json: neither a list"),
        ("a.json", "[1]", r"a\.json, entry 1: not an object"),
        ("a.json", '[{"caption": "x"}]', r"a\.json, entry 1: no image in it"),
        ("a.json", '[{"image_id": true, "caption": "x"}]', r"a\.json, entry 1: no image in it"),
        ("a.json", '[{"image_id": 1, "caption": 5.5}]', r"a\.json, entry 1: no caption in it"),
        ("a.json", '[{"image_id": 1, "caption": "\\ud800"}]', r"a\.json, entry 1: a caption that is no text"),
        ("a.jsonl", '{"image_id": 1, "caption": "x"}\n{', r"a\.jsonl, line 2: not JSON"),
        ("a.json", "[" * 100_000, r"a\.json: cannot be read"),
        ("a.csv", "file\nx\n", r"a\.csv, line 2: no caption in it"),
        ("a.csv", "image,caption\n1,x\n1,y\n", r"a\.csv, line 3: a second caption of image 1"),
        ("a.csv", "image,caption\n1,x\n2,y\n", r"a\.csv: 1 of its images .* 3 has no caption there"),
        ("a.csv", "image,caption\n1,x\n2,y\n3,z\n4,q\n", r"a\.csv: 1 of its images .* 4 has no references"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said) as fault:
        scoring.score(coco(tmp_path), [tmp_path / name])
    assert "\n" not in str(fault.value)


@given(st.text(max_size=60), st.sampled_from([".json", ".jsonl", ".csv", ".tsv"]))
def test_any_text_is_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        outside.read_references(path)
    except UserError as fault:
        said = str(fault)
    assert not said or said.startswith(str(path))


def test_the_command_prints_tables_markdown_and_json(tmp_path: Path) -> None:
    path = str(written(tmp_path / "a.jsonl", [{"id": i, "caption": text} for i, text in SAID.items()]))
    command = ["score", str(coco(tmp_path)), path]
    text = CliRunner().invoke(app, command).stdout
    assert "BLEU-4" in text
    assert "Signature: refs:2|images:3" in text
    assert CliRunner().invoke(app, [*command, "--format", "md"]).stdout.startswith("|  | BLEU-1 |")
    document = json.loads(CliRunner().invoke(app, [*command, "--format", "json"]).stdout)
    assert document["scores"][path]["cider"]["value"] == pytest.approx(metrics.score(REFERENCES, SAID).corpus["cider"])
