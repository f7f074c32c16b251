"""What a decoder reads in training in place of some of the true words: words of its own, or `<unk>`.

Targets are the true words throughout, and `<bos>`, `<eos>` and padding are read as they are.

C captions, M replaced words, T tokens, V words.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from captioning.data.text.vocabulary import BOS, EOS, PAD, UNK
from captioning.decoders.base import Decoder
from captioning.vision.encoders.encoded import Encoded

_NEVER = [PAD, BOS, EOS, UNK]  # are drawn: a search reads none of them either


class ScheduledSampling(NamedTuple):
    """The fraction of words that are the decoder's own; the section `train.scheduled_sampling` of params.yaml."""

    probability: float = 0.0
    first_epoch: int = 1
    last_epoch: int = 1

    def at(self, epoch: int) -> float:
        """The fraction in `epoch`, counted from 1: it rises in equal steps, to `probability` in `last_epoch`.

        The linear one of the three schedules of Bengio et al. 2015, section 2.4.
        """
        rise = (epoch - self.first_epoch + 1) / (self.last_epoch - self.first_epoch + 1)
        return self.probability * min(1.0, max(0.0, rise))


class Teacher:
    """Decides what a decoder reads. word_dropout: fraction of words that become `<unk>` (Bowman et al. 2016, 3.1)."""

    def __init__(self, word_dropout: float = 0.0, sampling: ScheduledSampling | None = None) -> None:
        self.word_dropout, self.sampling = word_dropout, sampling or ScheduledSampling()
        self.sampled_fraction = 0.0  # of words that are the decoder's own, in this epoch

    def begin(self, epoch: int) -> None:
        """An epoch begins, counted from 1."""
        self.sampled_fraction = self.sampling.at(epoch)

    def epoch_scalars(self) -> dict[str, float]:
        """What an epoch's row of scalars says of the teacher: nothing where it does not change."""
        return {"train/scheduled_sampling": self.sampled_fraction} if self.sampling.probability else {}

    def inputs(self, decoder: Decoder, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → what is read in training, (C, T − 1)."""
        read = tokens[:, :-1]
        if self.sampling.probability:
            read = self._sample(decoder, encoded, read, owner)
        if self.word_dropout:
            read = torch.where(_random_words(read, self.word_dropout), UNK, read)
        return read

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _sample(self, decoder: Decoder, encoded: Encoded, read: Tensor, owner: Tensor) -> Tensor:
        """What is read (C, T), with a fraction of the words drawn from the decoder (Bengio et al. 2015).

        All are drawn from one pass over the true words, ahead of the pass with a gradient (Mihaylova and Martins 2019;
        Duckworth et al. 2019, with one pass). Bengio's words are drawn one after the other, which would be a loop over
        `step` for every decoder; so each decoder keeps its way of reading a caption at once, and pays one `forward`
        more. A word is drawn as if those before it were true, which is off where neighbours are replaced.
        The pass is in eval mode: the decoder speaks as in a search, and no statistics move.
        """
        if not self.sampled_fraction:
            return read
        decoder.eval()
        logits = decoder(encoded, read, owner)  # (C, T, V)
        decoder.train()
        replaced = _random_words(read, self.sampled_fraction)
        replacements = logits[:, :-1][replaced[:, 1:]].float()  # (M, V): where the word before was read
        replacements[:, _NEVER] = -torch.inf
        return read.masked_scatter(replaced, torch.multinomial(replacements.softmax(1), 1))


def _random_words(read: Tensor, fraction: float) -> Tensor:
    """Which of read (C, T) are replaced, bool (C, T): each word with probability `fraction`."""
    words = (read != PAD) & (read != BOS) & (read != EOS)
    return words & (torch.rand(read.shape, device=read.device) < fraction)
