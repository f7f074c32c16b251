"""The transformer against torch's own decoder with the same weights, and its positions."""

import math

import pytest
import torch
from torch import nn

from benchmarks.vocabulary import numbered
from captioning.decoders.transformer import TransformerDecoder, TransformerOptions, sinusoids
from tests.variants import FEATURES, WORDS, build, captions, images


def torchs(model: TransformerDecoder, options: TransformerOptions) -> nn.TransformerDecoder:
    """torch.nn.TransformerDecoder with the weights of `model`."""
    width = options.width
    layer = nn.TransformerDecoderLayer(
        width, options.heads, options.feed_forward, 0.0, batch_first=True, norm_first=True
    )
    whole = nn.TransformerDecoder(layer, options.layers, norm=nn.LayerNorm(width)).eval()
    ours = model.state_dict()
    names = {
        "self_attn.in_proj_": "self_in.",
        "self_attn.out_proj.": "self_out.",
        "multihead_attn.out_proj.": "cross_out.",
        "linear1.": "feed_in.",
        "linear2.": "feed_out.",
        "norm1.": "self_norm.",
        "norm2.": "cross_norm.",
        "norm3.": "feed_norm.",
    }
    state = {}
    for index in range(options.layers):
        for kind in ("weight", "bias"):
            for theirs, name in names.items():
                state[f"layers.{index}.{theirs}{kind}"] = ours[f"layers.{index}.{name}{kind}"]
            pairs = ours[f"memory_pairs.{kind}"][index * 2 * width : (index + 1) * 2 * width]
            state[f"layers.{index}.multihead_attn.in_proj_{kind}"] = torch.cat(
                [ours[f"layers.{index}.cross_in.{kind}"], pairs]
            )
    state |= {f"norm.{kind}": ours[f"norm.{kind}"] for kind in ("weight", "bias")}
    whole.load_state_dict(state)
    return whole


@pytest.mark.parametrize("heads", [1, 4])
def test_it_equals_torchs_decoder(heads: int) -> None:
    options = TransformerOptions(16, 3, heads, 40, 0.3)
    torch.manual_seed(0)
    model = TransformerDecoder(numbered(WORDS), FEATURES, options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases and norms too
    encoded, tokens, owner = images(3), captions(5, 7), torch.tensor([0, 0, 1, 2, 2])
    memory = model.memory(encoded.regions)[owner]
    words = model.embedding(tokens) * math.sqrt(16) + sinusoids(0, 7, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    expected = model.output(torchs(model, options)(words, memory, tgt_mask=mask, tgt_is_causal=True))
    torch.testing.assert_close(model(encoded, tokens, owner), expected, atol=1e-4, rtol=1e-4)


def test_attention_is_that_of_the_last_layer() -> None:
    """What the last layer looks up is the weighted sum of its values, when all heads agree."""
    model = build("transformer", heads=1).eval()
    assert isinstance(model, TransformerDecoder)
    encoded, tokens, owner = images(2), captions(2, 4), torch.arange(2)
    seen = {}
    last = model.layers[-1]
    last.cross_out.register_forward_hook(lambda _, inputs, __: seen.update(looked=inputs[0]))
    model(encoded, tokens, owner)
    values = model.init(encoded)[-2][:, 0]  # (B, R, E) of the last layer, which has one head
    torch.testing.assert_close(model.attention(encoded, tokens, owner) @ values, seen["looked"])


def test_positions_are_sines_and_cosines_that_go_on() -> None:
    table = sinusoids(0, 12, 8)
    assert table[0].tolist() == [0.0] * 4 + [1.0] * 4
    assert table[5, 1].item() == pytest.approx(math.sin(5 / 10_000 ** (2 / 8)))
    assert table[5, 6].item() == pytest.approx(math.cos(5 / 10_000 ** (4 / 8)))
    torch.testing.assert_close(sinusoids(7, 5, 8), table[7:])


def test_a_word_is_read_once() -> None:
    """`step` keeps keys and values: its state grows by one word, and the regions' are made once, whole in memory."""
    model = build("transformer").eval()
    assert isinstance(model, TransformerDecoder)
    calls = []
    model.memory_pairs.register_forward_hook(lambda *_: calls.append(1))
    state = model.init(images(2))
    own = len(state) - model.shared
    assert all(part.is_contiguous() for part in state)
    for t in range(3):
        before = state
        _, state = model.step(torch.tensor([5, 6]), state)
        assert all(new is old for old, new in zip(before[own:], state[own:], strict=True))
        for old, new in zip(before[:own], state[:own], strict=True):
            assert new.shape == (2, 2, t + 1, 2 * 8)  # two images, two heads of a width of 8
            assert torch.equal(new[:, :, :t], old)
    assert len(calls) == 1


def test_parameters_under_their_former_names_are_read() -> None:
    model, other = build("transformer"), build("transformer")
    former = {"self_": "recall_", "cross_": "look_", "feed_": "think_"}
    state = {}
    for name, tensor in model.state_dict().items():
        *place, module, kind = name.split(".")
        for new, old in former.items() if "layers" in place else ():
            module = module.replace(new, old)
        state[".".join([*place, module, kind])] = torch.randn_like(tensor)
    other.load_state_dict(dict(state))
    renamed = other.state_dict()
    assert state.keys() != renamed.keys()
    torch.testing.assert_close(renamed["layers.0.self_in.weight"], state["layers.0.recall_in.weight"])
    torch.testing.assert_close(renamed["layers.1.feed_norm.bias"], state["layers.1.think_norm.bias"])
