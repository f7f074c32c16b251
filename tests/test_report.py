"""The report as a file: what is in it, that it is text and nothing else, and the same bytes every time."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from captioning.experiments import compare, report
from captioning.experiments.report import content, gallery, objects
from captioning.metrics.words import unknown_words
from captioning.system.errors import UserError
from tests import reports
from tests.project import Project


def written(path: Path, images: int = 12, limit: int | None = None, others: int = 1, seed: int = 0) -> str:
    report.write(path, reports.comparison(images, others), "captioning report base other1", limit, seed)
    return path.read_text(encoding="utf-8")


def data(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_same_revisions_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, limit=6) for name in ("a.html", "b.html"))
    assert first == second
    assert data(written(tmp_path / "c.html", limit=6, seed=5))["images"] != data(first)["images"]


def test_nothing_is_asked_for_outside_the_file(tmp_path: Path) -> None:
    text = written(tmp_path / "a.html")
    outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)) - {"http://www.w3.org"}  # SVG's name, not an address
    assert outside == set()
    assert not re.search(r"<link[^>]+href=\"(?!data:)|<script[^>]+src|@import|url\(", text)
    assert "default-src 'none'" in text


def test_what_comes_from_outside_stays_text(tmp_path: Path) -> None:
    text = written(tmp_path / "a.html")
    assert reports.HOSTILE not in text
    assert text.count("<script>") == 3
    assert "<i>" not in text
    assert "&lt;i&gt;" in text
    assert data(text)["images"][1]["captions"][0] == reports.HOSTILE
    assert not re.search(r"{[{%#]", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))  # no template is left


def test_scores_intervals_verdicts_and_settings_are_there(tmp_path: Path) -> None:
    text = written(tmp_path / "a.html", images=60)
    comparison = reports.comparison(60)
    for scores in comparison.scores:
        for score in scores.values():
            assert f"<strong>{score.value:.3f}</strong><small>{score.low:.3f} to {score.high:.3f}</small>" in text
    assert re.search(r"constant-caption baseline</th><td[^>]*>0.123</td>", text)
    assert (
        "<code>encoder</code></th><td class=left><code>resnet18</code></td><td class=left><code>resnet1</code>" in text
    )
    assert re.search(r"<ul class=findings><li><strong>other1</strong>: (better|worse) than base", text)
    assert re.search(r"<small class=(better|worse)>(better|worse)</small>", text)


def test_an_image_has_what_was_said_of_it_and_who_looked_where(tmp_path: Path) -> None:
    images = data(written(tmp_path / "a.html"))["images"]
    third = images[2]
    assert third["captions"] == [reports.SAID[0], reports.SAID[0]]
    assert third["references"] == reports.PEOPLE
    assert [bool(sheet) for sheet in third["sheets"]] == [True, False]
    assert [bool(sheet) for image in images for sheet in image["sheets"]].count(True) == 1
    for uri, most in ((third["thumbnail"], 256), (third["sheets"][0], 960)):
        drawn = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
        assert (drawn.format, max(drawn.size)) == ("JPEG", most)


def test_an_image_has_the_names_of_the_objects_that_were_read(tmp_path: Path) -> None:
    images = data(written(tmp_path / "a.html"))["images"]
    box = [40, 30, 200, 150]
    boxes = [[name, *box] for name in ("dog", "<b>", "dog")]
    assert images[2]["objects"] == [{"names": "2 × dog, <b>", "boxes": boxes, "size": [400, 300]}, None]
    assert images[0]["objects"] == [{"names": "none", "boxes": [], "size": [400, 300]}, None]


@pytest.mark.parametrize("name", ["label.tsv", "hw.tsv"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"img1\t[]", "it has no row of img2"),
        (b'img2\t[{"rect": 1}]', r"0\.\w+: Field required"),
        (b"img2\t{", "Invalid"),
    ],
)
def test_a_damaged_table_of_objects_is_said_in_one_line(name: str, row: bytes, said: str) -> None:
    base = reports.comparison(3).groups[0].experiments[0]
    path = f"data/objects/{name}"
    files = base.revision.files | {path: row + b"\n"}  # type: ignore[union-attr]
    with pytest.raises(UserError, match=rf"\Abase: {path} is not [^\n]*\({said}[^\n]*\Z"):
        objects.read(replace(base, revision=replace(base.revision, files=files)), [2])  # type: ignore[call-arg]


def test_words_that_no_reference_says_are_found() -> None:
    assert unknown_words(["A dog runs!"], ["a cat runs", "a dog", ""]) == [[1], [], []]


def test_curves_start_at_epoch_1_and_leave_out_what_is_no_number() -> None:
    found = content.charts([reports.revision("one", ["a dog"], b"")])
    assert [chart["title"] for chart in found] == ["Caption loss", "Validation CIDEr"]
    training, validation = found[0]["series"]
    assert (training["part"], training["points"]) == ("training", [(1, 3.5), (2, 2.25), (3, 1.5)])
    assert (validation["part"], validation["points"]) == ("validation", [(1, 3.5), (2, 2.25)])


def test_the_largest_disagreements_and_what_was_looked_at_are_chosen() -> None:
    experiments = [group.experiments[0] for group in reports.comparison(60).groups]
    chosen = gallery.choose(experiments, 8, seed=0)
    assert len(set(chosen)) == 8
    assert chosen == sorted(chosen)
    assert 3 in chosen
    scores = [experiment.model.means["cider"] for experiment in experiments]
    apart = sorted(abs(scores[0] - scores[1]), reverse=True)
    assert sum(abs(scores[0] - scores[1])[k - 1] >= apart[3] for k in chosen) >= 4
    assert gallery.choose(experiments, 0, seed=0) == []
    assert gallery.choose(experiments, None, seed=0) == list(range(1, 61))


def test_one_experiment_alone_and_no_image(tmp_path: Path) -> None:
    text = written(tmp_path / "a.html", limit=0, others=0)
    assert "<summary>experiment <small>2 settings</small></summary>" in text
    assert "<code>encoder</code></th><td class=left><code>resnet18</code></td>" in text
    assert data(text)["images"] == []


def test_the_settings_of_one_experiment_are_all_there_by_section(tmp_path: Path) -> None:
    params = {"train.optimizer.lr": 0.003, "decoders.lstm.layers": 1, "split.limit": None, "decoder": "<lstm>"}
    one = compare.read(reports.revision("one", [reports.SAID[0]] * 3, b"", **params))
    report.write(tmp_path / "a.html", compare.compare([one], draws=10), "", 0)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert re.findall(r"<summary>(\w+) <small>(\d) settings", text) == [
        ("experiment", "2"),
        ("decoders", "1"),
        ("split", "1"),
        ("train", "1"),
    ]
    named = ["decoder", "seed", "lstm.layers", "limit", "optimizer.lr"]
    assert re.findall(r"<code>([\w.]+)</code></th>", text) == named
    assert "<code>&lt;lstm&gt;</code>" in text
    assert text.count("<details open>") == 1


def test_code_that_differs_is_named(tmp_path: Path) -> None:
    made = []
    for name, digest in (("one", "1"), ("other", "2")):
        revision = reports.revision(name, [reports.SAID[0]] * 3, b"")
        deps = [{"path": "src/<a>.py", "md5": digest}, {"path": "src/b.py", "md5": "3"}]
        lock = {"stages": {"train": {"deps": deps, "params": {"params.yaml": {"seed": int(digest)}}}}}
        revision.files["dvc.lock"] = yaml.safe_dump(lock).encode()
        made.append(compare.read(revision))
    report.write(tmp_path / "a.html", compare.compare(made, draws=10), "", 0)
    cells = "<td class=left>the first's</td><td class=left>other in src/&lt;a&gt;.py</td>"
    assert f"<th scope=row>Source code</th>{cells}</tr>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_head_says_data_set_models_commits_and_command(tmp_path: Path) -> None:
    text = written(tmp_path / "a.html", others=0)
    head = dict(re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", text))
    assert head == {
        "Data set": "not recorded",
        "Encoder": "resnet18",
        "Decoder": "not recorded",
        "Test images": "12",
        "Commit": "<code>0000000</code>, 2026-11-28 <small>base</small>",
        "Made by": "<code>captioning report base other1</code>",
    }
    assert text.index("<dl class=facts>") < text.index("<main>")
    several = dict(re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", written(tmp_path / "b.html")))
    assert several["Encoder"] == "resnet18 <small>base</small><br>resnet1 <small>other1</small>"


def test_one_experiment_starts_with_a_sample_that_knows_nothing_of_scores(tmp_path: Path) -> None:
    """The images that come first are the same whatever was said of them; what attention drew comes after."""
    orders = []
    for said in (reports.SAID[0], reports.SAID[1]):
        one = compare.read(reports.revision("one", [said] * 60, reports.archive(60), looked=True))
        report.write(tmp_path / "a.html", compare.compare([one], draws=10), "", 12, seed=3)
        images = data((tmp_path / "a.html").read_text(encoding="utf-8"))["images"]
        orders.append([image["file"] for image in sorted(images, key=lambda image: image["order"])])
    first, second = orders
    assert first == second
    assert "photos.zip/0003.png" in first
    sample = [f"photos.zip/{k:04}.png" for k in gallery.shuffled(range(1, 61), 3)]
    assert first[:11] == sample[:11]
    assert len(first) == 12


def test_an_archive_without_the_image_is_said_in_one_line(tmp_path: Path) -> None:
    broken = compare.read(reports.revision("one", [reports.SAID[0]] * 3, reports.archive(1)))
    with pytest.raises(UserError, match=r"^one: data/download/photos.zip is damaged or lacks 0002.png"):
        report.write(tmp_path / "a.html", compare.compare([broken], draws=10), "", None)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_report_of_revisions(experimented: Project) -> None:
    before = experimented.run("git", "status", "--porcelain").stdout
    done = experimented.run("captioning", "report", "HEAD", "short", "workspace", "--out", "../report.html")
    path = experimented.folder.parent / "report.html"
    text = path.read_text(encoding="utf-8")
    assert done.stdout == f"../report.html: {path.stat().st_size / 1e6:.1f} MB; open it in a browser\n"
    assert len(data(text)["images"]) == 6
    assert [one["name"] for one in data(text)["experiments"]] == ["HEAD", "short", "workspace"]
    digits = experimented.run("git", "rev-parse", "--short=7", "HEAD").stdout.strip()
    assert re.search(rf"<dt>Commit</dt><dd><code>{digits}</code>, 20\d\d-\d\d-\d\d <small>HEAD</small><br>", text)
    assert re.search(rf"files on top of <code>{digits}</code>, 20\d\d-\d\d-\d\d <small>workspace</small></dd>", text)
    assert "<dt>Data set</dt><dd>scenes</dd>" in text
    assert "Caption loss" in [chart["title"] for chart in data(text)["charts"]]
    assert "<code>evaluate.max_words</code>" in text
    experimented.run("captioning", "report", "HEAD", "short", "--out", "../all.html", "--images", "all")
    assert len(data((experimented.folder.parent / "all.html").read_text(encoding="utf-8"))["images"]) == 6
    assert experimented.run("git", "status", "--porcelain").stdout == before
    refused = experimented.run("captioning", "report", "HEAD", "--images", "some", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("error: --images some: give a number of images")
