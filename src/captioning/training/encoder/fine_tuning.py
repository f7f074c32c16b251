"""Which blocks of a trained encoder learn in each phase and epoch, in which mode they are, and how pixels pass them.

| phase | blocks that learn | their mode |
|---|---|---|
| labels | those from `from_block` on | train |
| pretraining | none | eval |
| captions, ahead of `start_epoch` | none | eval |
| captions, from `start_epoch` on | those from `from_block` on | train |
| rewards (self-critical) | those from `from_block` on, or none | eval |

All other blocks are frozen: in eval mode, without gradients. Since nothing ahead of a frozen block is trained, no
backward pass enters it, and none of its activations are kept. With `batchnorm: eval`, BatchNorm is always in eval mode.

B images, R regions, D feature width, S side in pixels.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from captioning.kernels import convolutions
from captioning.training.encoder import blocks
from captioning.training.encoder.division import Divided, divide
from captioning.vision.encoders.encoded import Encoded, of_regions
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features import encodings


class EncoderTraining:
    """An encoder and the plan of its training: the only place that sets modes and gradients of its modules.

    from_block: the first block that is trained; `all` or `none`. start_epoch: the epoch of captions, counted from 1,
    from which on it learns. batchnorm: `batch`: by the batch while the block learns; `eval`: by the stored statistics.
    Until an epoch begins nothing learns. Raises UserError when there is no such block.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        from_block: str = blocks.ALL,
        start_epoch: int = 1,
        batchnorm: Literal["batch", "eval"] = "batch",
    ) -> None:
        self.encoder, self._start_epoch = encoder, start_epoch
        self._held = [module for module in encoder.modules() if isinstance(module, _BatchNorm) and batchnorm == "eval"]
        ahead = blocks.ahead_of(encoder, from_block)
        for parameter in blocks.parameters_in(encoder, ahead):
            parameter.requires_grad_(False)
        self._trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        convolutions.quicken(encoder)
        self._ahead = self.frozen = blocks.modules_of(encoder, ahead)
        self._learns = False
        self.divided: Divided | None = None

    @property
    def trains(self) -> bool:
        """Is any block trained in any epoch?"""
        return bool(self._trained)

    def enter(self, *, learns: bool) -> None:
        """A phase begins, in which the encoder learns sooner or later, or in which all of its blocks are frozen."""
        for parameter in self._trained:
            parameter.requires_grad_(learns)
        frozen = self._ahead if learns else blocks.modules_of(self.encoder, blocks.ahead_of(self.encoder, blocks.NONE))
        if frozen != self.frozen:
            self.frozen, self.divided = frozen, None

    def begin_labels(self) -> None:
        """An epoch of labels begins."""
        self._begin(learns=True)

    def begin_pretraining(self) -> None:
        """An epoch of pretraining begins."""
        self._begin(learns=False)

    def begin_captions(self, epoch: int) -> None:
        """An epoch of captions begins, counted from 1."""
        self._begin(learns=epoch >= self._start_epoch)

    def begin_rewards(self) -> None:
        """An epoch of rewards begins."""
        self._begin(learns=True)

    def _begin(self, *, learns: bool) -> None:
        """Frozen blocks run apart from now on. The encoder has its weights, and is on its device."""
        self._learns = learns
        self.set_modes(training=self.encoder.training)
        self.divided = self.divided or divide(self.encoder, self.frozen)

    def set_modes(self, *, training: bool) -> None:
        """Put each module into its mode, while the network around the encoder is in train or eval mode."""
        self.encoder.train(training and self._learns)
        for module in (*self._held, *self.frozen):
            module.eval()

    def through_frozen(self, pixels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """uint8 (B, 3, S, S) → what the frozen blocks make of them; pixels, where none runs apart."""
        return pixels if self.divided is None else self.divided.ahead(*pixels)

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """What `through_frozen` returned → regions (B, R, D) and their mean (B, D)."""
        with torch.set_grad_enabled(self._learns and torch.is_grad_enabled()):
            if self.divided is None:
                return encodings.encode_pixels(self.encoder, inputs)
            regions = self.divided.regions(inputs)
            return of_regions(regions)
