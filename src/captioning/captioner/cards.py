"""model.json: what rebuilds a trained model, and the digests of all files of its folder, its own among them.

format      2: sealed, that is with its own digest; 1: of older versions, without
files       name → sha256 of each file beside it
the rest    the fields of `Card`
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from captioning.data.objects.tables import PREDICTED, shown_identity
from captioning.system.errors import UserError
from captioning.system.files import digest, read_json
from captioning.system.sealed import is_sealed, write_document

NAME = "model.json"
FORMAT = 2
FILES = ("encoder.safetensors", "decoder.safetensors", "vocab.txt")
STATISTICS = "statistics.safetensors"
CONFIDENCE = "confidence.json"
DETECTOR = ("detector.json", "detector.safetensors")  # of the objects that a model reads
BESIDE = ("words.json", "words.safetensors", "retrieval.json", "retrieval.safetensors")  # what is read beside it
_OPTIONAL = (
    STATISTICS,
    CONFIDENCE,
    *DETECTOR,
    *BESIDE,
    "features.safetensors",
)  # the last one in models of older versions
_RESTORE = "restore the folder (`dvc checkout`, or train it again)"


@dataclass(frozen=True)
class Card:
    """What model.json records besides the digests: enough to rebuild the networks and to trust them.

    encoder: as in `families`. decoder: name in `decoders`. decoder_options: its sizes.
    transform: how an image becomes pixels. settings: every resolved setting of the
    training. compute: instruction set, threads. provenance: digests of weights and features. scores:
    the validation scores of the selected epoch.
    """

    encoder: str
    decoder: str
    decoder_options: dict[str, Any]
    transform: dict[str, Any]
    settings: dict[str, Any]
    compute: dict[str, Any]
    provenance: dict[str, Any]
    scores: dict[str, Any]

    @property
    def objects(self) -> dict[str, str]:
        """What kind of objects the decoder reads, as `tables.identity` has it; empty for none."""
        return dict(self.provenance.get("objects", {}))

    @property
    def placed_objects(self) -> dict[str, str]:
        """The same where they have boxes, whose vectors the decoder reads; empty for words, and for neighbours."""
        return {} if self.objects in PREDICTED else self.objects

    @property
    def vector_width(self) -> int | None:
        """D of vectors that no encoder here makes; None: the decoder reads the output of the encoder."""
        return self.provenance.get("vector_width")

    @property
    def reads(self) -> str:
        """What makes the vectors that the decoder reads: the encoder, by name, or a source of objects, in words."""
        return self.encoder if self.vector_width is None else shown_identity(self.objects)


class Record(NamedTuple):
    """A card, and the digest of each file that the folder must have."""

    card: Card
    files: dict[str, str]

    @property
    def portable(self) -> bool:
        """`compute.portable` of the training."""
        return bool(self.card.compute["portable"])

    @property
    def threads(self) -> int:
        """`compute.threads` of the training."""
        return int(self.card.compute["threads"])


class _Arithmetic(TypedDict):
    portable: bool
    threads: Annotated[int, Field(ge=1)]


class _Objects(TypedDict):
    kind: str
    source: str
    weights: NotRequired[str]
    vectors: NotRequired[str]


class _Origin(TypedDict):
    objects: NotRequired[_Objects]
    vector_width: NotRequired[Annotated[int, Field(ge=1, le=1 << 20)]]


class _Data(TypedDict):
    dataset: NotRequired[str]


_Scores = TypedDict("_Scores", {"val/cider": NotRequired[float]})


class _Read(TypedDict):
    """What of a card is read before the networks are built."""

    compute: _Arithmetic
    settings: _Data
    scores: _Scores
    provenance: _Origin


_CARD, _READ, _DIGESTS = TypeAdapter(Card), TypeAdapter(_Read), TypeAdapter(dict[str, str])
_FIELDS = tuple(Card.__dataclass_fields__)


def write(folder: Path, card: Card, names: tuple[str, ...]) -> None:
    """Write model.json for the files of these names, which are in `folder`."""
    files = {name: digest(folder / name) for name in names}
    write_document(folder / NAME, {"format": FORMAT, **asdict(card), "files": files})


def read(folder: Path) -> Record:
    """The record of a model folder. Raises UserError as `parse` does, and when there is none."""
    return parse(read_json(folder / NAME), folder / NAME)


def parse(value: Any, path: Path | str) -> Record:
    """What a model.json says. path: how it is named in messages.

    Raises UserError when it is of a newer version, damaged, or does not name the files that a model has.
    """
    version = value.get("format") if isinstance(value, dict) else None
    version = version if type(version) is int else 0
    if version > FORMAT:
        raise UserError(f"{path}: format {version}, made by a newer version of captioning; update this one")
    if version not in (1, FORMAT) or (version == FORMAT and not is_sealed(value)):
        raise UserError(f"{path}: damaged, or not the card of a model; {_RESTORE}")
    try:
        card = _CARD.validate_python({name: value.get(name) for name in _FIELDS})
        _READ.validate_python(vars(card), strict=True)
        record = Record(card, _DIGESTS.validate_python(value.get("sha256" if version == 1 else "files")))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "digests"
        raise UserError(f"{path}: damaged ({where}: {first['msg']}); {_RESTORE}") from None
    unknown = sorted(record.files.keys() - {*FILES, *_OPTIONAL})
    lacking = [name for name in FILES if name not in record.files]
    if unknown or lacking:
        raise UserError(f"{path}: damaged: no digest of {lacking[0] if lacking else 'a model file'}; {_RESTORE}")
    return record


def check_files(folder: Path, record: Record) -> None:
    """Raise UserError unless every file of the record is in `folder`, as it was written."""
    for name, expected in record.files.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file; the model folder is not whole (try `dvc pull`)")
        if digest(folder / name) != expected:
            raise UserError(f"{folder / name}: not the file that model.json describes; {_RESTORE}")
