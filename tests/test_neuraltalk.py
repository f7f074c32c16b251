"""NeuralTalk: the image at every step or before the first, and an output that begins with word frequencies."""

import numpy as np
import torch

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.neuraltalk import LstmNeuralTalkDecoder, RnnNeuralTalkDecoder
from captioning.vision.encoders.encoded import Encoded
from tests.special import BOS, EOS, PAD, UNK
from tests.variants import FEATURES, WORDS, build, captions


def test_the_rnn_adds_the_image_at_every_step() -> None:
    model = build("neuraltalk-rnn").eval()
    assert isinstance(model, RnnNeuralTalkDecoder)
    mean, tokens, owner = torch.randn(2, FEATURES), captions(3, 4), torch.tensor([1, 0, 1])
    state = model.state_dict()
    image = mean[owner] @ state["picture.weight"].T + state["picture.bias"]
    h = torch.zeros(3, image.shape[1])
    logits = model(Encoded(mean, None), tokens, owner)
    for t in range(4):
        word = state["embedding.weight"][tokens[:, t]] @ state["from_word.weight"].T
        h = (word + h @ state["from_hidden.weight"].T + image).clamp(min=0)
        expected = h @ state["output.weight"].T + state["output.bias"]
        torch.testing.assert_close(logits[:, t], expected[:, :WORDS])


def test_the_lstm_reads_the_image_first_and_what_it_says_there_is_dropped() -> None:
    model = build("neuraltalk-lstm").eval()
    assert isinstance(model, LstmNeuralTalkDecoder)
    mean, tokens = torch.randn(2, FEATURES), captions(2, 4)
    words = torch.cat([model.picture(mean).unsqueeze(1), model.embedding(tokens)], dim=1)
    expected = model.output(model.lstm(words)[0][:, 1:])
    torch.testing.assert_close(model(Encoded(mean, None), tokens, torch.arange(2)), expected)


def test_before_training_it_says_each_word_as_often_as_people_do() -> None:
    counts = torch.arange(WORDS) * 3
    for variant in ("neuraltalk-rnn", "neuraltalk-lstm"):
        model = build(variant).eval()
        model.expect(counts)
        torch.nn.init.zeros_(model.output.weight)  # type: ignore[union-attr, arg-type]
        p = model(Encoded(torch.randn(1, FEATURES), None), captions(1, 2), torch.tensor([0]))[0, 1].softmax(0)
        torch.testing.assert_close(p[1:], counts[1:] / (counts.sum() + 1))
        torch.testing.assert_close(p[0], 1 / (counts.sum() + 1))


def test_targets_are_counted_without_what_begins_a_caption() -> None:
    vocabulary = Vocabulary((*SPECIAL, "a", "b"))
    encoded = EncodedCaptions.encode([["a", "b", "a"], ["c", "b"], ["b"] * 9], [0, 0, 1], vocabulary, max_words=4)
    counts = encoded.target_counts(len(vocabulary))
    assert counts.tolist() == [0, 0, 2, 1, 2, 6]
    assert (counts[PAD], counts[BOS], counts[EOS], counts[UNK]) == (0, 0, 2, 1)
    assert counts.dtype == np.int64
