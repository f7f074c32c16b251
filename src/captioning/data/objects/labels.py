"""What is in images, and where: `label.tsv` in the published layout, the sizes of images beside it, `predictions.tsv`.

    label.tsv               key TAB [{"class": "dog", "conf": 0.9, "rect": [x1, y1, x2, y2]}, …]
    hw.tsv                  key TAB [{"height": 480, "width": 640}]
    predictions.tsv         key TAB {"objects": [{"class", "conf", "rect", "feature": base64, …}, …], …}

Boxes are in pixels of the image, from its top left corner. Objects come best first.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypeVar

from pydantic import Field, FiniteFloat, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from captioning.data.objects.rows import Row, Table, write
from captioning.system.documents import REMEDY
from captioning.system.errors import UserError, shown
from captioning.vision.images import Box

MOST = 1000  # objects of an image: the published files have at most 100
_T = TypeVar("_T")
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Rect = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
_Side = Annotated[int, Field(ge=1, le=1_000_000)]


Sizes = Mapping[str, tuple[int, int]]
"""Image id → width and height in pixels, upright."""


class Found(NamedTuple):
    """An object: its name, how sure it is (0 to 1), and its box in pixels."""

    name: str
    score: float
    box: Box

    def record(self) -> dict[str, object]:
        """The object as label.tsv has it: scores to four digits, boxes to a tenth of a pixel."""
        return {"class": self.name, "conf": round(self.score, 4), "rect": [round(side, 1) for side in self.box]}


_Object = TypedDict("_Object", {"class": _Name, "conf": NotRequired[_Share], "rect": _Rect})
_Predicted = TypedDict("_Predicted", {"class": _Name, "conf": _Share, "rect": _Rect, "feature": NotRequired[str]})


class _Size(TypedDict):
    height: _Side
    width: _Side


class _Prediction(TypedDict):
    objects: Annotated[list[_Predicted], Field(max_length=MOST)]


_LABELS = TypeAdapter(Annotated[list[_Object], Field(max_length=MOST)])
_PREDICTION = TypeAdapter(_Prediction)
_SIZES = TypeAdapter(Annotated[list[_Size], Field(min_length=1, max_length=1)])


class Predicted(NamedTuple):
    """What predictions.tsv says of an image: objects, and the base64 of each one's vector where it has one."""

    objects: list[Found]
    vectors: list[str | None]


def parse_row(row: Row, shape: TypeAdapter[_T]) -> _T:
    """The JSON of a row's only column. Raises UserError with file and line, and the path of the first fault."""
    if len(row.columns) != 1:
        raise UserError(f"{row.location}: {len(row.columns) + 1} columns, not a key and a column; {REMEDY}")
    try:
        return shape.validate_json(row.columns[0], strict=True)
    except ValidationError as invalid:
        fault = invalid.errors(include_url=False, include_input=False)[0]
        path = "".join(f" {shown(part)}" for part in fault["loc"])
        raise UserError(f"{row.location}{f',{path}' if path else ''}: {fault['msg']}; {REMEDY}") from None


def read_labels(path: Path) -> dict[str, list[Found]]:
    """Key → objects of a label.tsv, or of a predictions.tsv, best first; `conf` may be missing of a true object.

    Raises UserError with file and line of what is malformed: also of a box whose right or lower side is not beyond its
    left or upper one.
    """
    return {row.key: read_objects(row) for row in Table(path)}


def read_rows(path: Path) -> dict[str, list[Found]]:
    """As `read_labels`, but objects are in the order of the file."""
    return {row.key: _objects(row) for row in Table(path)}


def read_objects(row: Row) -> list[Found]:
    """The objects of a row, of either file, best first. Raises UserError as `read_labels` does."""
    return _sorted(_objects(row))


def _objects(row: Row) -> list[Found]:
    if row.columns[0].lstrip().startswith("{"):
        return read_prediction(row).objects
    return [_found(item, row.location) for item in parse_row(row, _LABELS)]


def read_prediction(row: Row) -> Predicted:
    """A row of predictions.tsv, in the order of the file. Raises UserError as `read_labels` does."""
    items = parse_row(row, _PREDICTION)["objects"]
    return Predicted([_found(item, row.location) for item in items], [item.get("feature") for item in items])


def _found(item: "_Object | _Predicted", location: str) -> Found:
    name, box = item["class"], item["rect"]
    if not name.isprintable():
        raise UserError(f"{location}: the class {shown(name)} has a control character in it; {REMEDY}")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise UserError(f"{location}: the rect {list(box)} of {name} is empty; write [x1, y1, x2, y2]")
    return Found(name, item.get("conf", 1.0), box)


def _sorted(objects: list[Found]) -> list[Found]:
    return sorted(objects, key=lambda one: -one.score)  # stable: equals stay in the file's order


def write_labels(path: Path, objects: Mapping[str, Iterable[Found]]) -> None:
    """Write a label.tsv, best first, with rects to a tenth of a pixel and scores to four digits; and its index."""
    write(path, ((key, json.dumps([one.record() for one in _sorted(list(of))])) for key, of in objects.items()))


def write_predictions(path: Path, predictions: Iterable[tuple[str, Predicted]]) -> None:
    """Write a predictions.tsv, and its index."""
    write(path, ((key, json.dumps({"objects": _records(one), "relations": None})) for key, one in predictions))


def _records(predicted: Predicted) -> list[dict[str, object]]:
    pairs = enumerate(zip(predicted.objects, predicted.vectors, strict=True))
    return [
        {**one.record(), "bbox_id": number} | ({} if vector is None else {"feature": vector})
        for number, (one, vector) in pairs
    ]


def read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Key → width and height of an hw.tsv. Raises UserError with file and line."""
    sizes = {row.key: parse_row(row, _SIZES)[0] for row in Table(path)}
    return {key: (size["width"], size["height"]) for key, size in sizes.items()}


def write_sizes(path: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Write an hw.tsv of widths and heights, and its index."""
    write(path, ((key, json.dumps([{"height": height, "width": width}])) for key, (width, height) in sizes.items()))
