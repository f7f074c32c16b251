"""Tables of captions in four formats: what is written reads back, and every fault is named with its line."""

import csv
import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from captioning.data.datasets import tables
from captioning.system.errors import UserError
from tests.damaged_bytes import damaged

Rows = list[dict[str, str]]
NEEDS_PYARROW = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


def delimited(rows: Rows, delimiter: str, end: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def parquet(rows: Rows) -> bytes:
    import pyarrow
    from pyarrow.parquet import write_table

    sink = pyarrow.BufferOutputStream()
    write_table(pyarrow.Table.from_pylist(rows), sink, row_group_size=1000)
    return sink.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "csv": lambda rows: delimited(rows, ",", "\n"),
    "tsv": lambda rows: delimited(rows, "\t", "\r\n"),
    "jsonl": lambda rows: "".join(json.dumps(row, ensure_ascii=len(row) > 2) + "\n" for row in rows).encode(),
    "parquet": parquet,
}
FORMATS = [pytest.param(name, marks=NEEDS_PYARROW) if name == "parquet" else name for name in WRITERS]
CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)
CAPTION = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\",; '"), min_size=1)


@st.composite
def some_rows(draw: st.DrawFn) -> Rows:
    columns = draw(st.permutations(["file", "caption", *draw(st.sets(st.sampled_from(["split", "image_id"])))]))
    row = st.fixed_dictionaries(
        {column: CAPTION.filter(str.strip) if column == "caption" else CELL for column in columns}
    )
    return draw(st.lists(row, min_size=1, max_size=6))


@pytest.mark.parametrize("suffix", FORMATS)
@given(some_rows(), st.sampled_from([b"", b"\xef\xbb\xbf"]))
@example([{"file": '"a', "caption": 'say "x",\r\n"y"'}, {"file": "NA", "caption": "null"}], b"")
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: Rows, mark: bytes
) -> None:
    path = tmp_path_factory.mktemp("table") / f"captions.{suffix}"
    path.write_bytes((mark if suffix != "parquet" else b"") + WRITERS[suffix](rows))
    wanted = [{**row, "caption": " ".join(row["caption"].split())} for row in rows]
    assert [row.cells for row in tables.read(path)] == wanted


def refused(path: Path, data: bytes, said: str) -> None:
    path.write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        tables.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


GOOD = b"file,caption\na.jpg,A dog.\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GOOD + b"b.jpg,A dog, and a cat.\n", r"line 3: 3 cells under 2 columns; put a cell with a comma"),
        (GOOD + b"b.jpg\n", r"line 3: 1 cells under 2 columns"),
        (GOOD + b'b.jpg,"A dog\n' + GOOD, r"line 3: unexpected end of data; .* double those inside"),
        (GOOD + b'b.jpg,"A "red" dog"\n', r"line 3: ',' expected after '\"'; put a cell"),
        (GOOD + b'b.jpg,"two\nlines"\n\nc.jpg\n', r"line 6: 1 cells"),
        (GOOD + b"b.jpg, \n", r"line 3: caption is empty; fill it in, or remove the row"),
        (GOOD + b",A dog.\n", r"line 3: file is empty"),
        (GOOD + b"b.jpg,A caf\xe9\n", r"line 3: not UTF-8; save it as UTF-8"),
        (b"\xef\xbb\xbf" + GOOD + b"b.jpg,A caf\xe9\n", r"line 3: not UTF-8; save it as UTF-8"),
        (GOOD.decode().encode("utf-16"), r"line 1: not UTF-8"),
        (GOOD + b"b.jpg,A\x00dog\n", r"line 3: caption has the control character '\\x00'"),
        (GOOD + b'"b\n.jpg",A dog.\n', r"line 3: file has the control character '\\n'"),
        (b"file;caption\na.jpg;A dog.\n", r"line 1: no column 'file', no column 'caption', an unknown column 'file;c"),
        (b"file,caption,Part\na.jpg,A dog.,val\n", r"line 1: an unknown column 'part'; needed are file and caption"),
        (b"file,split\na.jpg,val\n", r"line 1: no column 'caption'; .* there may be split and image_id"),
        (b"file,caption,file\na.jpg,A dog.,b\n", r"line 1: the column 'file' twice"),
        (b"a.jpg,A dog.\n", r"line 1: no column 'file'"),
        (b"", r"no captions there; write one a line, under the header file,caption"),
        (b"file,caption\n", r"no captions there"),
    ],
)
def test_a_faulty_csv_file_is_refused_with_its_line(tmp_path: Path, data: bytes, said: str) -> None:
    refused(tmp_path / "captions.csv", data, said)


def test_spaces_blank_lines_and_other_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(b'\r\n file , caption\r\n a.jpg,  A  dog. \r\n\r\n,\r\nb.jpg,A 5" nail.')
    assert tables.read(path) == [
        tables.Row("line 3", {"file": "a.jpg", "caption": "A dog."}),
        tables.Row("line 6", {"file": "b.jpg", "caption": 'A 5" nail.'}),
    ]


ROWS = [{"file": "a.jpg", "caption": "A dog."}, {"file": "b.jpg", "caption": "A cat, asleep."}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("captions.csv", b'File,CAPTION\na.jpg,A dog.\nb.jpg,"A cat, asleep."\n'),
        ("Captions.CSV", b'sep=,\r\nFile,Caption\r\na.jpg,A dog.\r\nb.jpg,"A cat, asleep."\r\n'),
        ("captions.csv", b"\xef\xbb\xbfsep=;\nfile;caption\na.jpg;A dog.\nb.jpg;A cat, asleep.\n"),
        ("captions.csv", b'"sep=;"\nfile;caption\na.jpg;A dog.\nb.jpg;A cat, asleep.\n'),
        ("captions.csv", b"SEP=\t\nfile\tcaption\na.jpg\tA dog.\nb.jpg\tA cat, asleep.\n"),
        ("captions.txt", b'image,caption\na.jpg,A dog.\nb.jpg,"A cat, asleep."\n'),
        ("captions.TSV", b"image\tCaption\na.jpg\tA dog.\nb.jpg\tA cat, asleep.\n"),
        (
            "captions.JSONL",
            b'{"File": "a.jpg", "Caption": "A dog."}\n{"caption": "A cat, asleep.", "image": "b.jpg"}\n',
        ),
    ],
)
def test_capitals_and_what_excel_and_kaggle_write(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert [row.cells for row in tables.read(tmp_path / name)] == ROWS


def test_lines_are_counted_with_that_of_excel(tmp_path: Path) -> None:
    refused(tmp_path / "captions.csv", b"sep=;\nfile;caption\na.jpg;A\nb.jpg;\n", r"line 4: caption is empty")
    refused(tmp_path / "captions.csv", b"image,File,caption\na,b,A\n", r"line 1: the column 'file' twice")


def test_a_long_or_strange_cell_is_shown_in_short(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(json.dumps({"file": "a.jpg", "caption": ["\x1b[31m\u202e" * 300]}).encode())
    with pytest.raises(UserError, match="is not text") as caught:
        tables.read(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value).replace(str(path), "captions.jsonl")) < 300


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "txt"])
@given(some_rows(), st.data())
def test_a_damaged_table_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: Rows, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("table") / f"captions.{suffix}"
    path.write_bytes(data.draw(damaged(WRITERS[{"txt": "csv"}.get(suffix, suffix)](rows))))
    try:
        read = tables.read(path)
    except UserError as fault:
        assert str(fault).isprintable()  # noqa: PT017
        assert str(fault).startswith(str(path))  # noqa: PT017
    else:
        assert all({"file", "caption"} <= row.cells.keys() and all(row.cells.values()) for row in read)


LINE = b'{"file": "a.jpg", "caption": "A dog."}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"file": "a.jpg", "caption": "A dog."', r"line 3: not JSON \(Expecting ',' delimiter\); write an object a"),
        (b"[" * 100_000, r"line 3: not JSON \(maximum recursion"),
        (b'["a.jpg", "A dog."]', r"line 3: not an object; write \{\"file\""),
        (b'{"file": "a.jpg"}', r"line 3: no column 'caption'"),
        (b'{"file": "a.jpg", "caption": "A", "file": "b.jpg"}', r"line 3: the column 'file' twice"),
        (b'{"file": "a.jpg", "captions": ["A dog."]}', r"line 3: no column 'caption', an unknown column 'captions'"),
        (b'{"file": "a.jpg", "caption": ["A dog."]}', r"line 3: caption = \['A dog\.'\] is not text"),
        (b'{"file": "a.jpg", "caption": null}', r"line 3: caption is empty"),
        (b'{"file": 7, "caption": "A dog."}', r"line 3: file = 7 is not text"),
        (b'{"file": "a.jpg", "caption": "\\ud800"}', r"line 3: caption has the control character '\\ud800'"),
        (b'{"file": "a.jpg", "caption": "A", "split": "val"}', r"line 3: it has caption, file, split, and line 2 has"),
        (b'{"file": "a.jpg", "caption": "\xe9"}', r"line 3: not UTF-8"),
    ],
)
def test_a_faulty_json_line_is_refused_with_its_number(tmp_path: Path, line: bytes, said: str) -> None:
    refused(tmp_path / "captions.jsonl", b"\r\n" + LINE + line + b"\n", said)


def test_an_image_id_may_be_a_number_and_is_not_a_truth_value(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(LINE.replace(b"{", b'{"image_id": 17, '))
    assert tables.read(path)[0].cells["image_id"] == "17"
    refused(path, LINE.replace(b"{", b'{"image_id": true, '), "line 1: image_id = True is not text")


@NEEDS_PYARROW
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"file": "b.jpg", "caption": " "}, r"row 4: caption is empty"),
        ({"file": "b.jpg", "caption": None}, r"row 4: caption is empty"),
        ({"file": None, "caption": "A dog."}, r"row 4: file is empty"),
    ],
)
def test_a_faulty_row_of_parquet_is_refused_with_its_number(tmp_path: Path, row: dict[str, str], said: str) -> None:
    good = {"file": "a.jpg", "caption": "A dog."}
    refused(tmp_path / "captions.parquet", parquet([good, good, good, row, good]), said)


@NEEDS_PYARROW
def test_rows_of_a_long_parquet_file_are_counted_through(tmp_path: Path) -> None:
    """It is read in pieces of 65,536 rows."""
    good = {"file": "a.jpg", "caption": "A dog."}
    refused(
        tmp_path / "captions.parquet", parquet([good] * 70_000 + [{**good, "file": " "}]), r"row 70001: file is empty"
    )


@NEEDS_PYARROW
def test_a_faulty_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    whole = parquet([{"file": "a.jpg", "caption": "A dog."}])
    refused(path, b"file,caption\n", r"not Parquet, or damaged \(.*\); write it again")
    refused(path, whole[:-20], r"not Parquet, or damaged")
    refused(path, parquet([{"file": "a.jpg", "text": "A dog."}]), r"no column 'caption', an unknown column 'text'")
    refused(path, parquet([{"file": "a.jpg", "caption": 5}]), r"row 1: caption = 5 is not text")  # type: ignore[dict-item]


def test_without_pyarrow_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(tmp_path / "captions.parquet", b"", r"Parquet needs pyarrow; run `pip install pyarrow`, or write .* as CSV")


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"captions\.csv: cannot be read \(No such file"):
        tables.read(tmp_path / "captions.csv")
