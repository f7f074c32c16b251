"""Words and ids, or word pieces and ids: a text file, one token a line, counted on training captions only."""

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioning.data.text import wordpieces
from captioning.system.errors import UserError, reason
from captioning.system.files import write_text
from captioning.system.scripts import join

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


class Special(NamedTuple):
    """The ids of a vocabulary's tokens that are no words."""

    pad: int
    bos: int
    eos: int
    unk: int

    @property
    def unsayable(self) -> list[int]:
        """The ids that no caption has, whatever probability a decoder gives them."""
        return [self.pad, self.bos, self.unk]


class Vocabulary:
    """An ordered list of words. The id of a word is its line in the file, counted from zero.

    The first four are `<pad>`, `<bos>`, `<eos>` and `<unk>`, in this order. Words are commonest first.
    Nothing else knows these ids or this order: another kind of vocabulary has other ids in `special`, says in
    `continuing` and `opening` where a word does not begin, and in `ranks` how common a token is.

    continuing: the ids that never begin a word, but go on with the word before them. opening: the ids whose word goes
    on with whatever is after them. There are none where every token is a word.
    """

    names = SPECIAL
    special = Special(*range(4))
    continuing: frozenset[int] = frozenset()
    opening: frozenset[int] = frozenset()

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[: len(self.names)]) != self.names or len(set(words)) != len(words):
            raise UserError(f"a vocabulary starts with {' '.join(self.names)} and has no word twice")
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(words) if index >= len(self.names)}

    @classmethod
    def count(cls, captions: Iterable[Sequence[str]], min_count: int) -> "Vocabulary":
        """Keep each word that occurs at least `min_count` times in tokenised captions, commonest first.

        A caption that says `<unk>`, or another of the first four, says a word that is not kept.
        """
        counts = Counter(word for caption in captions for word in caption)
        frequent = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL]
        return cls((*SPECIAL, *sorted(frequent, key=lambda word: (-counts[word], word))))

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary file, of either kind. Raises UserError when it is missing or malformed."""
        try:
            words = path.read_bytes().decode().removesuffix("\n").split("\n")
            return (Pieces if words[0] == Pieces.names[0] else Vocabulary)(words)
        except FileNotFoundError:
            raise UserError(f"{path}: no such vocabulary") from None
        except UnicodeDecodeError as fault:
            raise UserError(f"{path}: not UTF-8 text ({reason(fault)})") from None
        except UserError as fault:
            raise UserError(f"{path}: {fault}") from None

    def write(self, path: Path) -> None:
        """Write one word a line."""
        write_text(path, self.text_file())

    @property
    def sha256(self) -> str:
        """The digest of the file that `write` makes; a model stores it and checks it."""
        return hashlib.sha256(self.text_file().encode("utf-8")).hexdigest()

    def encode(self, words: Iterable[str]) -> list[int]:
        """Words to ids; a word that is not in the vocabulary is `<unk>`."""
        return [self._ids.get(word, self.special.unk) for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to a caption: the words before the first `<eos>`, without `<bos>` and `<pad>`, joined."""
        return join(word for word, _ in self.spans(ids))

    def spans(self, ids: Iterable[int]) -> list[tuple[str, list[int]]]:
        """Ids as in `decode` → the words of the caption, each with the places of its tokens in `ids`."""
        spans: list[tuple[str, list[int]]] = []
        before = self.special.bos
        for position, index in enumerate(ids):
            if index == self.special.eos:
                break
            if index in (self.special.bos, self.special.pad):
                continue
            if spans and not self.begins(index, before):
                word, places = spans.pop()
                spans.append((word + self.text(index), [*places, position]))
            else:
                spans.append((self.text(index), [position]))
            before = index
        return spans

    def text(self, index: int) -> str:
        """What a token adds to a caption."""
        return self.words[index]

    def begins(self, index: int, before: int) -> bool:
        """Whether a token begins a word; one that does not is joined to the token before it."""
        return index not in self.continuing and before not in self.opening

    def whole_words(self) -> list[str]:
        """The words that are one token, in the order of the vocabulary."""
        return [word for word, index in self._ids.items() if index not in self.continuing]

    def ranks(self, ids: np.ndarray) -> np.ndarray:
        """Ids of words (N,) → their ranks by frequency in the training captions, 1 for the commonest: (N,)."""
        return ids - self.special.unk

    def __len__(self) -> int:
        return len(self.words)

    def text_file(self) -> str:
        """The text of the file: one word a line."""
        return "".join(f"{word}\n" for word in self.words)


class Pieces(Vocabulary):
    """An ordered list of word pieces (`captioning.data.text.wordpieces`), commonest first.

    The first four have BERT's names, and the same ids as those of a vocabulary of words. A word of the training
    captions that pieces cannot spell, or would not give back, such as café, 's or u.s., is a token of its own: so
    `decode` gives back every training caption, and none has `[UNK]`.
    """

    names = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words)
        self._spelt: dict[str, list[int]] = {}
        joined = (word for word in self._ids if wordpieces.is_joined(word, before=""))
        self.continuing = frozenset(self._ids[word] for word in joined)
        self.opening = frozenset(self._ids[mark] for mark in wordpieces.MARKS if mark in self._ids)

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]], known: Container[str]) -> "Pieces":
        """Keep each of the known pieces that tokenised captions are spelt with, commonest first."""
        words, pieces = Counter(word for caption in captions for word in caption), Counter[str]()
        for word, count in words.items():
            spelt = wordpieces.spell(word, known)
            for piece in spelt if spelt and wordpieces.joins(word, spelt) else [word]:
                pieces[piece] += count
        return cls((*cls.names, *sorted(pieces, key=lambda piece: (-pieces[piece], piece))))

    @classmethod
    def count(cls, captions: Iterable[Sequence[str]], min_count: int) -> "Pieces":
        """Learn pieces from tokenised captions, and keep those that they are spelt with, commonest first."""
        captions = list(captions)
        counts = Counter(word for caption in captions for word in caption)
        return cls.of(captions, wordpieces.learn(counts, min_count))

    def encode(self, words: Iterable[str]) -> list[int]:
        """Words to the ids of their pieces; a word that these cannot spell is `[UNK]`."""
        return [index for word in words for index in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        if word not in self._spelt:
            alone = word in self._ids and not word.startswith(wordpieces.GOES_ON)
            spelt = [word] if alone else wordpieces.spell(word, self._ids)
            self._spelt[word] = [self._ids[piece] for piece in spelt] if spelt else [self.special.unk]
        return self._spelt[word]

    def text(self, index: int) -> str:
        """What a piece adds to a caption."""
        return wordpieces.text(self.words[index])
