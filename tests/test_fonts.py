"""Lettering: letters of the world's scripts are drawn, or named where no font has them, and ASCII is as it was."""

import logging
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, features

from captioning.evaluation.captioned import Shown, hero
from captioning.system.errors import UserError
from captioning.vision import contact_sheets, fonts
from captioning.vision.contact_sheets import grid, wrap
from captioning.vision.fonts import Lettering
from tests.properties import examples

LETTERS = "öéñßçåłžéאعनक狗"


@pytest.fixture(autouse=True)
def no_other_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fonts of every machine: those that the project brings."""
    monkeypatch.delenv(fonts.VARIABLE, raising=False)
    monkeypatch.setattr(fonts, "_PACKAGES", ())
    fonts._faces.cache_clear()


def sheet(text: str) -> Image.Image:
    return grid([Image.new("RGB", (8, 8), "white")], [text], 1)


def line(text: str) -> np.ndarray:
    """The ink of a line of text, without the empty columns and rows around it."""
    image = Image.new("L", (1200, 60))
    Lettering(20).write(ImageDraw.Draw(image), (2, 2), text, (255,))
    drawn: np.ndarray = np.asarray(image.crop(image.getbbox()))
    return drawn


def box(letter: str) -> bytes:
    """What Pillow's font draws for a letter that it has not: a sheet as it was before there were other fonts."""
    image = sheet("")
    pen = ImageDraw.Draw(image)
    place = (contact_sheets.MARGIN, contact_sheets.MARGIN + contact_sheets.TILE + 8)
    pen.text(place, letter, fill=contact_sheets.INK, font=ImageFont.load_default(20))
    return image.tobytes()


def test_every_letter_is_drawn_unlike_the_box_of_a_missing_glyph_and_unlike_the_others() -> None:
    drawn = {letter: sheet(letter).tobytes() for letter in LETTERS}
    assert [letter for letter in LETTERS if drawn[letter] in (box(letter), box("\uffff"), sheet("").tobytes())] == []
    assert len(set(drawn.values())) == len(set(LETTERS))
    heroes = {letter: hero([Shown(Image.new("RGB", (8, 8)), letter, letter)]).tobytes() for letter in LETTERS}
    assert len(set(heroes.values())) == len(set(LETTERS))


@pytest.mark.parametrize("text", ["狗", "ไ", "\uffff", "𠮷"])
def test_a_letter_that_no_font_has_is_named(text: str) -> None:
    assert np.array_equal(line(f"a {text}"), line(f"a [U+{ord(text):04X}]"))


def test_how_to_get_a_font_is_printed_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fonts, "_advised", set())
    fonts._number.cache_clear()
    with caplog.at_level(logging.WARNING):
        sheet("一只狗")
    [message] = caplog.messages
    assert message.startswith("no font has the letter U+4E00 of a caption")
    assert message.endswith("name a font file in CAPTIONING_FONT, or install captioning[fonts]")


def test_ascii_and_what_pillows_font_has_are_drawn_as_before() -> None:
    for text in ("a girl's [dog]; 50 % <unk> ~", "", "it’s “red”…"):
        image = sheet("")
        lines = wrap(text, Lettering(20), contact_sheets.TILE)
        assert lines == [text]
        place = (contact_sheets.MARGIN, contact_sheets.MARGIN + contact_sheets.TILE + 8)
        ImageDraw.Draw(image).text(place, text, fill=contact_sheets.INK, font=ImageFont.load_default(20))
        assert np.array_equal(np.asarray(sheet(text)), np.asarray(image))


def made_font(path: Path, letters: str) -> Path:
    """A font in which each letter is a square; the n-th has n notches of height."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):X}" for letter in letters})
    glyphs = {}
    for number, name in enumerate(names):
        pen = TTGlyphPen(None)
        for point, corner in enumerate([(100, 0), (100, 400 + 100 * number), (900, 400), (900, 0)]):
            (pen.lineTo if point else pen.moveTo)(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1400, descent=-100)
    builder.setupNameTable({"familyName": "Made", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1400, sTypoDescender=-100, usWinAscent=1400, usWinDescent=100)
    builder.setupPost()
    builder.save(path)
    return path


def test_a_font_of_ones_own_has_the_letters_that_others_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = line("狗猫")
    monkeypatch.setenv(fonts.VARIABLE, str(made_font(tmp_path / "own.ttf", "狗猫")))
    assert line("狗猫").shape[1] == pytest.approx(40, abs=6) != missing.shape[1]
    assert not np.array_equal(line("狗"), line("猫"))
    assert np.array_equal(line("a dog"), line("a dog"))
    mixed, parts = line("dog 狗 пёс"), [line(text).shape[1] for text in ("dog", "狗", "пёс")]
    assert mixed.shape[1] == pytest.approx(sum(parts) + 12, abs=12)


@pytest.mark.parametrize("content", [None, b"", b"no font"])
def test_a_file_that_is_no_font_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "own.ttf"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(fonts.VARIABLE, str(path))
    with pytest.raises(
        UserError, match=r"^CAPTIONING_FONT: .*own\.ttf is no font \(.*\); name a TTF, OTF or TTC file$"
    ):
        sheet("é")
    with pytest.raises(UserError):
        fonts.named(str(path))


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow finds no FriBiDi")
def test_hebrew_runs_from_right_to_left() -> None:
    aleph, dash = line("א"), line("—")
    both = line("א—")
    assert np.array_equal(both[:, -aleph.shape[1] :].max(0) > 0, aleph.max(0) > 0)
    assert dash.shape[1] + aleph.shape[1] <= both.shape[1]


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow finds no FriBiDi")
def test_parts_in_several_fonts_run_from_right_to_left_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fonts.VARIABLE, str(made_font(tmp_path / "own.ttf", "狗")))
    runs = Lettering(20)._runs("אב 狗")
    assert runs[0][1] == "狗"
    assert Lettering(20)._runs("狗 אב")[0][1] == "狗"


def test_one_spelling_is_drawn_as_the_other() -> None:
    assert np.array_equal(line("é"), line("e\u0301"))
    assert np.array_equal(line("né\u200b\u2060e\ufe0f"), line("née"))


@given(st.text(alphabet=st.one_of(st.sampled_from(LETTERS + "ก ั้กe\u0301"), st.characters(codec="utf-8")), max_size=12))
@examples(50)
def test_lines_fit_and_lose_nothing(text: str) -> None:
    lettering = Lettering(20)
    lines = wrap(text, lettering, 240)
    assert "".join(lines).replace(" ", "") == "".join(text.split())
    assert all(lettering.getlength(part) <= 240 for part in lines)
