"""Self-critical sequence training (Rennie et al. 2017): captions are drawn from the model and rewarded as a whole.

    ∇ E_{y ~ p}[r(y)] = E[(r(y) − b) ∇ log p(y)]                       (Williams 1992; Rennie et al., section 3)
    b = r(ŷ), ŷ the greedy caption                                     greedy (Rennie et al., section 3.2)
    b_i = mean of r(y_j), j ≠ i, the other captions of the image       leave_one_out (Luo 2020)

No baseline depends on the caption that it is subtracted for, so that none changes the expectation.

Captions are drawn through `init` and `step`, without gradient; `forward` over what was drawn then gives log p(y) with
gradient, at once for all words, and needs nothing more from a decoder. Both passes must see one distribution, or the
estimate is of no model's reward, and masks of dropout would be others in each. So this phase has no dropout,
BatchNorm keeps its statistics, and hard attention weighs all regions: what is drawn from and differentiated is the
function that is validated. Images may be changed at random, once a step, ahead of both passes.

B images, S captions an image, C captions (B * S), L longest caption, T tokens, V words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from captioning.data.text.vocabulary import Special
from captioning.decoders.base import Decoder, State, select, side_by_side
from captioning.decoders.losses import Mean
from captioning.search import SearchOptions, search
from captioning.training import batches, optimization
from captioning.training.network import Network
from captioning.training.phase import Losses, Setup, Validated
from captioning.training.rewards import CiderReward
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.placement import moved

_BITS = 32  # of the random number that draws a word
_SCALE = 1 << 30  # probabilities as whole numbers: their products with random numbers fit into 63 bits


@dataclass(frozen=True)
class SelfCriticalOptions:
    """How long, how fast and against what; `train.self_critical` of params.yaml explains each."""

    seed: int
    epochs: int
    batch_size: int
    samples: int
    baseline: str
    weight_decay: float
    warmup_steps: int


class Policy(nn.Module):
    """Encoder and decoder of a network, as a distribution over captions."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.encode, self.decoder = network.encode, network.decoder
        self.encoder = network.encoder

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → log p of each caption, in nats, (C,)."""
        logits = self.decoder(self.encode(inputs), tokens[:, :-1], owner)
        return log_likelihood(logits, tokens[:, 1:], self.decoder.vocabulary.special)


class SelfCritical:
    """The phase. `modules` are what is trained, with peak learning rates; each image comes once an epoch.

    An encoder that is not among them is frozen in this phase, whichever of its blocks were trained before.
    """

    lowest: str | None = None
    remedy = "lower train.self_critical.lr or train.self_critical.encoder_lr"

    def __init__(
        self,
        setup: Setup,
        modules: Sequence[tuple[nn.Module, float]],
        reward: CiderReward,
        options: SelfCriticalOptions,
    ) -> None:
        reward.check(setup.data.vocabulary)
        self.module, self.epochs = Policy(setup.network), options.epochs
        self._setup, self._modules, self._reward, self._options = setup, modules, reward, options

    def enter(self, network: Network) -> None:
        """No dropout. The encoder learns if it is among the modules of the phase."""
        network.enter(encoder_learns=any(module is network.encoder for module, _ in self._modules), dropout=False)

    def leave(self, network: Network) -> None:
        """Dropout is as it was."""
        network.leave()

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW."""
        return optimization.adamw(self._modules, self._options.weight_decay)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """Warm-up, since the optimizer is new, then half a cosine over this phase."""
        return optimization.cosine(step, self.epochs * steps_per_epoch, self._options.warmup_steps)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Images, as rows of images.csv."""
        return batches.image_batches(self._setup.data.train, self._options.batch_size, (self._options.seed, epoch))

    def prepare(self, epoch: int) -> None:  # noqa: ARG002 (all epochs are alike)
        """The function that is validated; an encoder that is trained learns from the first epoch on."""
        self._setup.network.begin_rewards()

    def process_part(self, items: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """A run of the step's images."""
        part = np.array_split(items, world)[rank]
        return (part, 1.0) if len(part) else (items[:1], 0.0)

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:
        """−Σ (r − b) log p(y) / C, which descends as the expected reward of a caption rises; and what was drawn."""
        network, inputs, data, fabric = self._setup
        rows, samples, device = np.sort(part), self._options.samples, fabric.device
        drawn = inputs.draw(rows, device)  # once: both passes see the same images
        owner = torch.arange(len(rows)).repeat_interleave(samples)
        with torch.no_grad(), fabric.autocast():
            drawn = network.through_frozen_blocks(drawn)
            encoded = network.encode(drawn)
            tokens = sample(network.decoder, encoded, self._random(rows, epoch))
            greedy = self._greedy(encoded) if self._options.baseline == "greedy" else None
        rewards = torch.from_numpy(self._reward.score(rows, tokens[:, 1:].numpy(force=True), owner.numpy()))
        if greedy is None:
            baseline = leave_one_out(rewards.view(-1, samples)).flatten()
        else:
            baseline = torch.from_numpy(self._reward.score(rows, greedy, np.arange(len(rows))))[owner]
        advantage = (rewards - baseline).float()
        likelihood = wrapped(drawn, tokens, moved(owner, device))
        captions, words = torch.tensor(len(owner), device=device), _words(tokens, data.vocabulary.special)
        logged = {
            "reward/sample": rewards,
            "reward/baseline": baseline,
            "words/sample": words,
        }
        return Losses(
            {"self_critical": Mean(-(moved(advantage, device) * likelihood).mean(), captions)},
            {name: Mean(values.float().mean().to(device), captions) for name, values in logged.items()},
            len(rows),
        )

    def validate(self, captions: Callable[[], Validated]) -> Validated:
        """Captions, which are what it trains."""
        return captions()

    def _random(self, rows: np.ndarray, epoch: int) -> Tensor:
        """What draws the captions of `rows` (B,) in an epoch: (B, S, L), the same in whatever step and process."""
        shape = (self._options.samples, self._setup.data.longest)
        generators = (np.random.default_rng((self._options.seed, epoch, 1 + int(row))) for row in rows)
        numbers = np.stack([generator.integers(1 << _BITS, size=shape) for generator in generators])
        return moved(torch.from_numpy(numbers), self._setup.fabric.device)

    def _greedy(self, encoded: Encoded) -> np.ndarray:
        """The captions that validation would give, with `<eos>`, padded: (B, T)."""
        options = SearchOptions(beam_size=1, max_words=self._setup.data.longest)
        special = self._setup.data.vocabulary.special
        hypotheses = search(self._setup.network.decoder, encoded, options)
        captions = [torch.tensor([*hypothesis.ids, special.eos]) for hypothesis in hypotheses]
        return pad_sequence(captions, batch_first=True, padding_value=special.pad).numpy()


def leave_one_out(rewards: Tensor) -> Tensor:
    """rewards (B, S) → for each caption the mean reward of the other captions of its image, (B, S)."""
    return (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def log_likelihood(logits: Tensor, tokens: Tensor, special: Special) -> Tensor:
    """logits (C, T, V), the tokens (C, T) that followed, padded → log p of each caption, in nats, (C,)."""
    nats = functional.cross_entropy(
        _sayable(logits, special).flatten(0, 1), tokens.flatten(), ignore_index=special.pad, reduction="none"
    )
    return -nats.view(tokens.shape).sum(1)


def _sayable(logits: Tensor, special: Special) -> Tensor:
    """logits (…, V) with those of `<pad>`, `<bos>` and `<unk>` at −∞: what captions are drawn from."""
    never = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    never[special.unsayable] = True
    return logits.float().masked_fill(never, -torch.inf)


def _words(tokens: Tensor, special: Special) -> Tensor:
    """Words a caption, without `<bos>`, `<eos>` and padding: (C,)."""
    return torch.isin(tokens, tokens.new_tensor(special), invert=True).sum(1)


@torch.no_grad()
def sample(decoder: Decoder, encoded: Encoded, random: Tensor) -> Tensor:
    """Draw S captions for each image: `<bos> … <eos>`, padded, (C, T), T at most 1 + L.

    random: whole numbers below 2³², (B, S, L), one a word. A caption that has L words without an end is cut there, and
    has no `<eos>`. Images whose captions have all ended leave the batch when they are a quarter of it: to copy the
    state costs time too.
    """
    longest, special = random.shape[2], decoder.vocabulary.special
    state = side_by_side(decoder.init(encoded), random.shape[1], decoder.shared)
    if not decoder.shared:
        random = random.reshape(-1, 1, longest)  # nothing is of the image: its captions can leave one by one
    images, samples = random.shape[:2]
    going = torch.arange(images, device=random.device)  # images in the batch
    tokens = random.new_full((images, samples, 1 + longest), special.pad)
    tokens[:, :, 0] = special.bos
    ended = torch.zeros_like(tokens[:, :, 0], dtype=torch.bool)  # (B, S)
    for position in range(longest):
        logits, state = decoder.step(tokens[going, :, position].flatten(), state)
        words = draw(_sayable(logits, special).softmax(1), random[going, :, position].flatten()).view_as(ended)
        words = words.masked_fill(ended, special.pad)
        tokens[going, :, position + 1] = words
        ended |= words == special.eos
        over = ended.all(1)
        left = len(going) - int(over.sum())
        if left == 0:
            return tokens.flatten(0, 1)[:, : position + 2]
        if 4 * left <= 3 * len(going):
            unfinished = (~over).nonzero().squeeze(1)
            state = _of_images(state, unfinished, samples, decoder.shared)
            going, ended = going[unfinished], ended[unfinished]
    return tokens.flatten(0, 1)


def _of_images(state: State, images: Tensor, samples: int, shared: int) -> State:
    """The state of S captions of each of the images (B,)."""
    own = len(state) - shared
    captions = (images.unsqueeze(1) * samples + torch.arange(samples, device=images.device)).flatten()
    return (*select(state[:own], captions), *select(state[own:], images))


def draw(probabilities: Tensor, random: Tensor) -> Tensor:
    """A word for each row of probabilities (N, V), by the inverse of the distribution function: (N,).

    random (N,): whole numbers below 2³². Sums are of whole numbers too, so that they are exact on every device, and a
    word of probability 0 is never drawn; nor is one below 10⁻⁹.
    """
    below = (probabilities * _SCALE).long().cumsum(1)
    quantile = random * below[:, -1] >> _BITS
    return torch.searchsorted(below, quantile.unsqueeze(1), right=True).squeeze(1)
