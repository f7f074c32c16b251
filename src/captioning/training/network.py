"""What is trained: a decoder on stored features, or encoder and decoder together.

B images, C captions, D feature width, R regions, S side in pixels, T tokens, V words.
"""

from torch import Tensor, nn

from captioning.decoders.base import Decoder
from captioning.decoders.bert import Contrast
from captioning.decoders.losses import Mean
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.vision.encoders.at_boxes import Places
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features import encodings


class Network(nn.Module):
    """The network of a training. Its inputs are pixels of images, or without an encoder their stored features.

    heads: losses of the encoder beside those of the decoder. reads_objects: the decoder reads vectors of objects, and
    `Places` are the last of the inputs. contrast: what pretraining reads the decoder with, if there is that phase.
    A phase calls `enter`, before each of its epochs one of `begin_captions`, `begin_labels`, `begin_pretraining` and
    `begin_rewards`, and `leave` at its end.
    """

    def __init__(
        self,
        encoder: EncoderTraining | None,
        decoder: Decoder,
        heads: EncoderHeads | None = None,
        *,
        reads_objects: bool = False,
        contrast: Contrast | None = None,
    ) -> None:
        super().__init__()
        self.encoder_training = encoder
        self.encoder: Encoder | None = None if encoder is None else encoder.encoder
        self.decoder, self.heads = decoder, heads
        self.contrast = None if contrast is None else contrast.requires_grad_(False)  # until its phase begins
        self.reads_objects = reads_objects
        self._dropout: dict[nn.RNNBase, float] = {}  # what `leave` restores

    def enter(self, *, encoder_learns: bool = True, dropout: bool = True) -> None:
        """A phase begins. encoder_learns: False: all blocks are frozen in it. dropout: False: also off in train mode.

        torch's recurrent networks stay in train mode then, since cuDNN gives no gradient of them in eval mode.
        """
        if self.encoder_training is not None:
            self.encoder_training.enter(learns=encoder_learns)
        if not dropout:
            self._dropout = {module: module.dropout for module in self.modules() if isinstance(module, nn.RNNBase)}
        for module in self._dropout:
            module.dropout = 0.0

    def leave(self) -> None:
        """The phase ends: dropout that was off is as it was."""
        for module, probability in self._dropout.items():
            module.dropout = probability
        self._dropout = {}

    def begin_captions(self, epoch: int) -> None:
        """An epoch of cross-entropy begins, counted from 1."""
        if self.encoder_training is not None:
            self.encoder_training.begin_captions(epoch)
        self.train()

    def begin_labels(self) -> None:
        """An epoch in which labels alone are learnt begins."""
        if self.encoder_training is not None:
            self.encoder_training.begin_labels()
        self.train()

    def begin_pretraining(self) -> None:
        """An epoch of pretraining begins: the decoder alone learns."""
        if self.encoder_training is not None:
            self.encoder_training.begin_pretraining()
        self.train()

    def begin_rewards(self) -> None:
        """An epoch of rewards begins: all is in eval mode, except for recurrent networks without dropout."""
        self.eval()
        if self.encoder_training is not None:
            self.encoder_training.begin_rewards()
        for module in self._dropout:
            module.train()

    def train(self, mode: bool = True) -> "Network":
        """As in torch, but the encoder's modules have the modes of their phase and epoch."""
        super().train(mode)
        if self.encoder_training is not None:
            self.encoder_training.set_modes(training=mode)
        return self

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        encoder = {} if self.encoder is None else {"encoder": self.encoder}
        decoder = {f"decoder_{name}": module for name, module in self.decoder.named_children()}
        contrast = {} if self.contrast is None else {"contrast": self.contrast}
        return {**encoder, **decoder, **contrast, **({} if self.heads is None else self.heads.parts())}

    def through_frozen_blocks(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pixels → what the frozen blocks make of them, once they run apart; until then, or without any, the inputs.

        `Places` of objects come behind the pixels, and stay as they are.
        """
        if self.encoder_training is None:
            return inputs
        return (*self.encoder_training.through_frozen(inputs[:1]), *inputs[1:])

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """What `through_frozen_blocks` returned → regions (B, R, D), where there are any, and their mean (B, D)."""
        if self.encoder is None:
            return encodings.encode_features(inputs)
        return self._placed(self.encode_grid(inputs), inputs)

    def encode_grid(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """As `encode`, of a trained encoder, over its grid whatever the objects are."""
        assert self.encoder_training is not None
        return self.encoder_training.encode(inputs[: len(inputs) - len(self._places(inputs))])

    def _places(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return inputs[-len(Places._fields) :] if self.reads_objects else ()

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor, *labels: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,), labels (B, K) and, where they are located, (B, R, K) → the losses of the step."""
        inputs = self.through_frozen_blocks(inputs)
        grid = None if self.encoder is None else self.encode_grid(inputs)
        encoded = self.encode(inputs) if grid is None else self._placed(grid, inputs)
        losses: dict[str, Mean] = self.decoder.losses(encoded, tokens, owner)
        return losses if self.heads is None else losses | self.heads(grid, tokens, owner, *labels)

    def _placed(self, grid: Encoded, inputs: tuple[Tensor, ...]) -> Encoded:
        assert self.encoder is not None
        return encodings.placed(self.encoder, grid, self._places(inputs))
