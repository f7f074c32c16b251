"""GPT-2 of the library transformers, with cross-attention to regions, of the sizes that the decoder transformer has."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.batch import WORDS
from captioning.settings import resolve


def built() -> GPT2LMHeadModel:
    """The model, with random weights."""
    sizes = resolve.load(overrides={"decoder": "transformer", "dataset": "flickr8k"}).decoders.transformer
    config = GPT2Config(
        vocab_size=WORDS,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_inner=sizes.feed_forward,
        add_cross_attention=True,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


@torch.no_grad()  # autocast would cast the weights at every step anew in inference mode
def generated(model: GPT2LMHeadModel, regions: torch.Tensor, size: int, beam: int, words: int) -> None:
    """Search captions of all images with `generate`, `size` at a time. regions (B, R, W)."""
    for start in range(0, len(regions), size):
        part = regions[start : start + size]
        begin = torch.full((len(part), 1), model.config.bos_token_id)
        found = model.generate(
            begin,
            attention_mask=torch.ones_like(begin),
            encoder_hidden_states=part,
            num_beams=beam,
            do_sample=False,
            min_new_tokens=words,
            max_new_tokens=words,
        )
        assert found.shape == (len(part), 1 + words)
