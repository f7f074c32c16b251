"""A caption's words, as coco-caption counts them: Penn Treebank tokens, lower-cased, without punctuation.

The reference is Stanford's PTBTokenizer as pycocoevalcap 1.2 runs it (CoreNLP 3.4.1, `-preserveLines -lowerCase`, then
a list of punctuation tokens removed). nltk's Treebank tokeniser does the splitting; the rewrites below are where
Stanford's differs from it. Two habits of the reference are kept because they are part of published scores: brackets
stay as `-lrb-`, `-rrb-` (the list names them in capitals, and they are lower-cased before), and so do runs like `!!`.

The reference is for English. In other languages words end at spaces, or are single letters where a script has none
(`captioning.system.scripts`). The same word is always spelt the same: composed (NFC), and without what nobody sees.
"""

import re
import string
import unicodedata
from functools import cache, lru_cache
from typing import Any

from captioning.system.scripts import control, set_apart, unseen, unspaced

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])  # as in pycocoevalcap

_HIDE = {ord(mark): chr(0xE000 + ord(mark)) for mark in string.punctuation}  # private characters that nltk leaves alone
_SHOW = {ord(hidden): chr(mark) for mark, hidden in _HIDE.items()}

_CHARACTERS = str.maketrans(
    dict.fromkeys("‘’‛", "'")
    | dict.fromkeys("“”«»", '"')
    | dict.fromkeys("`‹›\u200b…–—―‒", " ")
    | {mark: f" {mark} " for mark in "°¥×´′″−‚„¡¿=|~^*\\"}
    | {"£": " # ", "€": " $ ", "¢": " cents ", "¼": " 1/4 ", "½": " 1/2 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
)

# What stays one token: addresses, tags, hashtags, R&B, runs of ?!, brackets already written out, a few old spellings.
_WHOLE = re.compile(
    r"""(?:https?://|www\.)\S*\w | \b\w[\w.]*@\w[\w.]* | </?[a-zA-Z]+> | (?<!\S)[@#][a-zA-Z]\w* | [A-Z]+&[A-Z]+ | \bUS\$
    | [?!]{2,} | (?<!\S)-[lr][rcs]b-(?!\S) | (?<!\w)'n'(?!\w) | \b[yYjJ]'(?=\w) | \b[oO]l'""",
    re.VERBOSE,
)
_OPENING = r"(?<![\w'])'(?=\w)(?!(?:s|m|d|re|ve|ll|n|em|till?|cause|t(?:is|was)n?|\d\ds?)\b(?!'\w))"
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"-{2,}|\.{2,}", " "),
        (r"(?i)('s)-(?=\w)", r"\1 "),  # bird's-eye
        (r"(?i)(?<=\w)('d|'ll|n't)('ve)\b", r"\1 \2"),
        (rf"(?i){_OPENING}", " "),
        (r"(?<=\d)'(?=\d)", " "),  # 5'10"
        (r"(?<![\w-])-(?=[^\W\d])|(?<=\w)-(?![\w-])", " "),
        (r"(?<![^\W_])_(?!_)|(?<!_)_(?![^\W_])|(?<=\w)/(?![\w/])", r" \g<0> "),
        (r"(?<=[^\W\d])\+(?=\w)|(?<=\d)\+(?!\w)", " + "),
        (r"(?<!\S)\.(?=[^\W\d])", " "),
        (r"(?i)(?<=:\d\d)(?=[ap]\.?m\b)", " "),  # 7:30pm
    )
]

_INSIDE = "\u055a\u055b\u055c\u055e\u055f\u180a"  # marks of Armenian and Mongolian that stand inside words
_KEPT = re.compile(  # punctuation that is left to the reference's rules, or is part of words: Hebrew's, Arabic decimals
    "[\0-\u02ff\u05f3\u05f4\u066b\u066c\u2000-\u2024\u2026-\u203a\u203d-\u2046\u204a-\u206f]"
)
_WIDE = re.compile("[\u3000-\u303f\ufe50-\ufe6f\uff00-\uffef]")  # forms of East Asian typography
_MATHEMATICAL = re.compile("[\U0001d400-\U0001d7ff]")

_CONTRACTIONS = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))
_ABBREVIATIONS = """
    adj adm adv al ala alex apr ariz assn atty attys aug ave b bldg blvd bros c calif capt cf cmdr co col colo
    conn corp cos cpl ct d dak dec dept det dr drs e esq est etc ext f feb fla fri ft g ga gen gov govs h hon inc
    ind intl j jan jos jr jul jun k kan ky l lt ltd m maj mar md messrs mich minn mlle mme mo mon mont mr mrs ms
    mt n natl neb nev nov o oct okla p penn ph ph.d plc pres prof pvt q r rd rep reps rev rt s sen sens sep sept
    sgt sq sr st supt t tel tenn thu thurs tue tues u univ v va vs vt w wed wis wm wyo x y z
"""  # those that Stanford's tokeniser keeps together with their period
_KNOWN = frozenset(_ABBREVIATIONS.split())
_CAPITALISED = frozenset(("Ark", "Del", "Ill", "La", "Mass", "Miss", "Ore", "Pa", "Tex", "Wash"))
_ACRONYM = re.compile(r"[^\W\d_](?:\.[^\W\d_])+")
_PERIOD = re.compile(r"([\w.'-]*)\.(?!\w)")
_NUMBERED = re.compile(r"\b([nN]os?)\.(?=\s+\d)")  # no. 7
_PLAIN = re.compile(r"([A-Za-z]+(?:-[A-Za-z]+)*)[.,]?")


def tokenize(caption: str) -> list[str]:
    """The words of one caption, lower-cased and without punctuation.

    Equal to Stanford's PTBTokenizer on all of Flickr8k's 40,460 captions; `tests/golden` has harder ones, and those on
    which the two differ.
    """
    plain = caption.isascii() and caption.isprintable()
    text = _NUMBERED.sub(rf"\1{_HIDE[ord('.')]}", caption if plain else _spelt(caption))
    return [word for piece in text.split() for word in _words(piece)]


def _spelt(caption: str) -> str:
    """A caption in the one spelling of its words, with blanks around letters of scripts without spaces."""
    composed = unicodedata.normalize("NFC", "".join(letter for letter in caption if not _dropped(letter)))
    return set_apart("".join(map(_letter, composed)))


@cache
def _dropped(letter: str) -> bool:
    return letter in _INSIDE or (unseen(letter) and letter != "\u200b")  # the zero-width space ends a word


@cache
def _letter(letter: str) -> str:
    """A character, or a blank for one that is no part of a word."""
    return " " if control(letter) or ord(letter) in _SHOW or _is_foreign_mark(letter) else letter


def _is_foreign_mark(letter: str) -> bool:
    """Whether a character is a mark that the reference does not know, such as the full stop of Chinese or Hindi.

    Outside the basic plane only letters and digits are kept: the reference drops emoji and mathematical letters.
    """
    kind = unicodedata.category(letter)
    if letter > "\uffff":
        known = kind[0] in "LM" or kind == "Nd"
        return not unspaced(letter) and (not known or bool(_MATHEMATICAL.match(letter)))
    return bool(_WIDE.match(letter)) if kind[0] == "S" else kind[0] == "P" and not _KEPT.match(letter)


@lru_cache(maxsize=1 << 16)
def _words(piece: str) -> tuple[str, ...]:
    """The words of what stands between two spaces. Few pieces are new, and few of those are more than a plain word."""
    if plain := _PLAIN.fullmatch(piece):
        word = plain[1].lower()
        abbreviation = word in _KNOWN or plain[1] in _CAPITALISED
        if not abbreviation and _CONTRACTIONS.isdisjoint(word.split("-")):
            return (word,)
    return _treebank(piece)


def _treebank(piece: str) -> tuple[str, ...]:
    """`_words` for any piece: plain words go the short way above, which gives the same."""
    text = _WHOLE.sub(lambda match: f" {match[0].translate(_HIDE)} ", piece.translate(_CHARACTERS))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _PERIOD.sub(_keep_or_drop, text)
    tokens = _nltk().tokenize(text, convert_parentheses=True)
    return tuple(word for token in tokens if (word := _lower(token.translate(_SHOW))) not in PUNCTUATION)


def _lower(word: str) -> str:
    return unicodedata.normalize("NFC", word.lower())  # what has no capital in one piece may have a small letter


def _keep_or_drop(match: re.Match[str]) -> str:
    """`dog.` is a word and a period; `etc.`, `u.s.` and `b.` are words."""
    stem: str = match[1]
    known = stem.lower() in _KNOWN or stem in _CAPITALISED or _ACRONYM.fullmatch(stem)
    return match[0].translate(_HIDE) if known else f"{stem} "


@cache
def _nltk() -> Any:
    """nltk's tokeniser, loaded when a caption first needs it: importing nltk takes half a second."""
    from nltk.tokenize.treebank import TreebankWordTokenizer

    return TreebankWordTokenizer()
