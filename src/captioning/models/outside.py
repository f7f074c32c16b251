"""Captioners of the library transformers: BLIP, GIT, Florence-2, or an image encoder with a text decoder (ViT-GPT2).

They are read by transformers' own classes from safetensors; no code of a model is run, and nothing is unpickled. What
their authors set for the search (generation_config.json) holds where it is not asked for otherwise.

N captions (n_best of each image in turn), T tokens after the prompt, V tokens in the vocabulary.
"""

import importlib.util
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioning.models.base import Caption, Captioned, Model, checked
from captioning.models.choice import OUTSIDE
from captioning.models.sources import Read
from captioning.settings.search import USUAL, SearchOptions
from captioning.system.errors import UserError, reason, shown

_PROMPTS = {"blip": "", "git": "", "vision-encoder-decoder": "", "florence2": "<CAPTION>"}  # by type of model
_UNUSED = ("pooler", "position_ids")  # weights that some files lack, and no caption depends on
_OURS = ("min_words", "repeat_ngram", "rank_by")  # options that count words, or compare captions by them
_TOKENS = 2  # that a word has, at most, on average: captions are cut at `max_words` words
_ATTENTION = "a captioner of transformers does not say where it looked"


class Parts(NamedTuple):
    """What transformers makes of a model's folder. images: pixels of images, and of the prompt if there is one."""

    network: Any
    images: Any
    tokenizer: Any
    prompt: str


class OutsideModel(Model):
    """A captioner of transformers. Its captions have neither a confidence nor attention."""

    def __init__(self, title: str, parts: Parts) -> None:
        super().__init__([title])
        self._parts = parts
        self._lock = threading.Lock()

    def options(self, *, must: Iterable[str] = (), beam_size: int | None = None, **search: Any) -> SearchOptions:
        """See `Model.options`. The beam is as wide as the model's authors have it, if it is not given."""
        checked(search)
        given = USUAL | search
        refused = [name for name in _OURS if given[name] != USUAL[name]] + ["must"] * bool(must)
        if given["method"] == "diverse":
            refused.append("method = diverse")
        if refused:
            raise UserError(f"{self.titles[0]}: a captioner of transformers has no {refused[0]}; leave it out")
        usual = max(_generator(self._parts.network).generation_config.num_beams or 1, given["n_best"])
        return SearchOptions(**given | {"beam_size": beam_size or usual})

    def batch(self, images: Sequence[Read], options: SearchOptions) -> list[Captioned]:
        """See `Model.batch`. The distance from training images is not known: 0."""
        sampled = options.method == "sample"
        parts = [[image] for image in images] if sampled else [images] * bool(images)  # a seed for each image
        with self._lock, quiet(), torch.inference_mode():
            return [Captioned(found, 0.0) for part in parts for found in self._captions(part, options)]

    def _captions(self, images: Sequence[Read], options: SearchOptions) -> list[list[Caption]]:
        try:
            generated = self._generated(images, options)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as fault:
            raise UserError(
                f"{self.titles[0]}: it cannot caption ({shown(reason(fault, first_line=True))}); its files do not fit "
                "together, or captions are longer than it can have (--max-words)"
            ) from fault
        texts = self._parts.tokenizer.batch_decode(generated.sequences, skip_special_tokens=True)
        nats, lengths = self._log_probabilities(generated)
        captions = [_caption(*one, options) for one in zip(texts, nats, lengths, strict=True)]
        size = options.n_best
        return [_ranked(captions[start : start + size]) for start in range(0, len(captions), size)]

    def _generated(self, images: Sequence[Read], options: SearchOptions) -> Any:
        """What transformers' search found: `sequences` (N, prompt + T), `logits`, T times (B · beam_size, V)."""
        inputs = self._inputs([one.image for one in images])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(np.random.default_rng([options.seed, images[0].key]).integers(2**63))
            return self._parts.network.generate(
                **inputs, **_search(options), return_dict_in_generate=True, output_logits=True
            )

    def _inputs(self, images: list[Image.Image]) -> dict[str, Tensor]:
        prompt = self._parts.prompt
        if prompt:
            return dict(self._parts.images(text=[prompt] * len(images), images=images, return_tensors="pt"))
        return {"pixel_values": self._parts.images(images, return_tensors="pt")["pixel_values"]}

    def _log_probabilities(self, generated: Any) -> tuple[list[float], list[int]]:
        """Nats and tokens of each caption, up to its end: (N,) each."""
        network, tokenizer = self._parts.network, self._parts.tokenizer
        beams = getattr(generated, "beam_indices", None)
        nats = network.compute_transition_scores(generated.sequences, generated.logits, beams, normalize_logits=True)
        tokens = generated.sequences[:, -nats.shape[1] :]  # (N, T)
        own = _generator(network).generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, tokenizer.sep_token_id, *(own if isinstance(own, list) else [own])} - {None}
        ended = torch.isin(tokens, torch.tensor(sorted(ends)))
        said = ended.cumsum(1) - ended.long() == 0  # up to the first end, with it
        return torch.where(said, nats, 0).sum(1).tolist(), said.sum(1).tolist()

    @property
    def calibrated(self) -> bool:
        """See `Model.calibrated`: never."""
        return False

    def no_attention(self) -> str:
        """See `Model.no_attention`."""
        return _ATTENTION

    def sheet(self, image: Image.Image, caption: Caption) -> Image.Image:  # noqa: ARG002 - of the interface
        """See `Model.sheet`: always refused."""
        raise UserError(f"no attention to draw: {_ATTENTION}")

    def description(self) -> list[str]:
        """See `Model.description`."""
        network = self._parts.network
        size = f"{network.num_parameters() / 1e6:.1f} M parameters"
        return [f"model {self.titles[0]}: {type(network).__name__} of transformers, {size}, trained by others"]

    @property
    def training(self) -> str:
        """See `Model.training`."""
        return "not known here"


def _generator(network: Any) -> Any:
    """The part that searches: BLIP's is its text decoder."""
    return getattr(network, "text_decoder", network)


def _search(options: SearchOptions) -> dict[str, Any]:
    """The options as transformers calls them."""
    common = {"max_new_tokens": _TOKENS * options.max_words + 1, "num_return_sequences": options.n_best}
    if options.method == "sample":
        chosen = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        return {"do_sample": True, "num_beams": 1, **chosen, **common}
    return {"do_sample": False, "num_beams": options.beam_size, "length_penalty": options.length_penalty, **common}


def _caption(text: str, nats: float, length: int, options: SearchOptions) -> Caption:
    words = text.split()[: options.max_words]
    return Caption(" ".join(words), None, nats / length**options.length_penalty, nats, lambda _: None)


def _ranked(captions: Iterable[Caption]) -> list[Caption]:
    """Best first, each caption once."""
    different: dict[str, Caption] = {}
    for caption in sorted(captions, key=lambda caption: caption.score, reverse=True):
        different.setdefault(caption.text, caption)
    return list(different.values())


def load(name: str) -> OutsideModel:
    """Load a captioner by its folder, or by its name on the Hugging Face hub, perhaps with @REVISION.

    Raises UserError when there is none, it is of another kind, has no safetensors, needs code of its own, or lacks
    weights.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UserError(f"--model {OUTSIDE}NAME needs transformers: pip install 'captioning[hf]'")
    from captioning.models import hub

    with quiet():
        kind = _kind(hub.fetch(name, ["config.json"]), name)
        folder = hub.fetch(name)
        if not any(folder.glob("*.safetensors")):
            raise UserError(f"{OUTSIDE}{name}: no *.safetensors in it, and other weights are not read; convert it")
        return OutsideModel(hub.title(name, folder), _parts(folder, name, kind))


def _kind(folder: Path, name: str) -> str:
    """The type of the model in a folder. Raises UserError when it is none, or none of those that caption."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{OUTSIDE}{name}: no config.json of a model of transformers in it; name another") from None
    if kind not in _PROMPTS:
        raise UserError(f"{OUTSIDE}{name}: a model of type {shown(kind)}; there are {', '.join(_PROMPTS)}")
    return str(kind)


def _parts(folder: Path, name: str, kind: str) -> Parts:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    here = {"local_files_only": True, "trust_remote_code": False}
    prompt = _PROMPTS[kind]
    try:
        network, found = AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **here
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **here)
        images = (AutoProcessor if prompt else AutoImageProcessor).from_pretrained(folder, **here)
    except Exception as fault:  # files from outside: transformers raises whatever it stumbles over
        message = shown(reason(fault, first_line=True))
        raise UserError(f"{OUTSIDE}{name}: transformers cannot read it ({message}); fetch it anew") from fault
    if unlike := lacking(found):
        what = f"{len(unlike)} weights of {type(network).__name__} are missing or of another shape"
        raise UserError(f"{OUTSIDE}{name}: {what}, such as {shown(unlike[0])}; name a whole model")
    return Parts(network.eval(), images, tokenizer, prompt)


def lacking(found: Mapping[str, Any]) -> list[str]:
    """The weights that a network needs, and its files lack or have in another shape. found: transformers' record."""
    missing = sorted(key for key in found["missing_keys"] if not any(part in key for part in _UNUSED))
    return [*missing, *map(str, found["mismatched_keys"])]


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' remarks and bars; a fault is an exception in any case."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
