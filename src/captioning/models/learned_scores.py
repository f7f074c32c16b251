"""Scores by networks of the library transformers: BERTScore, CLIPScore and RefCLIPScore.

A network is read from its folder, from safetensors; no code of it is run, and nothing is fetched.

N texts, T tokens, D width.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from captioning.models.outside import lacking, quiet
from captioning.system.errors import UserError, reason, shown
from captioning.system.files import digest

_BATCH = 64  # texts or images in a forward pass
_LAYERS = {("bert", 12): 9, ("bert", 24): 18, ("roberta", 12): 10, ("roberta", 24): 17, ("distilbert", 6): 5}
_PROMPT = "A photo depicts "  # ahead of each text, and the factor of CLIPScore: Hessel et al. 2021, section 3
_WEIGHT = 2.5

Opened = Mapping[str, Callable[[], Image.Image]]  # what opens each image


class BertScore:
    """BERTScore (Zhang et al. 2020): how alike the tokens of a caption and of a reference are, in context.

    Each token counts by the cosine to the most similar one of the other text. Precision is the mean over the caption's
    tokens, recall over the reference's, and the score of a caption is its best F1 over the references. As in the
    authors' program without idf and rescaling: an image's tokens may be matched to the text's ends, and these do not
    count themselves. The embeddings are those of the layer that the authors chose for a network of this kind and depth,
    else of the last one.
    """

    titles: Mapping[str, str] = {"bert_score": "BERTScore"}

    def __init__(self, folder: Path) -> None:
        """Raises UserError where transformers is missing, or cannot read the folder."""
        self._network, self._tokenizer = _read("--bert-score", folder, "AutoModel", "AutoTokenizer")
        depth = int(getattr(self._network.config, "num_hidden_layers", 0))
        self._layer = _LAYERS.get((self._network.config.model_type, depth), depth)
        self.signature = f"bert:{_digests(folder)},layer-{self._layer},f1"

    def score(
        self, references: Mapping[str, Sequence[str]], captions: Mapping[str, str], _images: Opened
    ) -> dict[str, dict[str, float]]:
        """`bert_score` of each image's caption; one without a token has 0."""
        texts = sorted({*captions.values(), *(text for listed in references.values() for text in listed)})
        embedded = dict(zip(texts, self._embedded(texts), strict=True))
        best = {
            image: max(_f1(embedded[caption], embedded[text]) for text in references[image])
            for image, caption in captions.items()
        }
        return {"bert_score": best}

    @torch.inference_mode()
    def _embedded(self, texts: Sequence[str]) -> Iterable[tuple[Tensor, Tensor]]:
        """Unit vectors (T, D) of each text's tokens, its ends included, and which of them count (T,)."""
        longest = int(getattr(self._network.config, "max_position_embeddings", 512)) - 2
        for start in range(0, len(texts), _BATCH):
            batch = self._tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
                return_special_tokens_mask=True,
            )
            ends = batch.pop("special_tokens_mask").bool()
            layers = self._network(**batch, output_hidden_states=True).hidden_states
            vectors, there = functional.normalize(layers[self._layer].float(), dim=2), batch["attention_mask"].bool()
            yield from ((own[real], ~end[real]) for own, real, end in zip(vectors, there, ends, strict=True))


def _f1(caption: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]) -> float:
    (ours, said), (theirs, written) = caption, reference
    if not said.any() or not written.any():
        return 0.0
    cosines = ours @ theirs.T  # (T, T')
    precision, recall = cosines.amax(1)[said].mean(), cosines.amax(0)[written].mean()
    total = float(precision + recall)
    return float(2 * precision * recall / total) if total > 0 else 0.0


class ClipScore:
    """CLIPScore and RefCLIPScore (Hessel et al. 2021): how near a caption is to the image in CLIP's space.

    CLIPScore is 2.5 times the cosine, at least 0. RefCLIPScore is the harmonic mean of that and of the greatest cosine
    to a reference, at least 0.
    """

    titles: Mapping[str, str] = {"clip_score": "CLIPScore", "ref_clip_score": "RefCLIPScore"}

    def __init__(self, folder: Path) -> None:
        """Raises UserError where transformers is missing, or cannot read the folder."""
        self._network, self._processor = _read("--clip-score", folder, "CLIPModel", "AutoProcessor")
        self.signature = f"clip:{_digests(folder)},w-{_WEIGHT}"

    def score(
        self, references: Mapping[str, Sequence[str]], captions: Mapping[str, str], images: Opened
    ) -> dict[str, dict[str, float]]:
        """Both scores of each image's caption. images: what opens each image."""
        texts = sorted({*captions.values(), *(text for listed in references.values() for text in listed)})
        said = dict(zip(texts, self._texts(texts), strict=True))
        seen = dict(zip(captions, self._images([images[image] for image in captions]), strict=True))
        near = {image: _WEIGHT * max(0.0, float(said[text] @ seen[image])) for image, text in captions.items()}
        like = {
            image: max(0.0, *(float(said[text] @ said[other]) for other in references[image]))
            for image, text in captions.items()
        }
        both = {image: _harmonic(near[image], like[image]) for image in captions}
        return {"clip_score": near, "ref_clip_score": both}

    @torch.inference_mode()
    def _texts(self, texts: Sequence[str]) -> Iterable[Tensor]:
        """Unit vectors (D,) of texts."""
        for start in range(0, len(texts), _BATCH):
            told = [_PROMPT + text for text in texts[start : start + _BATCH]]
            read = self._processor(text=told, padding=True, truncation=True, return_tensors="pt")
            yield from _units(self._network.get_text_features(**read))

    @torch.inference_mode()
    def _images(self, images: Sequence[Callable[[], Image.Image]]) -> Iterable[Tensor]:
        """Unit vectors (D,) of images."""
        for start in range(0, len(images), _BATCH):
            opened = [read() for read in images[start : start + _BATCH]]
            yield from _units(self._network.get_image_features(**self._processor(images=opened, return_tensors="pt")))


def _units(features: Any) -> Tensor:
    """What a tower returns, a tensor or an output that pools one, as unit vectors (N, D)."""
    pooled: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return functional.normalize(pooled.float(), dim=1)


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def _digests(folder: Path) -> str:
    """The first digits of the digests of the weights."""
    return "+".join(digest(path)[:12] for path in sorted(folder.glob("*.safetensors")))


def _read(option: str, folder: Path, network: str, texts: str) -> tuple[Any, Any]:
    """A network and what prepares its inputs, of these classes of transformers."""
    if importlib.util.find_spec("transformers") is None:
        raise UserError(f"{option} needs transformers: pip install 'captioning[hf]'")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{option} {folder}: no folder with *.safetensors; name one of a model of transformers")
    import transformers

    here = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        try:
            loaded, found = getattr(transformers, network).from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **here
            )
            prepares = getattr(transformers, texts).from_pretrained(folder, **here)
        except Exception as fault:  # files from outside: transformers raises whatever it stumbles over
            message = shown(reason(fault, first_line=True))
            raise UserError(f"{option} {folder}: transformers cannot read it ({message}); fetch it anew") from fault
    if missing := lacking(found):
        raise UserError(f"{option} {folder}: it has no weights {shown(missing[0])}; name a whole model")
    return loaded.eval(), prepares
