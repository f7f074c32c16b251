"""Tiny models of other people's classes, drawn at random and saved as their authors save theirs."""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ("a", "the", "dog", "cat", "runs", "sits", "on", "grass", "red", "blue", "ball", "what", "does", "image", "?")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<image>"]
_SIDE, _WIDTH = 32, 16


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Words as tokens, with the special tokens of BERT and an image's place."""
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        extra_special_tokens={"image_token": "<image>"},
    )


_IDS = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
_VOCABULARY = len(SPECIAL) + len(WORDS)
_SMALL = {"hidden_size": _WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def blip(folder: Path) -> None:
    text = _SMALL | _IDS | {"vocab_size": _VOCABULARY, "encoder_hidden_size": _WIDTH, "max_position_embeddings": 64}
    vision = _SMALL | {"image_size": _SIDE, "patch_size": 8, "initializer_range": 0.02}
    config = transformers.BlipConfig(
        text_config=text, vision_config=vision, projection_dim=_WIDTH, image_text_hidden_size=_WIDTH
    )
    size = {"height": _SIDE, "width": _SIDE}
    images = transformers.BlipImageProcessor(size=size)
    _save(folder, transformers.BlipForConditionalGeneration(config), transformers.BlipProcessor(images, tokenizer()))


def git(folder: Path) -> None:
    vision = _SMALL | {"image_size": _SIDE, "patch_size": 8}
    config = transformers.GitConfig(
        vision_config=vision, vocab_size=_VOCABULARY, max_position_embeddings=64, **_SMALL, **_IDS
    )
    size = {"height": _SIDE, "width": _SIDE}
    images = transformers.CLIPImageProcessor(size={"shortest_edge": _SIDE}, crop_size=size)
    _save(folder, transformers.GitForCausalLM(config), transformers.GitProcessor(images, tokenizer()))


def vit_gpt2(folder: Path) -> None:
    vision = transformers.ViTConfig(image_size=_SIDE, patch_size=8, **_SMALL)
    text = transformers.GPT2Config(
        vocab_size=_VOCABULARY, n_embd=_WIDTH, n_layer=2, n_head=2, n_positions=64, add_cross_attention=True, **_IDS
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    model = transformers.VisionEncoderDecoderModel(config)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=2, bos_token_id=2, eos_token_id=3, pad_token_id=0
    )
    images = transformers.ViTImageProcessor(size={"height": _SIDE, "width": _SIDE})
    _save(folder, model, images, tokenizer())


def florence2(folder: Path) -> None:
    vision = {
        "embed_dim": [8, 8, 8, 16],
        "num_heads": [1, 1, 1, 2],
        "num_groups": [1, 1, 1, 2],
        "depths": [1, 1, 1, 1],
        "window_size": 4,
        "projection_dim": _WIDTH,
    }
    text = {
        "vocab_size": _VOCABULARY,
        "d_model": _WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_position_embeddings": 64,
        "decoder_start_token_id": 3,
        "forced_eos_token_id": 3,
    } | _IDS
    config = transformers.Florence2Config(vision_config=vision, text_config=text, image_token_id=4, **_IDS)
    config.decoder_start_token_id = 3
    images = transformers.CLIPImageProcessor(size={"height": _SIDE, "width": _SIDE}, do_center_crop=False)
    images.image_seq_length = 2  # one place of the map, and the mean over all
    _save(
        folder,
        transformers.Florence2ForConditionalGeneration(config),
        transformers.Florence2Processor(images, tokenizer()),
    )


KINDS: dict[str, Callable[[Path], None]] = {"blip": blip, "git": git, "vit_gpt2": vit_gpt2, "florence2": florence2}


def _save(folder: Path, network: torch.nn.Module, *parts: object) -> None:
    """With larger weights than are usual at first, so that captions depend on the image."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    for part in (network, *parts):
        part.save_pretrained(folder)  # type: ignore[attr-defined, operator]


def made(kind: str, folder: Path, seed: int = 1) -> Path:
    """A model of a kind in a folder, its weights decided by the seed."""
    torch.manual_seed(seed)
    KINDS[kind](folder)
    return folder
