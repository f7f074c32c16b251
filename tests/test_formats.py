"""The file that `captioning predict --out` adds to: what is no such file is refused, and stays as it is."""

from pathlib import Path

import pytest

from captioning.cli.formats import Format, OutputFile
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
