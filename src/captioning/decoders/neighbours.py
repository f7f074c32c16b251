"""Captions of the nearest training images, of which the one that agrees most with the others is said.

Nothing is learnt by gradients. A ridge regression maps an image's feature to the space of the training captions
(tf-idf, reduced by a singular value decomposition). Images are near each other where their predictions in it are. All
captions of the K nearest training images are candidates; each is ranked by how like it is to the others (Devlin et al.
2015, "Exploring nearest neighbor approaches for image captioning", who compare images by their features alone).

The ranked candidates are put as a distribution over captions, in which each has a twentieth of the probability of the
one before it. So `step` gives words like that of any decoder, and every search finds the candidates in their order.

B images, C training captions, D feature width, G kinds of n-gram, I training images, K candidates of an image,
N hypotheses, R ranked candidates, S width of the captions' space, T tokens, V words.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.return_types import topk

from captioning.data.text import caption_space
from captioning.data.text.caption_space import CaptionSpace
from captioning.data.text.ngram_vectors import NgramVectors, image_means
from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import RetrievalDecoder, State, for_captions
from captioning.settings.decoders import NeighboursOptions
from captioning.vision.encoders.encoded import Encoded

RANKED = 25  # candidates that a search can find
STEP = 3.0  # nats between the log probabilities of one candidate and the next
IMPOSSIBLE = -100.0  # logit of a word with which no candidate goes on, beside the likeliest's 0
VOTE = 4  # longest n-grams of the vote
SIGMA = 6.0  # words: of the Gaussian in the difference of lengths
_DIGITS = 5  # of a vote: sums on two machines differ later, and must not decide between equals


class NeighboursDecoder(RetrievalDecoder):
    """The state: which candidates begin as the hypothesis does (N, R), and its length (N,); the candidates and their
    log probabilities are the image's."""

    shared = 2
    space: Tensor  # (D, S) ridge regression
    mean: Tensor  # (D,) of the training images' features
    deviation: Tensor  # (D,)
    images: Tensor  # (I, S) the training images in the space, of length 1
    captions: Tensor  # (C, T) int32: words, <eos>, padding
    owner: Tensor  # (C,) int32: the row of each caption's image in `images`

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: NeighboursOptions) -> None:
        super().__init__(vocabulary)
        self.options = options
        width = options.dimensions
        self.register_buffer("space", torch.zeros(feature_size, width))
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("deviation", torch.ones(feature_size))
        self.register_buffer("images", torch.zeros(1, width))
        self.register_buffer("captions", torch.full((1, 2), vocabulary.special.eos, dtype=torch.int32))
        self.register_buffer("owner", torch.zeros(1, dtype=torch.int32))
        self._vectors: NgramVectors | None = None

    def fit(self, means: Tensor, tokens: Tensor, owner: Tensor) -> None:
        """Keep what `init` looks up. means (I, D); tokens (C, 1 + T) with `<bos>`, owner (C,) in 0 … I − 1.

        A caption with a word that the vocabulary lacks, or that was cut, is not a candidate.
        """
        special = self.vocabulary.special
        said = image_means(tokens[:, 1:], owner, len(means), caption_space.ORDER, special)  # (I, G) sparse
        fitted = caption_space.fit(means, caption_space.reduced(said, self.options.dimensions), self.options.ridge)
        self.mean, self.deviation, self.space = fitted
        self.images = fitted.place(means)
        whole = (tokens == special.eos).any(1) & ~(tokens == special.unk).any(1)
        self.captions, self.owner = tokens[whole, 1:].int(), owner[whole].int()
        self._vectors = None

    def init(self, encoded: Encoded) -> State:
        """mean (B, D) → the ranked candidates of each image, all of which are possible."""
        near = self._nearest(encoded.mean).indices  # (B, K')
        ranked = [self._rank(row) for row in near]  # (R, T) each
        rank = torch.arange(RANKED, device=near.device)
        found = torch.tensor([len(rows) for rows in ranked], device=near.device).unsqueeze(1)
        pad = self.vocabulary.special.pad
        filled = [functional.pad(rows, (0, 1, 0, RANKED - len(rows)), value=pad) for rows in ranked]
        log_probability = torch.log_softmax((-STEP * rank).masked_fill(rank >= found, -torch.inf), 1)  # (B, R)
        candidates = torch.stack(filled).long()  # (B, R, T + 1)
        length = torch.zeros(len(near), dtype=torch.long, device=near.device)
        return rank < found, length, candidates, log_probability

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V): the logarithm of what the candidates that go on with each word have together."""
        alive, length, *images = state
        candidates, log_probability = (tensor.repeat_interleave(len(alive) // len(tensor), 0) for tensor in images)
        last = candidates.shape[2] - 1
        said = _words(candidates, (length - 1).clamp(min=0))  # (N, R)
        alive = alive & ((length == 0).unsqueeze(1) | (said == tokens.unsqueeze(1)))
        words = _words(candidates, length.clamp(max=last))  # (N, R)
        logits = self._logits(words, log_probability.masked_fill(~alive, -torch.inf))
        return logits, (alive, length + 1, *images)

    def listed(self, encoded: Encoded) -> list[list[tuple[list[int], float]]]:
        """mean (B, D) → the ranked candidates of each image."""
        alive, _, candidates, nats = self.init(encoded)
        found = zip(candidates, nats, alive.sum(1).tolist(), strict=True)
        return [[*zip(self._ids(rows[:count]), of[:count].tolist(), strict=True)] for rows, of, count in found]

    def lend(self, encoded: Encoded) -> list[tuple[list[tuple[int, ...]], list[float], list[tuple[int, ...]]]]:
        """mean (B, D) → captions of each image's nearest images, what each counts, and the ranked ones among them."""
        near = self._nearest(encoded.mean)  # (B, K') each
        return [self._lent(*one) for one in zip(near.values, near.indices, strict=True)]

    def _lent(
        self, similarity: Tensor, near: Tensor
    ) -> tuple[list[tuple[int, ...]], list[float], list[tuple[int, ...]]]:
        rows = torch.isin(self.owner, near.int()).nonzero().squeeze(1)  # (K,)
        of_captions = (self.owner[rows].unsqueeze(1) == near.unsqueeze(0)).to(similarity) @ similarity
        weights = torch.softmax(caption_space.LIKE * of_captions.double(), 0)
        captions, candidates = (
            [tuple(ids) for ids in self._ids(chosen)] for chosen in (self.captions[rows], self._rank(near))
        )
        return captions, weights.tolist(), candidates

    def _ids(self, rows: Tensor) -> list[list[int]]:
        """Rows of `captions` (R, T) → the ids of their words."""
        words = (rows != self.vocabulary.special.eos) & (rows != self.vocabulary.special.pad)
        return [row[known].tolist() for row, known in zip(rows, words, strict=True)]

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V), word by word."""
        state, logits = for_captions(self.init(encoded), owner, 0), []
        for column in tokens.unbind(1):
            step, state = self.step(column, state)
            logits.append(step)
        return torch.stack(logits, 1)

    def _logits(self, words: Tensor, nats: Tensor) -> Tensor:
        """The next word of each candidate and its log probability, (N, R) → logits (N, V); without any, `<eos>`."""
        best = nats.amax(1, keepdim=True)
        none = torch.isinf(best)
        share = torch.exp(nats - best.masked_fill(none, 0.0))
        total = share.new_zeros(len(words), len(self.vocabulary)).scatter_add_(1, words, share)
        total[none.squeeze(1), self.vocabulary.special.eos] = 1.0
        return total.log().clamp(min=IMPOSSIBLE)

    def _nearest(self, means: Tensor) -> topk:
        """(B, D) → the nearest training images, nearest first: cosines and rows, (B, options.neighbours or all)."""
        similarity = CaptionSpace(self.mean, self.deviation, self.space).place(means) @ self.images.T  # (B, I)
        return similarity.topk(min(self.options.neighbours, len(self.images)), dim=1)

    def _rank(self, near: Tensor) -> Tensor:
        """Rows of training images (K',) → their captions that agree most, best first, no two alike: (R, T)."""
        rows = torch.isin(self.owner, near.int()).nonzero().squeeze(1)  # (K,)
        lengths = (self.captions[rows] != self.vocabulary.special.pad).sum(1)
        votes = vote(self._compared().similarity(rows), self.owner[rows], lengths)
        order = votes.argsort(descending=True, stable=True)
        distinct: dict[tuple[int, ...], int] = {}
        for row in rows[order].tolist():
            distinct.setdefault(tuple(self.captions[row].tolist()), row)
            if len(distinct) == RANKED:
                break
        return self.captions[list(distinct.values())]

    def _compared(self) -> NgramVectors:
        """The vectors of all captions, made at the first look."""
        if self._vectors is None:
            special = self.vocabulary.special
            self._vectors = NgramVectors(self.captions, self.owner, len(self.images), VOTE, special)
        return self._vectors

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """As in torch, whatever number of images and captions the state has."""
        for name in ("images", "captions", "owner"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.mean.device))
        self._vectors = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def vote(similarity: Tensor, owner: Tensor, lengths: Tensor) -> Tensor:
    """How far candidates agree: the sum of each one's similarityes (K, K) to the others, (K,).

    owner (K,): whose each is. lengths (K,). A caption of the same image counts half, and itself not at all. One of
    another length is less like, by the Gaussian of CIDEr-D (Vedantam et al. 2015).
    """
    longer = lengths.unsqueeze(0) - lengths.unsqueeze(1)
    same = owner.unsqueeze(0) == owner.unsqueeze(1)
    others = similarity * torch.exp(-(longer**2) / (2 * SIGMA**2)) * torch.where(same, 0.5, 1.0)
    return others.fill_diagonal_(0.0).sum(1).double().round(decimals=_DIGITS)


def _words(candidates: Tensor, position: Tensor) -> Tensor:
    """candidates (N, R, T), position (N,) → the word of each there, (N, R)."""
    return candidates.gather(2, position.view(-1, 1, 1).expand(-1, candidates.shape[1], 1)).squeeze(2)


def build(vocabulary: Vocabulary, feature_size: int, **options: Any) -> NeighboursDecoder:
    """The entry of the table of decoders: `options` are the fields of NeighboursOptions."""
    return NeighboursDecoder(vocabulary, feature_size, NeighboursOptions(**options))
