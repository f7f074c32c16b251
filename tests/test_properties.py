"""Property tests draw the same examples in every process, and others for another seed; a failure can be repeated."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import properties
from tests.imports import ROOT

DRAWN = """
from hypothesis import given, strategies as st

@given(st.lists(st.integers(0, 10**6) | st.floats() | st.text(max_size=3) | st.sets(st.text(max_size=2))))
def test_drawn(values):
    print("drawn", [sorted(value) if isinstance(value, set) else value for value in values])
"""
FAILING = """
from hypothesis import given, strategies as st
from tests.properties import examples

@examples(20)
@given(st.integers(0, 2**64))
def test_most_numbers(number):
    print("drawn", number)
    assert number % 500 != 7
"""
LOADED = "import constants\n"  # Hypothesis would mix its constants into what it draws
CONSTANTS = f"NUMBERS = {list(range(1000, 1500))}\nWORDS = {[chr(place) * 2 for place in range(1000, 1500)]}\n"


def run(folder: Path, source: str, *command: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    """Run pytest, set up for property tests as here, on a file of tests in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "constants.py").write_text(CONSTANTS, encoding="utf-8")
    (folder / "test_one.py").write_text(source, encoding="utf-8")
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(hash_seed)}
    environment.pop("PYTEST_ADDOPTS", None)
    program = [sys.executable, "-m", "pytest", "-p", "tests.properties", "-p", "no:cacheprovider", "-sq"]
    return subprocess.run([*program, *command], cwd=folder, env=environment, capture_output=True, text=True)


def drawn(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("drawn")]


def test_examples_are_the_same_whatever_else_the_process_has_loaded(tmp_path: Path) -> None:
    first, again = run(tmp_path / "one", DRAWN), run(tmp_path / "two", LOADED + DRAWN, hash_seed=1)
    assert len(drawn(first.stdout)) >= 100
    assert drawn(first.stdout) == drawn(again.stdout)
    assert not list(tmp_path.glob("*/.hypothesis/examples"))


def test_fuzzing_draws_more_and_says_how_to_repeat_a_failure(tmp_path: Path) -> None:
    assert run(tmp_path, FAILING).returncode == 0
    failed = run(tmp_path, FAILING, "--fuzz", "200", "--hypothesis-seed", "5")
    assert failed.returncode == 1
    [command] = re.findall(r"^To repeat the failure: pytest (.*)$", failed.stdout, flags=re.MULTILINE)
    again = run(tmp_path, LOADED + FAILING, *shlex.split(command))
    assert drawn(again.stdout) == drawn(failed.stdout)
    [blob] = set(re.findall(r"@reproduce_failure\(.*\)", failed.stdout))
    source = "from hypothesis import reproduce_failure\n" + FAILING.replace("@examples", f"{blob}\n@examples")
    assert set(drawn(run(tmp_path, source).stdout)) == {drawn(failed.stdout)[-1]}


def test_fuzzing_without_a_seed_is_refused() -> None:
    config = SimpleNamespace(getoption={"--fuzz": 2, "--hypothesis-seed": None}.get)
    with pytest.raises(pytest.UsageError, match="--hypothesis-seed"):
        properties.pytest_configure(config)


def test_all_property_tests_draw_as_the_profile_says() -> None:
    """`settings` and `seed` of a test's own would decide which examples it draws, or how many `make fuzz` draws."""
    for path in (ROOT / "tests").glob("test_*.py"):
        imported = re.findall(r"^from hypothesis import (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert not {"settings", "seed"} & {name for line in imported for name in re.split(r"[ ,]+", line)}, path


def test_a_pass_of_fuzzing_runs_property_tests_with_its_seed() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--minutes", "0", "--factor", "2", "--seed", "9"]
    more = ["--collect-only", "-n", "0", "tests/test_splits.py"]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--fuzz 2 --hypothesis-seed 9" in done.stdout
    assert "test_known_words_survive_encoding" in done.stdout
    assert "test_vocabulary_file_round_trip" not in done.stdout
