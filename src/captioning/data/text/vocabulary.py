"""Words and ids: a text file, one word a line, counted on training captions only."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

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
    Nothing else knows these ids or this order: another kind of vocabulary has other ids in `special`, says in `begins`
    where a word begins, and in `ranks` how common a token is.
    """

    special = Special(*range(4))

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[: len(SPECIAL)]) != SPECIAL or len(set(words)) != len(words):
            raise UserError(f"a vocabulary starts with {' '.join(SPECIAL)} and has no word twice")
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(words) if index >= len(SPECIAL)}

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
        """Read a vocabulary file. Raises UserError when it is missing or malformed."""
        try:
            return cls(path.read_bytes().decode().removesuffix("\n").split("\n"))
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
        for position, index in enumerate(ids):
            if index == self.special.eos:
                break
            if index in (self.special.bos, self.special.pad):
                continue
            if spans and not self.begins(index):
                word, places = spans.pop()
                spans.append((word + self.text(index), [*places, position]))
            else:
                spans.append((self.text(index), [position]))
        return spans

    def text(self, index: int) -> str:
        """What a token adds to a caption."""
        return self.words[index]

    def begins(self, index: int) -> bool:  # noqa: ARG002 (of a vocabulary of words every token is one)
        """Whether a token begins a word; one that does not is joined to the token before it."""
        return True

    def ranks(self, ids: np.ndarray) -> np.ndarray:
        """Ids of words (N,) → their ranks by frequency in the training captions, 1 for the commonest: (N,)."""
        return ids - self.special.unk

    def __len__(self) -> int:
        return len(self.words)

    def text_file(self) -> str:
        """The text of the file: one word a line."""
        return "".join(f"{word}\n" for word in self.words)
