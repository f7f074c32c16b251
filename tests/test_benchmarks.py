"""Benchmarks at a small size: their tables have a row for each thing that they measure."""

import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import agreement, drafts, gpu, many_images, oscar, peers, published_ways, speed_run
from captioning.settings import resolve


def test_the_gpu_benchmark_prints_a_row_for_each_decoder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"SECONDS": 0.01, "IMAGES": 2, "WORDS_EACH": 3, "VOCABULARY": 64}.items():
        monkeypatch.setattr(gpu, name, value)
    gpu.main("cpu", "squeezenet1_1", "64")
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    trained = [f"train {name}, squeezenet1_1 {how}" for name in gpu.trained() for how in ("frozen", "fine-tuned")]
    assert rows == ["encode, squeezenet1_1", *trained]


def test_operations_of_a_layer_and_of_an_lstm() -> None:
    linear, lstm = nn.Linear(3, 5, bias=False), nn.LSTM(3, 4, batch_first=True)
    with torch.inference_mode():
        assert gpu.operations(lambda: linear(torch.ones(7, 3))) == 2 * 7 * 3 * 5
        assert gpu.operations(lambda: lstm(torch.ones(2, 6, 3))) == 2 * 12 * (16 * 3 + 16 * 4)
    words = torch.ones(2, 6, 3, requires_grad=True)
    assert gpu.operations(lambda: lstm(words)[0].sum().backward()) == 3 * 2 * 12 * (16 * 3 + 16 * 4)


def test_many_images_are_captioned_and_memory_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    many_images.main("40", many_images.SMALL)
    printed = capsys.readouterr().out
    assert printed.startswith("40 of 40 images")
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(many_images.SHARES)
    assert rows[-1][0] == "40"
    assert all(float(row[4].replace(",", "")) > 50 for row in rows)
    assert "0 without a caption, 0 with two, 0 with another caption" in printed


def test_a_rate_needs_two_looks(capsys: pytest.CaptureFixture[str]) -> None:
    none, all_at_once = many_images.Moment(0.0, 0.0, 0, 60.0), many_images.Moment(2.0, 1.5, 40, 80.0)
    many_images.print_table([none, all_at_once], 40)
    assert capsys.readouterr().out.startswith("40 of 40 images, ")
    assert (many_images.per_second(40, 0.0), many_images.per_second(40, 2.0)) == ("", "20.0")


def test_the_benchmark_of_oscar_compares_both_ways_of_training_and_of_decoding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"IMAGES": 2, "FEATURES": 8, "REGIONS": 3, "PIECES": 40, "ROUNDS": 1, "SIZES": {"small": (2, 16, 2, 32)}}
    for name, value in small.items():
        monkeypatch.setattr(oscar, name, value)
    oscar.training("cpu")
    oscar.decoding("cpu")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| small")]
    assert [row[1] for row in rows[:2]] == ["float32", "bfloat16"]
    assert all(float(number.strip("| ").replace(",", "")) > 0 for row in rows for number in row[2:])


def test_the_published_way_computes_what_oscar_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask behind the words so far sees what `forward` sees there, if only one position of a caption is masked."""
    for name, value in {"IMAGES": 2, "EACH": 2, "FEATURES": 8, "REGIONS": 3, "PIECES": 40}.items():
        monkeypatch.setattr(oscar, name, value)
    monkeypatch.setitem(oscar.SIZES, "small", (2, 16, 2, 32))
    decoder, given = oscar.built("small", "cpu").eval(), oscar.batch("cpu")
    where = torch.full((len(given.tokens), 1), 5)
    with torch.inference_mode():
        x = oscar.embedded(decoder, given.encoded.rows(given.owner), given.tokens, where)
        seen = oscar.through(decoder.bert, x, oscar.hidden_places(x.device))[:, 5]
        published = decoder.cls(seen, decoder.bert.embeddings.word_embeddings.weight)
        here = decoder(given.encoded, given.tokens[:, :5], given.owner)[:, -1]
    torch.testing.assert_close(published, here, rtol=1e-4, atol=1e-4)


def test_the_speed_run_has_the_stages_of_the_pipeline_and_links_files_that_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("own.pth").write_bytes(b"weights")
    folder = tmp_path / "run"
    folder.mkdir()
    settings = speed_run.prepare(folder, ["dataset=flickr8k", "features.weights=own.pth", "train.epochs=2"])
    assert (settings["dataset"], settings["features"]["weights"], settings["train"]["epochs"]) == (
        "flickr8k",
        "own.pth",
        2,
    )
    assert (folder / "own.pth").read_bytes() == b"weights"
    written = resolve.load(folder / "params.yaml")
    assert (written.dataset, written.train.epochs) == ("flickr8k", 2)
    assert [stage for stage in speed_run.stages() if not (folder / "stages" / f"{stage}.py").is_file()] == []
    assert speed_run.stages()[-1] == "evaluate"
    for wrong in ("train.epoch=3", "training.epochs=3"):
        (tmp_path / wrong).mkdir()
        with pytest.raises(SystemExit, match=rf"error: {wrong.partition('=')[0]} is not a setting"):
            speed_run.prepare(tmp_path / wrong, [wrong])


def test_a_speed_run_has_a_row_for_each_goal_that_it_reached(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    seconds = {"download": 10.0, "train": 30.25, "evaluate": 1000.0}
    found = speed_run.rows("flickr8k", 0.45, seconds, tmp_path, ["decoder=lstm"], "`abc`")
    assert len(found) == 1
    assert found[0].startswith("| flickr8k, 0.40 | 40 | 0.450 | `decoder=lstm` | `abc` | ")
    assert found[0].endswith(" | `44136fa355b3` |")  # of {}
    assert len(speed_run.rows("scenes", 2.5, seconds, tmp_path, [], "`abc`")) == 2
    assert speed_run.rows("coco2017", 2.5, seconds, tmp_path, [], "`abc`") == []


def test_agreement_with_people_is_kendalls_tau_c(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"a": ["a dog runs in grass", "the dog runs"], "b": ["a cat sits on a sofa", "the cat sits"]}
    lines = [f"{image}.jpg#{k}\t{text}" for image, texts in said.items() for k, text in enumerate(texts)]
    (tmp_path / agreement.CAPTIONS).write_text("\n".join([*lines, "c.jpg#0\ta dog sits in grass"]) + "\n")
    rows = ["a.jpg\tc.jpg#0\t3\t4\t3", "b.jpg\tc.jpg#0\t2\t2\t1", "a.jpg\tb.jpg#0\t1\t1\t1", "a.jpg\ta.jpg#0\t4\t4\t4"]
    (tmp_path / agreement.RATINGS).write_text("\n".join(rows) + "\n")
    references, judged = agreement.read(tmp_path)
    assert references["a.jpg"] == said["a"]
    assert [one.ratings for one in judged] == [(3, 4, 3), (2, 2, 1), (1, 1, 1)]  # without the image's own caption
    assert agreement.tau([3.0, 2.0, 1.0], judged) == pytest.approx(tau_c([3, 2, 1], judged))
    assert agreement.tau([1.0, 2.0, 3.0], judged) < 0
    agreement.main(tmp_path)
    printed = capsys.readouterr().out
    assert printed.startswith("3 pairs, 3 ratings each")
    assert printed.count("\n| ") >= 1 + len(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"))
    (tmp_path / agreement.RATINGS).write_text("a.jpg\tc.jpg#0\t3\t4\t5\n")
    with pytest.raises(SystemExit, match=r"ExpertAnnotations.txt, line 1: .* a rating beyond 1 to 4"):
        agreement.read(tmp_path)


def tau_c(values: list[int], judged: list[agreement.Judged]) -> float:
    """Stuart 1953: 2 (concordant - discordant) / (n² (m - 1) / m), over all pairs of ratings, counted."""
    pairs = [(value, rating) for value, one in zip(values, judged, strict=True) for rating in one.ratings]
    sign = [(x - a) * (y - b) for k, (x, y) in enumerate(pairs) for a, b in pairs[:k]]
    kinds = min(len({x for x, _ in pairs}), len({y for _, y in pairs}))
    return 2 * (sum(s > 0 for s in sign) - sum(s < 0 for s in sign)) / (len(pairs) ** 2 * (kinds - 1) / kinds)


def test_peers_have_a_row_for_each_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"CAPTIONS": 10, "REGIONS": 3, "TOKENS": 4, "BATCH": 2, "STEPS": 1}
    for name, value in small.items():
        monkeypatch.setattr(peers, name, value)
    measured = {}
    for side in ("here", "published"):  # bfloat16 needs more than AVX2, to which the tests are pinned
        monkeypatch.setattr(peers, "SIDE", side)
        measured[side] = peers.measure()
    rounds = [{side: measured[side.partition(",")[0]] for side in peers.SIDES}] * 2
    for part, of in (("training", peers.PEERS), ("searching", peers.SEARCHED)):
        head, _, *rows = peers.table("speed", [{side: each[side][part] for side in peers.SIDES} for each in rounds])
        assert {row.split("|")[1].split(",")[0].strip() for row in rows} == set(of)
        assert {row.count("|") for row in rows} == {head.count("|")}


@pytest.mark.parametrize("name", ["updown", "attention"])
def test_peers_search_for_the_likeliest_caption(name: str) -> None:
    """With as many hypotheses as words, nothing is missed in two words."""
    words, begin = 6, 2
    torch.manual_seed(3)
    regions = torch.randn(4, 3, 8)
    widths = {"embedding": 5, "hidden": 4, "attention": 4}
    if name == "updown":
        model: published_ways.PublishedWay = published_ways.TopDown(8, words, **widths).eval()
        found = published_ways.beam_of_a_batch(model, regions, words, 2, begin).tolist()  # type: ignore[arg-type]
    else:
        model = published_ways.ShowAttendAndTell(8, words, **widths, penalty=0.0).eval()
        found = [published_ways.beam_of_an_image(model, image, words, 2, begin).tolist() for image in regions]  # type: ignore[arg-type]
    for image, caption in zip(regions, found, strict=True):
        losses = {
            said: model(image.unsqueeze(0), torch.tensor([[begin, *said]])).item()
            for said in itertools.product(range(words), repeat=2)
        }
        assert tuple(caption) == min(losses, key=losses.__getitem__)


def test_jpegs_come_smaller_where_no_side_becomes_too_short(tmp_path: Path) -> None:
    """640 × 480 at half is 320 × 240: enough for 224 pixels, not for 260."""
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for index in range(2):
            stream = io.BytesIO()
            Image.fromarray(noise).save(stream, "JPEG")
            archive.writestr(f"{index}.jpg", stream.getvalue())
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in drafts.rows(tmp_path / "images.zip", (224, 260))]
    assert [(row[0], row[4]) for row in rows] == [("224", "1.00"), ("260", "0.00")]
    assert float(rows[0][3]) > 1
    assert float(rows[0][5]) > 0
    assert rows[1][5] == ""
