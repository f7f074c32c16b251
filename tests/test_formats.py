"""The file that `captioning predict --out` adds to: what is no such file is refused, and stays as it is."""

import json
from pathlib import Path

import pytest

from captioning.cli.formats import Format, OutputFile, lines
from captioning.cli.outputs import Outputs
from captioning.data.objects.labels import Found
from captioning.models.python import Caption
from captioning.system.errors import UserError


@pytest.mark.parametrize("output", list(Format))
@pytest.mark.parametrize("content", [b"my notes", b"one line\nand a last one", b"\x00\xff\n\xfe", b'{"a": 1}\n{"b"'])
def test_a_file_of_something_else_is_refused_and_not_changed(tmp_path: Path, output: Format, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"--out .*notes: not captions as --format .* name another file"):
        OutputFile(path, output)
    assert path.read_bytes() == content


def test_a_line_that_was_cut_short_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("a.jpg\ta dog\nb.jpg\ta c")
    assert OutputFile(path, Format.text).done == {"a.jpg"}
    assert path.read_text() == "a.jpg\ta dog\n"


def written(images: list[Path], path: Path, output: Format, n_best: int) -> list[Path]:
    """Write captions of the images that the file lacks, and say which."""
    outputs = Outputs.open(images, output, path, [], overwrite=False, n_best=n_best)
    missing = outputs.unfinished(images)
    for image in missing:
        captions = [Caption(f'{image.stem}, "{rank}"', 0.5, -rank, -2 * rank, lambda _: None) for rank in range(n_best)]
        outputs.add(image, captions, None, several=n_best > 1)
    return missing


@pytest.mark.parametrize("output", list(Format))
@pytest.mark.parametrize("n_best", [1, 3])
def test_captions_of_an_image_are_all_there_or_none(tmp_path: Path, output: Format, n_best: int) -> None:
    """Wherever a full disk or a kill has cut the file, what is there is of whole images, and the rest is written."""
    images, path = [tmp_path / f"{name}, ü.jpg" for name in "abc"], tmp_path / "captions"
    ends = []
    for image in images:
        image.touch()
        written(images[: len(ends) + 1], path, output, n_best)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in (0, *range(whole.index(b"\n") + 1, len(whole) + 1)):
        path.write_bytes(whole[:cut])
        assert written(images, path, output, n_best) == images[sum(end <= cut for end in ends) :]
        assert path.read_bytes() == whole


def test_objects_are_lines_of_text_or_a_list_in_json() -> None:
    caption, found = (
        Caption("a dog", None, -1.0, -2.0, lambda _: None),
        [Found("dog", 0.93213, (1.0, 2.25, 30.0, 40.0))],
    )
    text, record = (
        lines(Path("a.png"), [caption], output, None, several=False, objects=found)
        for output in (Format.text, Format.jsonl)
    )
    assert text == "a.png\ta dog\na.png\tdog\t0.9321\t1.0\t2.2\t30.0\t40.0"
    expected = [{"class": "dog", "conf": 0.9321, "rect": [1.0, 2.2, 30.0, 40.0]}]
    assert json.loads(record) == {"file": "a.png", "caption": "a dog", "objects": expected}
    nothing = lines(Path("a.png"), [caption], Format.jsonl, None, several=False, objects=[])
    assert json.loads(nothing)["objects"] == []
    assert "objects" not in lines(Path("a.png"), [caption], Format.jsonl, None, several=False)
