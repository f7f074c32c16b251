"""The LSTM decoder: `step` unrolled equals `forward`, and both equal torch's LSTM read by hand."""

import torch

from benchmarks.vocabulary import numbered
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.vision.encoders.encoded import Encoded
from tests.special import BOS


def decoder(layers: int = 1, dropout: float = 0.0, image: str = "yunjey") -> LstmDecoder:
    torch.manual_seed(1)
    return LstmDecoder(numbered(30), 12, LstmOptions(16, 20, layers, dropout, image))


def test_step_unrolled_equals_forward() -> None:
    for layers in (1, 2):
        model = decoder(layers, dropout=0.5).eval()
        encoded = Encoded(torch.randn(3, 12), None)
        owner = torch.tensor([0, 0, 1, 2, 2])
        tokens = torch.randint(4, 30, (5, 7))
        tokens[:, 0] = BOS
        logits = model(encoded, tokens, owner)  # (C, T, V)
        state = tuple(tensor[owner] for tensor in model.init(encoded))
        for t in range(7):
            one, state = model.step(tokens[:, t], state)
            torch.testing.assert_close(one, logits[:, t])


def test_the_image_is_the_first_word() -> None:
    """The whole decoder, once more, from torch's own layers."""
    model = decoder().eval()
    mean, tokens = torch.randn(2, 12), torch.randint(4, 30, (2, 5))
    image = model.picture[1](model.picture[0](mean)).unsqueeze(1)
    words = torch.cat([image, model.embedding(tokens)], dim=1)
    hidden, _ = model.lstm(words)
    expected = model.output(hidden[:, 1:])  # what is said at the image's step is not used
    torch.testing.assert_close(model(Encoded(mean, None), tokens, torch.arange(2)), expected)


def test_nic_rectifies_the_image_and_normalises_nothing() -> None:
    model = decoder(image="nic")
    assert not [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    mean = torch.randn(4, 12)
    expected, _ = model.lstm((mean @ model.picture[0].weight.T + model.picture[0].bias).clamp(min=0).unsqueeze(1))
    torch.testing.assert_close(model.init(Encoded(mean, None))[0], expected)


def test_padding_after_a_caption_changes_nothing_before_it() -> None:
    model = decoder().eval()
    encoded, owner = Encoded(torch.randn(2, 12), None), torch.arange(2)
    tokens = torch.randint(4, 30, (2, 4))
    longer = torch.cat([tokens, torch.zeros(2, 3, dtype=torch.long)], dim=1)
    torch.testing.assert_close(model(encoded, longer, owner)[:, :4], model(encoded, tokens, owner))


def test_dropout_is_on_in_training_only() -> None:
    model, encoded = decoder(dropout=0.5), Encoded(torch.randn(4, 12), None)
    tokens, owner = torch.randint(4, 30, (4, 3)), torch.arange(4)
    model.train()
    assert not torch.equal(model(encoded, tokens, owner), model(encoded, tokens, owner))
    model.eval()
    assert torch.equal(model(encoded, tokens, owner), model(encoded, tokens, owner))


def test_a_batch_of_one_image_is_normalised_by_the_stored_statistics() -> None:
    model = decoder(dropout=0.0).train()
    encoded, tokens = Encoded(torch.randn(1, 12), None), torch.tensor([[BOS, 5, 6]])
    taught = model(encoded, tokens, torch.tensor([0]))
    torch.testing.assert_close(taught, model.eval()(encoded, tokens, torch.tensor([0])))
