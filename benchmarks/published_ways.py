"""Captioning decoders as the repositories that many people train have them, written here after these.

Each has the widths of a decoder of this project, and its own way to compute: which products are in the loop over words,
whether an image is read once or once a caption. No line is theirs, and what they do besides (checkpoints, logs, data
loading) is left out.

    ShowAndTell         yunjey/pytorch-tutorial: a packed LSTM, an image a caption
    NewFC               ruotianluo/ImageCaptioning.pytorch, `newfc`: an LSTM with a maxout cell, a word at a time
    ShowAttendAndTell   sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning: regions mapped anew at every word
    TopDown             ruotianluo, `updown`: regions mapped once an image, and then repeated for its captions
    Transformer         torch's own nn.TransformerDecoder over mapped regions, repeated for its captions

C captions, B images, A attention width, D feature width, E embedding, H hidden, R regions, T tokens, V words.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

Pair = tuple[Tensor, Tensor]
"""h and c of an LSTM, each (N, H)."""


class PublishedWay(nn.Module, ABC):
    """A decoder under teacher forcing: its loss, of which a training step is made."""

    @abstractmethod
    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """regions (B, R, D), tokens (C, T), C / B captions of each image in turn → cross-entropy a word."""


class ShowAndTell(PublishedWay):
    """The image is the first word of an LSTM."""

    def __init__(self, features: int, words: int, *, embedding: int, hidden: int) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.Linear(features, embedding), nn.BatchNorm1d(embedding, momentum=0.01))
        self.embed = nn.Embedding(words, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, words)

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """As in `PublishedWay`. The image takes the first token's place."""
        images = self.picture(_repeated(regions.mean(1), tokens))
        read = torch.cat([images.unsqueeze(1), self.embed(tokens[:, 1:-1])], dim=1)  # (C, T - 1, E)
        lengths = [read.shape[1]] * len(tokens)
        hidden, _ = self.lstm(pack_padded_sequence(read, lengths, batch_first=True))
        targets = pack_padded_sequence(tokens[:, 1:], lengths, batch_first=True)
        return functional.cross_entropy(self.output(hidden.data), targets.data)


class NewFC(PublishedWay):
    """An LSTM whose candidate is the larger of two, and which reads the image first."""

    def __init__(self, features: int, words: int, *, embedding: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.hidden = hidden
        self.picture, self.embed = nn.Linear(features, embedding), nn.Embedding(words, embedding)
        self.of_input, self.of_hidden = nn.Linear(embedding, 5 * hidden), nn.Linear(hidden, 5 * hidden)
        self.dropout, self.output = nn.Dropout(dropout), nn.Linear(hidden, words)

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """As in `PublishedWay`."""
        images = _repeated(self.picture(regions.mean(1)), tokens)
        state = (images.new_zeros(len(tokens), self.hidden),) * 2
        state = self._cell(images, state)
        said = []
        for t in range(tokens.shape[1] - 1):
            state = self._cell(self.embed(tokens[:, t]), state)
            said.append(functional.log_softmax(self.output(self.dropout(state[0])), dim=1))
        return _of_words(torch.stack(said, dim=1), tokens)

    def _cell(self, x: Tensor, state: Pair) -> Pair:
        h, c = state
        sums = self.of_input(x) + self.of_hidden(h)
        inside, forget, outside = sums[:, : 3 * self.hidden].sigmoid().chunk(3, dim=1)
        first, second = sums[:, 3 * self.hidden :].chunk(2, dim=1)
        c = forget * c + inside * torch.max(first, second)
        return outside * c.tanh(), c


class ShowAttendAndTell(PublishedWay):
    """Soft attention with a gate for each feature. penalty: the weight of that on neglected regions."""

    def __init__(
        self,
        features: int,
        words: int,
        *,
        embedding: int,
        hidden: int,
        attention: int,
        dropout: float = 0.5,
        penalty: float = 1.0,
    ) -> None:
        super().__init__()
        self.penalty = penalty
        self.of_regions, self.of_hidden = nn.Linear(features, attention), nn.Linear(hidden, attention)
        self.score, self.gate = nn.Linear(attention, 1), nn.Linear(hidden, features)
        self.embed, self.dropout = nn.Embedding(words, embedding), nn.Dropout(dropout)
        self.cell = nn.LSTMCell(embedding + features, hidden)
        self.first_h, self.first_c = nn.Linear(features, hidden), nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, words)

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """As in `PublishedWay`, and the penalty."""
        repeated, steps = _repeated(regions, tokens), tokens.shape[1] - 1
        state, words = self.begin(repeated), self.embed(tokens)
        said = regions.new_zeros(len(tokens), steps, self.output.out_features)
        weights = regions.new_zeros(len(tokens), steps, regions.shape[1])
        for t in range(steps):
            said[:, t], state, weights[:, t] = self.word(words[:, t], repeated, state)
        return _of_words(said.log_softmax(2), tokens) + self.penalty * ((1 - weights.sum(1)) ** 2).mean()

    def begin(self, regions: Tensor) -> Pair:
        """regions (N, R, D) → the state before the first word."""
        mean = regions.mean(1)
        return self.first_h(mean), self.first_c(mean)

    def word(self, word: Tensor, regions: Tensor, state: Pair) -> tuple[Tensor, Pair, Tensor]:
        """word (N, E), regions (N, R, D) → logits (N, V), the next state, and the weights (N, R)."""
        compared = (self.of_regions(regions) + self.of_hidden(state[0]).unsqueeze(1)).relu()  # (N, R, A)
        weights = self.score(compared).squeeze(2).softmax(1)
        seen = (regions * weights.unsqueeze(2)).sum(1) * self.gate(state[0]).sigmoid()  # (N, D)
        h, c = self.cell(torch.cat([word, seen], dim=1), state)
        return self.output(self.dropout(h)), (h, c), weights


class TopDown(PublishedWay):
    """Bottom-up and top-down attention over regions that are mapped to the LSTM's width."""

    def __init__(
        self, features: int, words: int, *, embedding: int, hidden: int, attention: int, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.embed = nn.Sequential(nn.Embedding(words, embedding), nn.ReLU(), nn.Dropout(dropout))
        self.of_mean = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.of_regions = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.keys, self.query = nn.Linear(hidden, attention), nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, 1)
        self.looking, self.language = nn.LSTMCell(embedding + 2 * hidden, hidden), nn.LSTMCell(2 * hidden, hidden)
        self.dropout, self.output = nn.Dropout(dropout), nn.Linear(hidden, words)

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """As in `PublishedWay`."""
        seen = tuple(_repeated(part, tokens) for part in self.prepare(regions))
        state = self.begin(tokens)
        said = []
        for t in range(tokens.shape[1] - 1):
            logits, state = self.word(tokens[:, t], seen, state)
            said.append(functional.log_softmax(logits, dim=1))
        return _of_words(torch.stack(said, dim=1), tokens)

    def prepare(self, regions: Tensor) -> tuple[Tensor, ...]:
        """regions (B, R, D) → mean (B, H), regions (B, R, H) and keys (B, R, A)."""
        mapped = self.of_regions(regions)
        return self.of_mean(regions.mean(1)), mapped, self.keys(mapped)

    def begin(self, rows: Tensor) -> tuple[Pair, Pair]:
        """The state before the first word, of as many captions as there are rows."""
        zeros = self.output.weight.new_zeros(len(rows), self.hidden)
        return (zeros, zeros), (zeros, zeros)

    def word(
        self, tokens: Tensor, seen: tuple[Tensor, ...], state: tuple[Pair, Pair]
    ) -> tuple[Tensor, tuple[Pair, Pair]]:
        """tokens (N,), and what `prepare` made of N images → logits (N, V) and the next state."""
        mean, regions, keys = seen
        looking, language = state
        looking = self.looking(torch.cat([language[0], mean, self.embed(tokens)], dim=1), looking)
        compared = (keys + self.query(looking[0]).unsqueeze(1)).tanh()
        weights = self.score(compared).squeeze(2).softmax(1)
        attended = torch.bmm(weights.unsqueeze(1), regions).squeeze(1)  # (N, H)
        language = self.language(torch.cat([attended, looking[0]], dim=1), language)
        return self.output(self.dropout(language[0])), (looking, language)


class Transformer(PublishedWay):
    """torch's decoder layers, with a causal mask."""

    def __init__(
        self, features: int, words: int, *, width: int, layers: int, heads: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        self.of_regions = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout))
        self.embed, self.places = nn.Embedding(words, width), nn.Embedding(64, width)
        layer = nn.TransformerDecoderLayer(width, heads, feed_forward, dropout, batch_first=True, norm_first=True)
        self.layers, self.output = nn.TransformerDecoder(layer, layers), nn.Linear(width, words)

    def forward(self, regions: Tensor, tokens: Tensor) -> Tensor:
        """As in `PublishedWay`."""
        words = self.embed(tokens[:, :-1]) + self.places.weight[: tokens.shape[1] - 1]
        mask = nn.Transformer.generate_square_subsequent_mask(words.shape[1])
        read = self.layers(words, _repeated(self.of_regions(regions), tokens), tgt_mask=mask, tgt_is_causal=True)
        return _of_words(functional.log_softmax(self.output(read), dim=2), tokens)


@torch.no_grad()  # autocast would cast the weights at every step anew in inference mode
def beam_of_an_image(model: ShowAttendAndTell, regions: Tensor, beam: int, words: int, begin: int) -> Tensor:
    """sgrvinod's search: regions (R, D) of one image, one row for each hypothesis → the best caption (words,)."""
    repeated = regions.expand(beam, *regions.shape)
    said, scores = torch.full((beam, 1), begin), torch.zeros(beam, 1)
    state = model.begin(repeated)
    for t in range(words):
        logits, state, _ = model.word(model.embed(said[:, -1]), repeated, state)
        total = scores + functional.log_softmax(logits, dim=1)  # (K, V)
        best, places = (total[0] if t == 0 else total.flatten()).topk(beam)
        rows, chosen = places // logits.shape[1], places % logits.shape[1]
        said = torch.cat([said[rows], chosen.unsqueeze(1)], dim=1)
        state, scores = (state[0][rows], state[1][rows]), best.unsqueeze(1)
    return said[0, 1:]


@torch.no_grad()  # autocast would cast the weights at every step anew in inference mode
def beam_of_a_batch(model: TopDown, regions: Tensor, beam: int, words: int, begin: int) -> Tensor:
    """ruotianluo's search: regions (B, R, D), all candidates of an image sorted → the best captions (B, words)."""
    images, vocabulary = len(regions), model.output.out_features
    seen = tuple(part.repeat_interleave(beam, dim=0) for part in model.prepare(regions))
    said = torch.full((images * beam, 1), begin)
    scores = torch.tensor([0.0] + [-1e9] * (beam - 1)).repeat(images, 1)  # (B, K); at first all are the same
    state = model.begin(said)
    first = torch.arange(images).unsqueeze(1) * beam
    for _ in range(words):
        logits, state = model.word(said[:, -1], seen, state)
        total = scores.unsqueeze(2) + functional.log_softmax(logits, dim=1).view(images, beam, vocabulary)
        ordered, places = total.flatten(1).sort(dim=1, descending=True)
        scores, places = ordered[:, :beam], places[:, :beam]
        rows = (first + places // vocabulary).flatten()
        said = torch.cat([said[rows], (places % vocabulary).view(-1, 1)], dim=1)
        (h1, c1), (h2, c2) = state
        state = (h1[rows], c1[rows]), (h2[rows], c2[rows])
    return said[::beam, 1:]


def _repeated(of_images: Tensor, tokens: Tensor) -> Tensor:
    """(B, …) → (C, …): each image once for each of its captions."""
    return of_images.repeat_interleave(len(tokens) // len(of_images), dim=0)


def _of_words(said: Tensor, tokens: Tensor) -> Tensor:
    """Logarithms of probabilities (C, T - 1, V), and tokens (C, T) → cross-entropy a word."""
    return functional.nll_loss(said.flatten(0, 1), tokens[:, 1:].flatten())
