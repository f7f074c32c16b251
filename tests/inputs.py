"""Damaged inputs, a hundred thousand if one likes: of each kind of file that is read, and what became of each.

`python -m tests.inputs --count 100000 --seed 1` prints, for each family, how many were read and how many refused, and
every input that went wrong:

- traceback: an exception that is no UserError, or a message of several lines, beyond 300 characters, or unprintable
- hang: more than five seconds
- accepted wrongly: a file with a digest, or a checksum, that is read as something else than was written
"""

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from captioning.captioner import cards
from captioning.data.datasets import annotations, karpathy, tables, tokens
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import Vocabulary
from captioning.experiments import suites
from captioning.settings.resolve import load
from captioning.system import sealed
from captioning.system.archives import Archive, write_zip
from captioning.system.documents import decode_text, parse_json
from captioning.system.errors import UserError, printed
from captioning.system.packing import members, pack
from captioning.vision.images import decode
from tests import input_families
from tests.damaged_bytes import Family, damage, retyped, written
from tests.imports import ROOT
from tests.test_coco import document
from tests.test_karpathy import FLICKR_RECORDS
from tests.test_packing import IMAGES, as_tar, as_zip

SLOW_S = 5.0


def _table(path: Path) -> bytes:
    """The table as it is at the path; its digest is that of the whole one."""
    path.with_suffix(".sha256").write_text(_TABLE_DIGEST.replace("a.csv", path.name))
    sealed.check_table(path, "again")
    return path.read_bytes()


def _arrays(path: Path) -> list[list[int]]:
    read = EncodedCaptions.read(path)
    return [array.tolist() for array in (read.tokens, read.offsets, read.image)]


def _archive(path: Path) -> dict[str, bytes]:
    with Archive(path) as archive:
        return {name: archive.read(name) for name in archive.names()}


def _packed(path: Path) -> None:
    pack(path, path.with_name("packed.zip"), members(path))


def _tokens(path: Path) -> list[list[str]]:
    captions = tokens.parse_captions(decode_text(path.read_bytes(), str(path)), str(path))
    return [tokenize(caption) for several in captions.values() for caption in several]


def _settings(path: Path) -> None:
    load(path)


_CSV = "image_id,file\n1,a.jpg\n2,b.jpg\n"
_TABLE_DIGEST = written(lambda path: sealed.write_table(path.with_suffix(".csv"), _CSV), "a.sha256").decode()
_CARD = cards.Card("resnet18", "lstm", {}, {}, {}, {"portable": True, "threads": 1}, {}, {})
_FILES = dict.fromkeys(cards.FILES, "0" * 64)


def _image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


def families() -> list[Family]:
    """The kinds of files that come from outside, that a person edits, and that the project wrote itself."""
    captions = EncodedCaptions(np.arange(9, dtype=np.int32), np.array([0, 4, 9]), np.array([1, 0], np.int32))
    card = sealed.sealed({"format": cards.FORMAT, **vars(_CARD), "files": _FILES})
    table = 'file,caption,split\na.jpg,A dog runs.,train\nsea/b.jpg,"Two, or three",val\n'
    lines = "".join(json.dumps({"file": f"{n}.jpg", "caption": "A dog é"}) + "\n" for n in range(3))
    coco = json.dumps(document((9, 25), "%012d.jpg")).encode()
    flickr = json.dumps({"images": FLICKR_RECORDS, "dataset": "flickr8k"}).encode()
    return [
        Family("params.yaml", (ROOT / "params.yaml").read_bytes(), _settings),
        Family("model.json", json.dumps(card, indent=1).encode(), lambda path: cards.read(path.parent), exact=True),
        Family("checkpoint", written(lambda path: sealed.write_binary(path, b"weights" * 40)), _binary, exact=True),
        Family("own table with a digest", _CSV.encode(), _table, exact=True),
        Family("own document", written(_write_document), _document, exact=True),
        Family("captions as ids", written(captions.write), _arrays, exact=True),
        Family("caption table, CSV", table.encode(), tables_of("a.csv")),
        Family("caption table, JSON lines", lines.encode(), tables_of("a.jsonl")),
        Family("token file", b"a.jpg#0\tA dog .\na.jpg#1\tA cat .\nb.jpg#0\tTwo \xe7\x8b\x97 .\n", _tokens),
        Family("COCO document", coco, lambda path: parse_json(path.read_bytes(), "a", annotations._SHAPE)),
        Family("Karpathy document", flickr, lambda path: karpathy.read(path, path.name)),
        Family("zip archive", written(lambda path: write_zip(path, IMAGES.items())), _archive),
        Family("zip file to pack", written(as_zip), _packed),
        Family("tar file to pack", written(as_tar, "a.tar.gz"), _packed),
        Family("JPEG", _image("JPEG"), lambda path: decode(path.read_bytes(), "a").size),
        Family("PNG", _image("PNG"), lambda path: decode(path.read_bytes(), "a").size),
        Family("vocabulary", b"<pad>\n<bos>\n<eos>\n<unk>\na\ndog\n", lambda path: Vocabulary.read(path).words),
        Family("suite", yaml.safe_dump({"question": "q?", "runs": {"a": {"seed": 2}}}).encode(), _suite),
        *input_families.families(),
    ]


def tables_of(name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        return tables.read(path.rename(path.with_name(name)))

    return read


def _binary(path: Path) -> bytes:
    return bytes(sealed.read_binary(path))


def _write_document(path: Path) -> None:
    sealed.write_document(path, {"ids": ["a", "é"], "rows": 3, "loss": 0.25})


def _document(path: Path) -> Any:
    return sealed.read_document(path, "again")


def _suite(path: Path) -> Any:
    (path.parent / "experiments").mkdir()
    path.rename(path.parent / "experiments/suite.yaml")
    with contextlib.chdir(path.parent):
        return suites.load("suite", ROOT / "params.yaml")


NAMES = {
    "model.json": "model.json",
    "Karpathy document": "dataset_flickr8k.json",
    "tar file to pack": "a.tar.gz",
    **input_families.NAMES,
}


def outcome(family: Family, data: bytes, expected: Any, folder: Path) -> str:
    """read, refused, or what went wrong."""
    path = folder / NAMES.get(family.name, "a.bin")
    path.write_bytes(data)
    begin = time.perf_counter()
    try:
        found = family.read(path)
    except UserError as fault:
        lines = printed(fault).splitlines()
        good = all(line.isprintable() and len(line) <= 300 for line in lines) and 0 < len(lines) < 200
        result = "refused" if good else f"traceback: the message {str(fault)[:300]!r}"
    except Exception:
        result = f"traceback: {traceback.format_exc()[-700:]}"
    else:
        same = not family.exact or found == expected
        result = "read" if same else f"accepted wrongly: {str(found)[:200]}"
    return result if time.perf_counter() - begin < SLOW_S else "hang"


def run(count: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """So many inputs, spread over the families → outcomes by family, and a line for each that went wrong."""
    draw, counts, wrong = random.Random(seed), {}, []
    kinds = families()
    for number, family in enumerate(kinds):
        counted: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / NAMES.get(family.name, "a.bin")
            path.write_bytes(family.whole)
            expected = family.read(path)
        for _ in range(count // len(kinds) + (number < count % len(kinds))):
            data = _drawn(family.whole, draw)
            with tempfile.TemporaryDirectory() as folder:
                result = outcome(family, data, expected, Path(folder))
            counted[result.partition(":")[0]] += 1
            if result not in ("read", "refused"):
                wrong.append(f"{family.name}: {data[:300]!r}: {result}")
        counts[family.name] = counted
    return counts, wrong


def _drawn(whole: bytes, draw: random.Random) -> bytes:
    """A damaged file; of a JSON document every third is whole JSON, with values of other types."""
    if whole[:1] in b"{[" and draw.random() < 1 / 3:
        with contextlib.suppress(ValueError):
            return retyped(whole, draw)
    return damage(whole, draw)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.inputs", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    counts, wrong = run(chosen.count, chosen.seed)
    print(*wrong[:20], sep="\n")
    columns = ("read", "refused", "traceback", "hang", "accepted wrongly")
    print("| family | inputs |", " | ".join(columns), "|")
    print("|---|---|" + "---|" * len(columns))
    for name, counted in counts.items():
        print(f"| {name} | {counted.total():,} |", " | ".join(f"{counted[column]:,}" for column in columns), "|")
    print(f"{chosen.count:,} inputs, seed {chosen.seed}: {len(wrong)} went wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
