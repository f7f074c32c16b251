"""The pages read easily: short lines, short sentences, and none of the expressions that readers stumbled over."""

import re
from collections.abc import Iterator
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
SENTENCE = 35  # words; the aim is 25

TARGET = re.compile(r"\]\([^)\s]*\)|<https?://[^>]*>")  # of a link: it cannot be broken
GENERATED = re.compile(r"<!-- suite (\S+) -->\n.*?<!-- end -->", flags=re.DOTALL)  # by `captioning suite table`
END = re.compile(r"(?<!\bal\.)(?<=[.?!])[)\"*]*\s+")

BANNED = [
    r"the seed's",
    r"\bthe seed (saw|planned|had|needed|did)\b",
    r"\bnumbers are trained\b|\btrained number\b",
    r"\bpower of the process\b",
    r"repeated of caused",
    r"[Ww]ho already looks at",
    r"\bsecond names of\b",
    r"\b(the )?luck of\b",
    r"\b[Mm]end(s|ed|ing)?\b",
    r"\bwants? (a|an|more|larger|the|\d|to be)\b",
    r"\bsay (another|`)",
    r"\bscores on them flatter\b|\bare flattered\b",
    r"\bwhat (either|both|each experiment) said\b",
    r"\bnobody (waits|looks)\b",
    r"\ba person's\b.*\bso is\b",
    r"\btake one of each pair out\b",
    r"\bone for each thread at once\b",
    r"\bfrom which on\b",
    r"\b[Ll]ikeness\b",
    r"\b(it|they|which|who) (is|are|was|were) told\b",
    r"\bof (his|its|their|an?) own choice\b",
    r"\bthen removed is\b",
    r"\bin none of them\b",
    r"\btak(e|es|en) up\b",
    r"\bwhoever\b",
]


def lines(page: Path) -> list[str]:
    """The page without generated blocks, which are data; line numbers stay."""
    text = page.read_text(encoding="utf-8")
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
    long = [(line, words(sentence), sentence) for line, sentence in sentences if words(sentence) > SENTENCE]
    assert not long, "line, words, sentence"


def test_no_expression_that_readers_stumbled_over(page: Path) -> None:
    found = [
        (number, hit[0])
        for number, line in enumerate(lines(page), start=1)
        for pattern in BANNED
        if (hit := re.search(pattern, line))
    ]
    assert not found, "line, expression"
