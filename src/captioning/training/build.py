"""From the settings to the network that is trained, and to what it reads."""

import numpy as np
import torch

from captioning import decoders
from captioning.decoders.base import AttendingDecoder, RetrievalDecoder
from captioning.decoders.bert import Contrast
from captioning.settings.resolve import decoder_options
from captioning.settings.rules import batchnorm
from captioning.settings.schema import Settings
from captioning.settings.training import Train
from captioning.training.encoder.augmentation import mirror_chances
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.training.inputs import FeatureInputs, Inputs, PixelInputs
from captioning.training.network import Network
from captioning.training.pairs import CLASSES
from captioning.training.phase import Data
from captioning.vision.encoders import backbones
from captioning.vision.encoders.encoders import Encoder

WORD_PRESENCE = 1.0  # weight of the loss that predicts which words occur in the captions, for a trained encoder
LABELS = 2.0  # weight of the labels' loss beside the captions'


def network(settings: Settings, data: Data, initial: Encoder) -> Network:
    """The network that is trained. initial: the encoder as it is before training."""
    features, train = settings.features, settings.train
    training = _training(settings.encoder, initial, features.weights, train) if features.trainable else None
    width = data.store.dim if training is None else training.encoder.dim
    boxed = data.store.places is not None
    options = vars(decoder_options(settings))
    decoder = decoders.build(settings.decoder, data.vocabulary, width, options, boxed=boxed)
    decoder.expect(torch.from_numpy(data.train.target_counts(len(data.vocabulary))))
    heads = None
    if training is not None:
        heads = EncoderHeads(training, data.vocabulary, data.labels, word_presence=WORD_PRESENCE, facts=LABELS)
    contrast = Contrast(settings.decoders.oscar.width, CLASSES) if settings.train.pretraining.epochs else None
    return Network(training, decoder, heads, reads_objects=boxed, contrast=contrast)


def inputs(settings: Settings, network: Network, data: Data) -> Inputs:
    """Stored features, or pixels for an encoder that is trained."""
    augment = settings.train.augment
    chances = _chances(0.5 if settings.features.mirror else augment.flip, data)
    if network.encoder is None:
        by_image = isinstance(network.decoder, AttendingDecoder | RetrievalDecoder)
        return FeatureInputs(data.store, by_image=by_image, mirror_chances=chances)
    return PixelInputs(data.store, augment, chances, data.labels, network.encoder.grid)


def _training(name: str, encoder: Encoder, weights: str, train: Train) -> EncoderTraining:
    """An encoder that is trained, in all of its blocks or some."""
    backbones.check_training_size(name, train.augment.image_size, encoder.transform.image_size)
    options = train.encoder
    return EncoderTraining(
        encoder, from_block=options.from_block, start_epoch=options.start_epoch, batchnorm=batchnorm(weights)
    )


def _chances(chance: float, data: Data) -> np.ndarray | None:
    """How likely each image is mirrored in training; None: no image ever is."""
    return mirror_chances(data.train, len(data.store.ids), data.vocabulary, chance) if chance else None
