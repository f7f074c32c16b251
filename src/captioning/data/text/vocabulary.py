"""Words and ids: a text file, one word a line, counted on training captions only."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioning.system.errors import UserError
from captioning.system.files import write_text

PAD, BOS, EOS, UNK = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


class Vocabulary:
    """An ordered list of words. The id of a word is its line in the file, counted from zero.

    The first four are `<pad>`, `<bos>`, `<eos>` and `<unk>`, in this order.
    """

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
        kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL]
        return cls((*SPECIAL, *sorted(kept, key=lambda word: (-counts[word], word))))

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary file. Raises UserError when it is missing or malformed."""
        try:
            return cls(path.read_text(encoding="utf-8").splitlines())
        except FileNotFoundError:
            raise UserError(f"{path}: no such vocabulary") from None
        except UserError as fault:
            raise UserError(f"{path}: {fault}") from None

    def write(self, path: Path) -> None:
        """Write one word a line."""
        write_text(path, self._text())

    @property
    def sha256(self) -> str:
        """The digest of the file that `write` makes; a model stores it and checks it."""
        return hashlib.sha256(self._text().encode("utf-8")).hexdigest()

    def encode(self, words: Iterable[str]) -> list[int]:
        """Words to ids; a word that is not in the vocabulary is `<unk>`."""
        return [self._ids.get(word, UNK) for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to a caption: the words before the first `<eos>`, without `<bos>` and `<pad>`."""
        words = []
        for index in ids:
            if index == EOS:
                break
            if index not in (BOS, PAD):
                words.append(self.words[index])
        return " ".join(words)

    def __len__(self) -> int:
        return len(self.words)

    def _text(self) -> str:
        return "".join(f"{word}\n" for word in self.words)
