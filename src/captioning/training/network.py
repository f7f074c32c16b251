"""What is trained: a decoder on stored features, or encoder and decoder together.

B images, C captions, D feature width, R regions, S side in pixels, T tokens, V words.
"""

from torch import Tensor, nn

from captioning.decoders.base import Decoder
from captioning.decoders.losses import Mean
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features import encodings


class Network(nn.Module):
    """The network of a training. Its inputs are pixels of images, or without an encoder their stored features.

    heads: losses of the encoder beside those of the decoder. A phase calls `enter`, before each of its epochs one of
    `begin_captions`, `begin_labels` and `begin_rewards`, and `leave` at its end.
    """

    def __init__(
        self,
        encoder: EncoderTraining | None,
        decoder: Decoder,
        heads: EncoderHeads | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder_training = encoder
        self.encoder: Encoder | None = None if encoder is None else encoder.encoder
        self.decoder, self.heads = decoder, heads
        self.label_smoothing = label_smoothing
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
        return {**encoder, **decoder, **({} if self.heads is None else self.heads.parts())}

    def through_frozen_blocks(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pixels → what the frozen blocks make of them, once they run apart; until then, or without any, the inputs."""
        return inputs if self.encoder_training is None else self.encoder_training.through_frozen(inputs)

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """What `through_frozen_blocks` returned → regions (B, R, D), where there are any, and their mean (B, D)."""
        if self.encoder_training is None:
            return encodings.encode_features(inputs)
        return self.encoder_training.encode(inputs)

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor, *labels: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,), labels (B, K) and, where they are located, (B, R, K) → the losses of the step."""
        encoded = self.encode(self.through_frozen_blocks(inputs))
        losses = self.decoder.losses(encoded, tokens, owner, self.label_smoothing)
        return losses if self.heads is None else losses | self.heads(encoded, tokens, owner, *labels)
