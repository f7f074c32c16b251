"""Captions of other programs beside experiments: the same images, scores and report; and the page that shows it."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from captioning.cli import image_files
from captioning.cli.app import app
from captioning.experiments import beside, compare, report, verdicts
from captioning.experiments.compare import Comparison, Experiment
from captioning.system.errors import UserError
from tests import outside_models, reports, test_compare
from tests.pages import reader, typed
from tests.project import Project

IMAGES = 60


def base() -> Experiment:
    """An experiment that says the same of every image."""
    return compare.read(
        reports.revision("base", [reports.SAID[0]] * IMAGES, reports.archive(IMAGES), encoder="resnet18")
    )


def captions(path: Path, said: list[str]) -> Path:
    rows = [{"file": f"photos.zip/{k:04}.png", "caption": text} for k, text in enumerate(said, start=1)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows[::-1]))
    return path


def both(folder: Path) -> Comparison:
    """The experiment, the same captions in a file, and a worse file."""
    first = base()
    same = captions(folder / "same.jsonl", [reports.SAID[0]] * IMAGES)
    worse = captions(folder / "worse.jsonl", [reports.SAID[1]] * IMAGES)
    return compare.compare([first, *(beside.read_file(path, first) for path in (same, worse))], draws=300)


def test_the_same_captions_have_the_same_scores_whoever_wrote_them(tmp_path: Path) -> None:
    comparison = both(tmp_path)
    first, same, worse = comparison.scores
    assert {name: score.value for name, score in first.items()} == {name: score.value for name, score in same.items()}
    assert worse["cider"].value < first["cider"].value
    assert [group.name for group in comparison.groups] == ["base", "same", "worse"]
    assert verdicts.verdict(comparison, 1) == "same: no difference from base shown"
    assert verdicts.verdict(comparison, 2).startswith("worse: worse than base in BLEU-1")


def test_words_and_json_say_where_they_come_from(tmp_path: Path) -> None:
    comparison = both(tmp_path)
    text = verdicts.text(comparison, 1)
    assert "worse has the captions of worse.jsonl, which another program wrote" in text
    assert "worse has encoder" not in text
    assert f"worse: {reports.SAID[1]}" in text
    groups = verdicts.document(comparison, 0)["groups"]
    [origin] = groups[2]["revisions"]
    assert (origin["name"], origin["file"], len(origin["sha256"])) == ("worse", "worse.jsonl", 64)
    assert groups[2]["settings"] == {}
    assert groups[0]["revisions"][0]["commit"] == "0" * 40


def test_the_report_has_their_scores_and_captions_and_no_settings(tmp_path: Path) -> None:
    comparison = both(tmp_path)
    report.write(tmp_path / "a.html", comparison, "captioning report base --captions worse.jsonl", 6)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    head = dict(re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", text))
    assert head["Encoder"] == "resnet18"
    assert re.search(
        r"captions by another program, <code>worse.jsonl</code>, SHA-256 [0-9a-f]{12}… <small>worse</small>",
        head["Commit"],
    )
    assert '<h2 id="settings-title">Settings</h2>' in text
    found = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[0])
    assert [one["name"] for one in found["experiments"]] == ["base", "same", "worse"]
    assert found["images"][0]["captions"] == [reports.SAID[0], reports.SAID[0], reports.SAID[1]]
    assert {series["experiment"] for chart in found["charts"] for series in chart["series"]} == {0}


def test_settings_that_differ_are_those_of_experiments(tmp_path: Path) -> None:
    first = base()
    other = compare.read(reports.revision("other", [reports.SAID[1]] * IMAGES, b"", encoder="resnet34"))
    file = beside.read_file(captions(tmp_path / "file.jsonl", [reports.SAID[1]] * IMAGES), first)
    settings = report.tables.differing(compare.compare([first, other, file], draws=50))
    assert settings.names == ["base", "other"]
    assert [key for key, _ in settings.rows] == ["encoder"]


def test_scores_that_a_file_has_not_are_left_out(tmp_path: Path) -> None:
    first = test_compare.made("one", test_compare.said(30), meteor=0.5)
    rows = [{"image_id": image, "caption": text} for image, text in first.captions.items()]
    path = tmp_path / "file.json"
    path.write_text(json.dumps(rows))
    assert "meteor" in first.model.means
    assert "meteor" not in compare.compare([first, beside.read_file(path, first)], draws=50).scores[0]


def test_a_file_of_other_images_is_one_line(tmp_path: Path) -> None:
    path = captions(tmp_path / "few.jsonl", [reports.SAID[0]] * (IMAGES - 1))
    with pytest.raises(UserError, match=r"few\.jsonl: 1 of its images and the references' do not match: 60 has no"):
        beside.read_file(path, base())
    with pytest.raises(UserError, match=r"--captions .*main\.csv: main is also what another is called"):
        beside.read(["main"], [tmp_path / "main.csv"])
    with pytest.raises(UserError, match=r"--captions .*x/a\.csv: a is also what another is called"):
        beside.read(["main"], [tmp_path / "a.csv", tmp_path / "x/a.csv"])


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an archive of two images, of which the references name one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "data/download").mkdir(parents=True)
    (tmp_path / "data/split").mkdir()
    with zipfile.ZipFile(tmp_path / "data/download/a.zip", "w") as archive:
        for name in ("in/one.png", "in/two.png"):
            stream = io.BytesIO()
            Image.new("RGB", (40, 30), "red").save(stream, "PNG")
            archive.writestr(name, stream.getvalue())
    path = tmp_path / "data/split/references_test.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.zip/in/two.png"}], "annotations": []}))
    return path


def test_references_stand_for_their_images_in_archives(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path], failed = image_files.expand(["data/split/references_test.json"])
    assert (path, failed) == (Path("data/download/a.zip/in/two.png"), False)
    done = CliRunner().invoke(app, ["predict", str(split), "--model", "photographs", "--threads", "1"])
    assert done.stdout.startswith("data/download/a.zip/in/two.png\t")
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(split.parent)
    [path], _ = image_files.expand(["references_test.json"])
    assert path == split.parents[2] / "data/download/a.zip/in/two.png"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "references_test.json: No such file"),
        (b"{", "no images of references in it"),
        (b"[1]", "no images of references in it"),
        (b'{"images": [{}]}', "no images of references in it"),
        (b"\xff", "no images of references in it"),
    ],
)
def test_a_document_that_has_no_images_is_one_line(split: Path, content: bytes | None, said: str) -> None:
    split.unlink()
    if content is not None:
        split.write_bytes(content)
    with pytest.raises(UserError, match=said):
        image_files.expand([str(split)])


def test_a_member_that_is_not_in_the_archive_is_reported_and_the_rest_go_on(split: Path) -> None:
    names = ["a.zip/in/none.png", "a.zip/in/two.png", "b.zip/x.png"]
    split.write_text(json.dumps({"images": [{"id": k, "file_name": name} for k, name in enumerate(names)]}))
    done = CliRunner().invoke(app, ["predict", str(split), "--model", "photographs", "--threads", "1"])
    assert done.exit_code == 1
    assert done.stdout.count("\n") == 1
    assert "it has no member 'in/none.png'" in done.stderr
    assert "b.zip/x.png: No such file" in done.stderr
    refused = CliRunner().invoke(app, ["predict", "data/download/a.zip/in/two.png", "--write", "txt", "--threads", "1"])
    assert isinstance(refused.exception, UserError)
    assert str(refused.exception).startswith("--write")


def test_every_command_of_the_page_on_scores(copy: Project) -> None:
    """With a tiny model of the class in a folder of the hub's name, which needs no network."""
    reader(copy)
    outside_models.made("blip", copy.folder / "Salesforce/blip-image-captioning-base")
    printed = typed(copy, "scoring.md")
    assert any(text.startswith("photo.jpg\t") for text in printed.values())
    rows = list(csv.reader(io.StringIO(copy.read("blip.csv"))))[1:]
    assert sorted(row[0].removeprefix("data/download/") for row in rows) == sorted(
        image["file_name"] for image in json.loads(copy.read("data/split/references_test.json"))["images"]
    )
    scored, compared = (next(text for line, text in printed.items() if name in line) for name in ("score ", "compare "))
    assert "blip.csv − data/evaluate/captions.json" in scored
    assert "blip has the captions of blip.csv, which another program wrote" in compared
    page = (copy.folder / "report.html").read_text(encoding="utf-8")
    assert "captions by another program, <code>blip.csv</code>" in page
    assert rows[0][1] in page
