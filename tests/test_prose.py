"""Pages, settings and messages read easily: short lines and sentences, no expression that readers stumbled over."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.imports import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LINE = 100  # characters, the targets of links not counted
SENTENCE = 25  # words
ITEM = 35  # of the changelog, whose items are no sentences

TARGET = re.compile(r"\]\([^)\s]*\)|<https?://[^>]*>")  # of a link: it cannot be broken
GENERATED = re.compile(r"<!-- suite (\S+) -->\n.*?<!-- end -->", flags=re.DOTALL)  # by `captioning suite table`
BEFORE = re.compile(r"^\| before \| after \|.*\n(?:\|.*\n)+", flags=re.MULTILINE)  # sentences that were made plain
EXAMPLE = re.compile(r"^\|[^|]*\|", flags=re.MULTILINE)
END = re.compile(r"(?<!\bal\.)(?<=[.?!])[)\"*]*\s+")

BANNED = [
    r"[Tt]he seed('s| saw| planned| had| needed| did)\b",  # the original journal
    r"\bnumbers are trained\b|\btrained number\b",  # trainable parameters
    r"\bpower of the process\b",
    r"\brepeated of caused\b",
    r"\b[Ww]ho already looks at\b",
    r"\bsecond names of\b",  # hard links
    r"\bluck of\b",  # variance, confidence interval
    r"\b[Mm]end(s|ed|ing)?\b",  # fix, correct
    r"\bwants? (a|an|more|larger|the|\d|to be)\b",  # needs
    r"[;,] say\b",  # run, write
    r"\bflatter(s|ed)?\b",  # inflated
    r"\bwhat (it|either|both|each experiment) said\b",
    r"\b[Nn]obody (waits|looks)\b",
    r"\b[Ww]ho(ever)? looks on\b",
    r"\btake one of each pair\b",
    r"\bone for each thread at once\b",
    r"\bfrom which on\b",
    r"\b[Ll]ikeness\b",  # similarity
    r"\b(it|they|which|who) (is|are|was|were) told\b",
    r"\bthen removed is\b",
    r"(?:^|[.?!] )Else\b",  # otherwise
    r"\b[Hh]eed(s|ed)?\b",  # handled
]


def lines(page: Path) -> list[str]:
    """The page without generated blocks, which are data, and bad examples; line numbers stay."""
    text = page.read_text(encoding="utf-8")
    text = BEFORE.sub(lambda table: EXAMPLE.sub("|", table[0]), text)
    return GENERATED.sub(lambda block: "\n" * block[0].count("\n"), text).split("\n")


def prose(page: Path) -> Iterator[tuple[int, int, str]]:
    """Paragraphs and items: first line (from 0), line after the last, and the text as it is read.

    Tables and headings are left out: neither can be broken over lines.
    """
    skipped = {"table_open": "table_close", "heading_open": "heading_close"}
    end = ""
    for token in MarkdownIt("commonmark").enable("table").parse("\n".join(lines(page))):
        end = skipped.get(token.type, "" if token.type == end else end)
        if token.type == "inline" and not end and token.map:
            yield token.map[0], token.map[1], "".join(map(_read, token.children or []))


def _read(token: Token) -> str:
    return " " if token.type == "softbreak" else token.content


def words(sentence: str) -> int:
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_lines_are_short(page: Path) -> None:
    text = lines(page)
    where = {number for start, end, _ in prose(page) for number in range(start, end)}
    long = {n + 1: len(line) for n in sorted(where) if len(line := TARGET.sub("]", text[n])) > LINE}
    assert not long, "line: characters"


def test_sentences_are_short(page: Path) -> None:
    sentences = ((start + 1, sentence) for start, _, text in prose(page) for sentence in END.split(text))
    limit = ITEM if page.name == "CHANGELOG.md" else SENTENCE
    long = [(line, words(sentence), sentence) for line, sentence in sentences if words(sentence) > limit]
    assert not long, "line, words, sentence"


def stumbled(texts: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Line and expression of each that is banned."""
    return [(line, hit[0]) for line, text in texts for pattern in BANNED if (hit := re.search(pattern, text))]


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a module that are not docstrings: what is printed or raised, among others."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_no_expression_that_readers_stumbled_over(page: Path) -> None:
    assert not stumbled(enumerate(lines(page), start=1))


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "Makefile"])
def test_no_such_expression_in_settings_and_pipeline(name: str) -> None:
    assert not stumbled(enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1))


def test_no_such_expression_in_messages() -> None:
    modules = [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): stumbled(messages(path)) for path in modules}
    assert not {path: faults for path, faults in found.items() if faults}


@pytest.mark.parametrize("text", ["12,031,680 numbers are trained on 12,000 captions", "; say another encoder"])
def test_expressions_are_found(text: str) -> None:
    assert stumbled([(1, text)])
