"""Revisions in memory, for tests of the report: images, captions, curves and what a dvc.lock records of them."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import BinaryIO

import yaml
from PIL import Image

from captioning.experiments import compare
from captioning.experiments.compare import Comparison
from captioning.experiments.report import content, gallery, objects
from captioning.experiments.revisions import Revision

PEOPLE = ["A dog runs on the red grass.", "The big dog is running over grass <b>fast</b>!"]
SAID = ["a dog runs on the grass", "a cat sits", "the dog is running on grass", "a bird flies over water"]
HOSTILE = "</script><script>document.title='harmed'</script><img src=x onerror=document.title='harmed'>"


@dataclass(frozen=True)
class Kept(Revision):
    """A revision whose files are in memory."""

    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def commit(self) -> tuple[str, str] | None:  # type: ignore[override]
        return "0" * 7, "2026-11-28"

    def read(self, path: str) -> bytes:
        return self.files[path]

    def tracked(self, path: str) -> bytes | None:
        return self.files.get(path)

    def names(self, folder: str) -> list[str]:
        return sorted(name for name in self.files if name.startswith(f"{folder}/"))

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.files[path])


def image(k: int, size: tuple[int, int] = (320, 240)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, ((k * 37) % 256, (k * 91) % 256, 150)).save(stream, "PNG")
    return stream.getvalue()


def archive(images: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for k in range(1, images + 1):
            made.writestr(f"{k:04}.png", image(k))
    return stream.getvalue()


def revision(name: str, captions: list[str], data: bytes, *, looked: bool = False, **params: object) -> Kept:
    """A revision that said `captions`, one an image of the archive `data`."""
    ids = range(1, len(captions) + 1)
    references = {
        "images": [{"id": k, "file_name": f"photos.zip/{k:04}.png"} for k in ids],
        "annotations": [
            {"id": 10 * k + j, "image_id": k, "caption": f"a zebra, alone {k}" if k == 1 else text}
            for k in ids
            for j, text in enumerate(PEOPLE)
        ],
    }
    lock = {"stages": {"train": {"deps": [], "params": {"params.yaml": {"seed": 1, **params}}}}}
    loss = b"step\tcaption\n0\t3.5\n1\t2.25\n2\t1.5\n"
    files = {
        compare.REFERENCES: json.dumps(references).encode(),
        compare.CAPTIONS: json.dumps([{"image_id": k, "caption": captions[k - 1]} for k in ids]).encode(),
        compare.BASELINES: json.dumps({"floor": {"bleu_1": 0.1234, "cider": 0.25}}).encode(),
        compare.PER_IMAGE: "\n".join(["image_id,coco_id", *(f"img{k},{k}" for k in ids)]).encode(),
        "dvc.lock": yaml.safe_dump(lock).encode(),
        f"{gallery.DATA}/photos.zip": data,
        f"{content.CURVES}/train/loss/caption.tsv": loss,
        f"{content.CURVES}/val/loss/caption.tsv": loss.replace(b"1.5", b"nan"),
        f"{content.CURVES}/val/cider.tsv": b"step\tcider\n0\t0.5\n1\t0.75\n2\t0.875\n",
    }
    if looked:
        index = {"pictures": [{"file": "best-01-img3.png", "image_id": "img3", "words": ["a"]}]}
        files[f"{gallery.ATTENTION}/index.json"] = json.dumps(index).encode()
        files[f"{gallery.ATTENTION}/best-01-img3.png"] = image(3, (1200, 300))
        found = [{"class": name, "rect": [40, 30, 200, 150]} for name in ("dog", "<b>", "dog")]
        files[objects.SIZES] = b"".join(b'img%d\t[{"height": 300, "width": 400}]\n' % k for k in ids)
        files[objects.LABELS] = b"".join(f"img{k}\t{json.dumps(found if k == 3 else [])}\n".encode() for k in ids)
    return Kept(name, "0" * 40, files=files)


def comparison(images: int, others: int = 1) -> Comparison:
    """`base` and others that differ on every third image; `base` attends; image 2 has a hostile caption."""
    data = archive(images)
    said = [SAID[k % 2] for k in range(images)]
    said[1] = HOSTILE
    base = revision("base", said, data, looked=True, encoder="resnet18")
    changed = [SAID[2 + k % 2] if k % 3 == 0 else text for k, text in enumerate(said)]
    rest = [revision(f"other{n}", changed, data, encoder=f"resnet{n}", note="<i>") for n in range(1, others + 1)]
    return compare.compare([compare.read(one) for one in [base, *rest]], draws=200)
