"""Text and JSON of files from outside."""

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from captioning.system.errors import UserError

REMEDY = "fix the file, or download the published one again"
_T = TypeVar("_T")


def decode_text(data: bytes, location: str) -> str:
    """UTF-8, with or without a byte order mark. Raises UserError with `place` and the line of what is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = fault.object.count(b"\n", 0, fault.start) + 1
        raise UserError(f"{location}, line {line}: not UTF-8; save it as UTF-8") from fault


def parse_json(data: bytes, location: str, shape: TypeAdapter[_T]) -> _T:
    """JSON of a known shape; keys that the shape does not name are never built.

    Raises UserError, with `place` and the line or the path of the first fault, when it is not that.
    """
    try:
        return shape.validate_json(decode_text(data, location), strict=True)
    except ValidationError as invalid:
        fault = invalid.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in fault["loc"])
        message = " ".join(fault["msg"].split())
        raise UserError(f"{location}{f', {path}' if path else ''}: {message}; {REMEDY}") from None
