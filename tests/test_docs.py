"""Promises of the docs: commands are typed by tests, links lead somewhere, settings exist."""

import re
from pathlib import Path

import pytest
import yaml

from tests.imports import ROOT
from tests.pages import PAGES, commands, to_type


def typed_by_tests() -> set[str]:
    """The pages that tests type whole."""
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")]
    return {name for text in tests for name in re.findall(r'\btyped\(\w+, "([\w.-]+)"', text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_typed_by_a_test_or_says_when_it_was_run_by_hand(page: Path) -> None:
    """`pages.typed` types each command that has no mark. Type the page in a test, or add `run by hand DATE`."""
    missing = [command.text for command in to_type(page)] if page.name not in typed_by_tests() else []
    assert missing == []


def test_commands_are_read_as_a_shell_reads_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n```sh\n# a comment\nfirst -S a=1 \\\n    -S b=2   # why (run by hand 2026-11-26)\n"
        "second '#1' # not run: wants a cluster\n```\n```python\nno()\n```\n```bash\nthird   # run by hand\n```\n"
    )
    first, second, third = commands(page)
    assert first.text == "first -S a=1 -S b=2"
    assert first.typed == "first -S a=1 \\\n    -S b=2   # why (run by hand 2026-11-26)"
    assert (first.block, second.block, third.block) == (0, 0, 1)
    assert [command.marked for command in (first, second, third)] == [True, True, False]
    assert to_type(page) == [third]
    page.write_text("It has not\nbeen run.\n\n## Part\n```sh\nfirst\n```\n")
    assert to_type(page) == []
    page.write_text("```sh\nfirst   # run by hand 2026-13-40\n```\n")
    with pytest.raises(ValueError, match="month"):
        to_type(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_docs_exist(page: Path) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key in re.findall(r"-S '?([\w.]+)=", page.read_text(encoding="utf-8")):
        value = settings
        for part in key.split("."):
            assert part in value, key
            value = value[part]


def test_no_file_of_the_project_is_empty() -> None:
    for path in [*PAGES, ROOT / "LICENSE", ROOT / "CHANGELOG.md"]:
        assert path.stat().st_size > 200, path
