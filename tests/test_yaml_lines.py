"""YAML that a person writes: one dialect, that of DVC, and the line of each key."""

from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from captioning.settings.resolve import load
from captioning.settings.yaml_lines import key_lines, loads, parse, repeated_keys
from captioning.system.errors import UserError

TEXT = """\
# a comment
a: 1e-5
b:
  c: yes
  d: [1, 2]

  c: no
e: {f: 012, g: 0o12, f: ~}
a: 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "value", ["1e-5", "1e5", "1.5e+3", "yes", "off", "012", "0o12", "null", "~", "true", "1:30", "x"]
)
def test_values_are_those_that_dvc_reads(value: str) -> None:
    found, dvc = loads(f"a: {value}")["a"], parse_yaml(f"a: {value}", "")["a"]
    assert (found, type(found)) == (dvc, type(dvc))


def test_numbers_and_words_are_those_of_yaml_1_2() -> None:
    assert loads("[1e-5, yes, 012, 0o12, true]") == [1e-5, "yes", 12, 10, True]


def test_each_key_has_its_line(file: Path) -> None:
    keys = [(".".join(key), line) for key, line in key_lines(parse(file)[1])]
    lines = [("a", 2), ("b", 3), ("b.c", 4), ("b.d", 5), ("b.c", 7), ("e", 8), ("e.f", 8), ("e.g", 8), ("e.f", 8)]
    assert keys == [*lines, ("a", 9)]


def test_all_keys_that_are_repeated_are_named(file: Path) -> None:
    assert list(repeated_keys(parse(file)[1])) == [("b.c", 7), ("e.f", 8), ("a", 9)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2", ": not YAML: .*line 2"),
        ("a: 1\n\tb: 2", ": not YAML: .*line 2"),
        ("k: !!python/object 1", ": not YAML: .*line 1"),
        ("", ": expected `key: value` lines"),
        ("- a\n", ": expected `key: value` lines"),
    ],
)
def test_what_is_no_mapping_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said) as told:
        parse(path)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(str(path))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run in the project's folder"):
        parse(tmp_path / "params.yaml")


_BOMB = "\n".join(["a0: &a0 {x: 1, y: 2}", *(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 27))])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seed: 1\nname: caf\u00e9".encode("latin-1"), "line 2: not UTF-8"),
        (b"seed: 2020-99-99", "not YAML: .*cannot be read"),
        (b'seed: !!int ""', "not YAML"),
        (b"seed: !!bool maybe", "not YAML"),
        (b"seed: !!timestamp x", "not YAML"),
        (b"seed: &a [*a]", r"line 1: the alias \*a"),
        (b"a: &a\n  b: *a", r"line 2: the alias \*a"),
        (b"seed: " + b"[" * 3000, "nested too deeply"),
        (b"seed: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
        (b"{a: " * 3000 + b"1" + b"}" * 3000, "nested too deeply"),
        (_BOMB.encode(), r"line 2: the alias \*a0"),
        (b"seed: \x00", "not YAML"),
        (b"? [a, b]\n: 1\n? {c: 1}\n: 2", "not YAML|expected"),
        (b"&" + b"x" * 5000 + b": 1", "not YAML|expected"),
    ],
)
def test_what_yaml_cannot_make_is_told_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as told:
        load(path)
    assert all(len(line) <= 300 + len(str(path)) for line in str(told.value).splitlines())


def test_a_folder_is_no_settings(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(UserError, match=r"params\.yaml: cannot be read \(Is a directory\)"):
        load(tmp_path / "params.yaml")
