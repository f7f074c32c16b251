"""Requests and answers: our own, Ollama's `/api/generate` and `/api/chat`, OpenAI's `/v1/chat/completions`.

Photo libraries speak the latter two. Their prompt is not read: a captioning model has one answer, its caption.
"""

import base64
import binascii
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from captioning.system.errors import UserError

if TYPE_CHECKING:
    from captioning.models.python import Captioned

_DATA_ADDRESS = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


class Request(BaseModel):
    """The body of `POST /v1/captions` as JSON: images in base64, and how to search."""

    model_config = ConfigDict(extra="forbid")

    images: list[str] = Field(min_length=1, description="images in base64, or as data: addresses")
    n_best: int = Field(1, ge=1, le=10, description="captions for each image, best first")
    must: list[str] = Field(default_factory=list, max_length=6, description="words or phrases of each caption")
    attention: bool = Field(False, description="also where the model looked at each word")


class OllamaRequest(BaseModel):
    """The body of Ollama's `/api/generate`; what is not listed is ignored."""

    model: str = ""
    prompt: str = ""
    images: list[str] = Field(default_factory=list)
    stream: bool = True


class Message(BaseModel):
    """A message of a chat. content: a text, or parts of which some are images. images: Ollama's, in base64."""

    role: str = "user"
    content: str | list[dict[str, Any]] = ""
    images: list[str] = Field(default_factory=list)


class ChatRequest(BaseModel):
    """The body of `/v1/chat/completions`, or of Ollama's `/api/chat`; what is not listed is ignored."""

    model: str = ""
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None

    def pictures(self) -> list[str]:
        """The images of the last message that has any."""
        for message in reversed(self.messages):
            if found := list(_of_message(message)):
                return found
        return []


def _of_message(message: Message) -> Iterator[str]:
    yield from message.images
    for part in message.content if isinstance(message.content, list) else []:
        address = part.get("image_url")
        value = address.get("url") if isinstance(address, dict) else address
        if part.get("type") in ("image_url", "input_image") and isinstance(value, str):
            yield value


def decoded(text: str) -> bytes:
    """An image from base64 or a data: address. Raises UserError for anything else; other addresses are not fetched."""
    if re.match(r"(https?|ftp|file):", text, re.IGNORECASE):
        raise UserError("image addresses are not fetched; send the image itself, in base64")
    try:
        return base64.b64decode(_DATA_ADDRESS.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError):
        raise UserError("an image is not valid base64") from None


def record(captioned: "Captioned", *, attention: bool) -> dict[str, Any]:
    """An image's captions as our own interface answers them.

    The weights of a word are those of a grid, (H, W), or of objects, (R,). `boxes` (R, 4) then says where these are, as
    shares of what the model sees: left, top, right and bottom. The first is the whole of it.
    """
    entry: dict[str, Any] = {
        "caption": captioned.captions[0].text,
        "confidence": captioned.captions[0].confidence,
        "captions": [caption.record() for caption in captioned.captions],
        "unlike_training": captioned.unlike,
    }
    attended = captioned.captions[0].attended if attention else None
    if attended is not None:
        weights = attended.weights.astype(float).round(4).tolist()
        entry["attention"] = [{"word": word, "weights": own} for word, own in zip(attended.words, weights, strict=True)]
        if attended.boxes is not None:
            entry["boxes"] = attended.boxes.astype(float).round(4).tolist()
    return entry


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def ollama(model: str, text: str, key: str, seconds: float) -> dict[str, Any]:
    """Ollama's answer, whole or as the only piece of a stream. key: `response`, or `message` in a chat."""
    said: Any = text if key == "response" else {"role": "assistant", "content": text}
    nanoseconds = int(seconds * 1e9)
    return {
        "model": model,
        "created_at": _now(),
        key: said,
        "done": True,
        "done_reason": "stop",
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": len(text.split()),
        "eval_duration": nanoseconds,
    }


def tags(model: str, size: int, digest: str) -> dict[str, Any]:
    """Ollama's list of models: the one that is served."""
    details = {"parent_model": "", "format": "safetensors", "family": "captioning", "families": ["captioning"]}
    details |= {"parameter_size": "", "quantization_level": "F16"}
    return {
        "models": [
            {
                "name": model,
                "model": model,
                "modified_at": _now(),
                "size": size,
                "digest": digest,
                "details": details,
                "capabilities": ["completion", "vision"],
            }
        ]
    }


def completion(model: str, text: str, identity: str) -> dict[str, Any]:
    """OpenAI's answer."""
    words = len(text.split())
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words},
    }


def chunks(model: str, text: str, identity: str) -> list[dict[str, Any]]:
    """OpenAI's answer as the pieces of a stream."""
    base = {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    parts: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": text}, None), ({}, "stop")]
    return [base | {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in parts]
