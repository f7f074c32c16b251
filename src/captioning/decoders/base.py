"""The seam that every decoder shares: `init`, `step` and `forward`.

B images, C captions, N hypotheses (some of each image, side by side), R regions, D feature width, T tokens, V words.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.losses import Mean, caption_loss
from captioning.kernels import captions
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded

State = tuple[Tensor, ...]
"""What a decoder carries from word to word: tensors whose first axis is the hypothesis, (N, …). The last `shared` of a
decoder's are of the image, (B, …), and are not copied for each hypothesis: N is B, or a multiple of it."""


class Decoder(nn.Module):
    """The signatures of a decoder. `forward` and `step` unrolled give the same logits."""

    shared: int = 0
    """How many tensors of the state, the last ones, are of the image. `step` returns them as they are."""

    of_words: tuple[str, ...] = ("embedding.weight", "output.weight", "output.bias")
    """The parameters that have a row for each word; none: it is of no use with another vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def init(self, encoded: Encoded) -> State:
        """The state before the first word, one an image."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token (N,) each; return the logits of the next word (N, V) and the state after it."""
        raise NotImplementedError

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """Teacher forcing: tokens (C, T) that start with `<bos>` → logits (C, T, V) of what follows each.

        `owner` (C,) is the row of each caption's image in `encoded`.
        """
        raise NotImplementedError

    def losses(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """Captions `<bos> … <eos>`, padded (C, T), and their images' rows in `encoded` (C,) → the losses of a step.

        The names are the decoder's own, and so are the positions that each is a mean of. All decoders have `caption`,
        the cross-entropy of words, which validation reports. Here: that of each token after those before it.
        """
        logits = self(encoded, tokens[:, :-1], owner)  # (C, T - 1, V)
        return {"caption": caption_loss(logits, tokens, self.vocabulary.special)}

    def expect(self, counts: Tensor) -> None:
        """Called once before training. counts (V,): how often each word follows another in training captions.

        A decoder that does not use them does nothing.
        """

    def read_text_model(self, folder: Path) -> Path | None:  # noqa: ARG002
        """Called once before training, where `vocab.text` names the folder of a text model: begin with its weights.

        Returns the file that was read. A decoder that has no use for it does nothing.
        """
        return None


class AttendingDecoder(Decoder):
    """A decoder that reads regions, and gives its attention weights."""

    def attention(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """The weight of each region for the word after each of tokens (C, T): (C, T, R), sums of 1."""
        raise NotImplementedError


class RetrievalDecoder(Decoder):
    """A decoder that says captions of training images. It is made in one step, without gradients."""

    of_words = ()

    def fit(self, means: Tensor, tokens: Tensor, owner: Tensor) -> None:
        """Mean features (I, D) of the training images, and their captions `<bos> … <eos>`, padded (C, T).

        owner (C,): the row of each caption's image in `means`.
        """
        raise NotImplementedError

    def listed(self, encoded: Encoded) -> list[list[tuple[list[int], float]]]:
        """The captions that it has for each of the B images, and the log probability of each, likeliest first."""
        raise NotImplementedError

    def lend(self, encoded: Encoded) -> list[tuple[list[tuple[int, ...]], list[float], list[tuple[int, ...]]]]:
        """What other decoders may use of it, for each of the B images: see `captioning.search.lending.Lent`."""
        raise NotImplementedError


class ImageNorm(nn.BatchNorm1d):
    """BatchNorm of images (B, E). A single one has no spread: it is normalised by the stored statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, E) → (B, E)."""
        if self.training and len(input) == 1:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(input, mean, variance, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def regions_of(encoded: Encoded) -> Tensor:
    """Regions (B, R, D), for a decoder that attends. Raises UserError where the store has none."""
    if encoded.regions is None:
        raise UserError("this decoder attends to regions, and none are stored; set features.regions to auto or true")
    return encoded.regions


def bias_of(encoded: Encoded) -> Tensor:
    """What is added to the scores of regions: −∞ outside of the mask, else 0 (B, R); without a mask, (B, 0)."""
    if encoded.mask is None:
        return encoded.mean.new_zeros(len(encoded.mean), 0)
    return encoded.mean.new_zeros(encoded.mask.shape).masked_fill(~encoded.mask, -torch.inf)


def for_captions(state: State, owner: Tensor, shared: int) -> State:
    """The states of captions, from one hypothesis an image; owner (C,) is the row of each caption's image.

    The last `shared` tensors stay (B, …) where every image is known to have as many captions, side by side.
    """
    count = captions.each(owner, len(state[-1]))
    return select(state, owner) if count is None else side_by_side(state, count, shared)


def side_by_side(state: State, each: int, shared: int) -> State:
    """So many hypotheses of each image, side by side, of a state with one: all but the last `shared` are repeated."""
    own = len(state) - shared
    return (*(tensor.repeat_interleave(each, 0) for tensor in state[:own]), *state[own:])


def select(state: State, rows: Tensor) -> State:
    """The states of `rows` (C,), of a state with one hypothesis an image; with repetition for several captions."""
    return tuple(tensor.index_select(0, rows) for tensor in state)
