"""The options of the decoders: the sections `decoders.NAME` of params.yaml.

A new decoder has its options here, and itself in the module `captioning.decoders.NAME`. A field with a value is a
constant of the decoder's paper, and no setting. Model folders record it. `attends`: it reads regions, not only their
mean. `retrieves`: it says captions of training images, and has no gradients. `pretrains`: it has a phase of
pretraining.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from captioning.settings.sections import (
    Auto,
    Few,
    Flag,
    Fraction,
    Meaning,
    NonNegative,
    Positive,
    Section,
    Share,
    Width,
)


@dataclass(frozen=True)
class LstmOptions:
    """The image as the first word of an LSTM."""

    embedding_size: Annotated[Width, Meaning("width of word and image embeddings"), Auto(256, 128)]
    hidden_size: Annotated[Width, Meaning("width of the LSTM"), Auto(256, 512)]
    layers: Annotated[Width, Meaning("LSTM layers")]
    dropout: Annotated[Fraction, Meaning("on word embeddings and on the LSTM's output")]
    picture: Annotated[
        Literal["yunjey", "nic"],
        Meaning("how the image becomes the first word: yunjey (linear, BatchNorm) | nic (linear, ReLU)"),
    ] = "yunjey"


@dataclass(frozen=True)
class NeuralTalkOptions:
    """NeuralTalk's RNN, or its LSTM (Karpathy and Fei-Fei 2015). embedding_size: width of word embeddings."""

    cell: Annotated[
        Literal["rnn", "lstm"], Meaning("rnn (the image is added at every step) | lstm (the image is the first word)")
    ]
    hidden_size: Annotated[Width, Meaning("width of the RNN or LSTM")]
    dropout: Annotated[Fraction, Meaning("on embeddings and on the network's output")]
    embedding_size: Width = 256


@dataclass(frozen=True)
class AttentionOptions:
    """Show, Attend and Tell (Xu et al. 2015).

    dropout: on the LSTM's output and on the deep output.
    embedding_size, hidden_size: widths of word embeddings and of the LSTM.
    attention_size: width in which regions and state are compared.
    doubly_stochastic: soft attention, weight of the penalty on neglected regions (equation 14).
    reinforce, entropy: hard attention, weights of the REINFORCE gradient and of the bonus on entropy (section 4.1).
    sampling: hard attention, share of captions whose regions are sampled, not weighted.
    """

    attends = True

    kind: Annotated[
        Literal["soft", "hard"], Meaning("soft (all regions, weighted) | hard (one sampled region, by REINFORCE)")
    ]
    dropout: Fraction = 0.5
    embedding_size: Width = 256
    hidden_size: Width = 512
    attention_size: Width = 256
    doubly_stochastic: NonNegative = 1.0
    reinforce: NonNegative = 1.0
    entropy: NonNegative = 0.002
    sampling: Share = 0.5


@dataclass(frozen=True)
class UpDownOptions:
    """Bottom-up and top-down attention (Anderson et al. 2018).

    hidden_size: width of both LSTMs. embedding_size, attention_size: as in `AttentionOptions`.
    """

    attends = True

    dropout: Annotated[Fraction, Meaning("on embeddings and on the language LSTM's output")]
    embedding_size: Width = 256
    hidden_size: Width = 512
    attention_size: Width = 256


@dataclass(frozen=True)
class TransformerOptions:
    """A transformer decoder (Vaswani et al. 2017)."""

    attends = True

    width: Annotated[Width, Meaning("width of every layer, a multiple of 2 * heads"), Auto(128, 256)]
    layers: Annotated[Width, Meaning("layers"), Auto(2, 3)]
    heads: Annotated[Width, Meaning("heads of each attention")]
    feed_forward: Annotated[Width, Meaning("width inside each feed-forward block"), Auto(256, 1024)]
    dropout: Annotated[Fraction, Meaning("after every block of a layer, on embeddings and on regions"), Auto(0.0, 0.1)]


@dataclass(frozen=True)
class NeighboursOptions:
    """Captions of the nearest training images (Devlin et al. 2015, behind a ridge regression).

    ridge: the penalty of the regression; from 300 to 10,000, CIDEr differs by .02 on Flickr8k (docs/journal.md).
    dimensions: of the space of captions in which images are compared.
    """

    retrieves = True

    neighbours: Annotated[Few, Meaning("training images whose captions are candidates")]
    ridge: Positive = 3000.0
    dimensions: Width = 300


@dataclass(frozen=True)
class OscarOptions:
    """BERT over tags, regions and the caption (Li et al. 2020; Zhang et al. 2021).

    positions: how many the table of positions has, in BERT and here.
    """

    attends = True
    codes_boxes = True
    pretrains = True
    reads_tags = True

    width: Annotated[
        Width,
        Meaning("auto (the text model's, else 128 on scenes, 256 on photographs) | width of every layer"),
        Auto(),
    ]
    layers: Annotated[
        Width,
        Meaning("auto (the text model's, else 2 on scenes, 3 on photographs) | layers, the first ones of a text model"),
        Auto(),
    ]
    heads: Annotated[Width, Meaning("auto (the text model's, else 4) | heads of each attention"), Auto()]
    feed_forward: Annotated[
        Width,
        Meaning(
            "auto (the text model's, else 256 on scenes, 1024 on photographs) | width inside each feed-forward block"
        ),
        Auto(),
    ]
    dropout: Annotated[Fraction, Meaning("after every block of a layer, on embeddings and on regions"), Auto(0.0, 0.1)]
    image_norm: Annotated[
        Flag,
        Meaning("auto (true, but false for a published Oscar) | true (regions are normalised, as in VinVL) | false"),
        Auto(),
    ]
    positions: Width = 512


class Decoders(Section):
    """A section for each decoder; an experiment reads that of its own."""

    lstm: LstmOptions
    neuraltalk: NeuralTalkOptions
    attention: AttentionOptions
    updown: UpDownOptions
    transformer: TransformerOptions
    neighbours: NeighboursOptions
    oscar: OscarOptions


def names() -> tuple[str, ...]:
    """The names of all decoders."""
    return tuple(Decoders.model_fields)


def codes_boxes(name: str) -> bool:
    """Does a decoder put the box code behind vectors of objects itself? For others it is there already."""
    return bool(getattr(Decoders.model_fields[name].annotation, "codes_boxes", False))


def reads_tags(name: str) -> bool:
    """Does a decoder read the names of objects, or words in their place?"""
    return bool(getattr(Decoders.model_fields[name].annotation, "reads_tags", False))


def attends(name: str) -> bool:
    """Does a decoder read regions, not only their mean?"""
    return bool(getattr(Decoders.model_fields[name].annotation, "attends", False))


def pretrains(name: str) -> bool:
    """Can a decoder be pretrained: does it read a caption from both sides?"""
    return bool(getattr(Decoders.model_fields[name].annotation, "pretrains", False))


def retrieves(name: str) -> bool:
    """Does a decoder say captions of training images? It has no gradients, and no epochs."""
    return bool(getattr(Decoders.model_fields[name].annotation, "retrieves", False))
