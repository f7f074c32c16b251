"""UpDown against torch's LSTM cells, put together as the paper says."""

import torch

from captioning.decoders.updown import UpDownDecoder
from tests.variants import WORDS, build, captions, images, lstm_by_torch


def test_the_mean_is_read_by_the_lstm_that_looks_and_what_is_attended_by_the_one_that_speaks() -> None:
    model = build("updown").eval()
    assert isinstance(model, UpDownDecoder)
    encoded, tokens, owner = images(2), captions(3, 4), torch.tensor([1, 0, 1])
    assert encoded.regions is not None
    v, mean, state = encoded.regions[owner], encoded.mean[owner], model.state_dict()
    hidden, width = model.hidden_size, state["attend.keys.bias"].shape[0]
    looking, language, from_looking = (state[f"{name}.weight"] for name in ("looking", "language", "from_looking"))
    first = {
        "inputs": torch.cat([looking[:, hidden:], state["from_mean.weight"], state["from_word.weight"]], dim=1),
        "hidden": looking[:, :hidden],
        "bias": state["from_mean.bias"],
    }
    features = v.shape[2]
    second = {
        "inputs": torch.cat([language[:, :features], from_looking[width:]], dim=1),
        "hidden": language[:, features:],
        "bias": state["from_looking.bias"][width:],
    }
    h1, c1, h2, c2 = torch.zeros(4, 3, hidden)
    logits, alphas = model(encoded, tokens, owner), model.attention(encoded, tokens, owner)
    for t in range(4):
        y = state["embedding.weight"][tokens[:, t]]
        h1, c1 = lstm_by_torch(torch.cat([h2, mean, y], dim=1), h1, c1, first)
        query = h1 @ from_looking[:width].T + state["from_looking.bias"][:width]
        keys = v @ state["attend.keys.weight"].T + state["attend.keys.bias"]
        alpha = torch.softmax(torch.tanh(keys + query[:, None]) @ state["attend.score.weight"][0], dim=1)
        attended = torch.einsum("nr,nrd->nd", alpha, v)
        h2, c2 = lstm_by_torch(torch.cat([attended, h1], dim=1), h2, c2, second)
        torch.testing.assert_close(alphas[:, t], alpha)
        expected = h2 @ state["output.weight"].T + state["output.bias"]
        torch.testing.assert_close(logits[:, t], expected[:, :WORDS])
