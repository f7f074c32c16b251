"""The captions of one split as ids, in one file."""

import zipfile
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import reason
from captioning.system.files import atomic
from captioning.system.sealed import DamagedError

_FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, RuntimeError)


@dataclass(frozen=True)
class EncodedCaptions:
    """The captions of one split as ids, in one flat array.

    tokens: int32 (sum of lengths,), each caption as `<bos> ids <eos>` (a cut one without `<eos>`).
    offsets: int64 (N + 1,), caption i is tokens[offsets[i]:offsets[i + 1]].
    image: int32 (N,), the row of the caption's image in images.csv.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    image: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 (N,): ids a caption, `<bos>` and `<eos>` included."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.image)

    def caption(self, index: int) -> np.ndarray:
        """The ids of caption `index`."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def target_counts(self, size: int) -> np.ndarray:
        """int64 (size,): how often each id of a vocabulary of `size` follows another one in these captions."""
        follows = np.ones(len(self.tokens), dtype=bool)
        follows[self.offsets[:-1]] = False
        return np.bincount(self.tokens[follows], minlength=size)

    @classmethod
    def encode(
        cls, captions: Iterable[Sequence[str]], image: Sequence[int], vocabulary: Vocabulary, max_words: int
    ) -> "EncodedCaptions":
        """Encode tokenised captions. One longer than `max_words` is cut there, and has no `<eos>`."""
        special = vocabulary.special
        tokens, offsets = array("i"), array("q", [0])
        for words in captions:
            tokens.append(special.bos)
            tokens.extend(vocabulary.encode(words[:max_words]))
            if len(words) <= max_words:
                tokens.append(special.eos)
            offsets.append(len(tokens))
        return cls(np.array(tokens, np.int32), np.array(offsets, np.int64), np.asarray(image, dtype=np.int32))

    def write(self, path: Path) -> None:
        """Write an `.npz` file; the same captions give the same bytes."""
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, tokens=self.tokens, offsets=self.offsets, image=self.image)

    @classmethod
    def read(cls, path: Path) -> "EncodedCaptions":
        """Read what `write` wrote. Raises DamagedError when that is damaged: each array has a checksum."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return cls(arrays["tokens"], arrays["offsets"], arrays["image"])
        except _FAULTS as fault:
            raise DamagedError(f"{path}: missing or damaged ({reason(fault)}); run `dvc repro -f split`") from None
