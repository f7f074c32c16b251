"""check: refuse what libraries or this machine cannot do, before any stage has done its work → data/check/.

Every stage depends on this one, which depends on every setting, so DVC runs it first. What it leaves never changes.
Settings that are wrong in themselves are refused when they are read.
"""

import os
from pathlib import Path

import torch

from captioning.captioner import model_folders
from captioning.data.datasets import folder as own
from captioning.data.extraction import engines
from captioning.data.network.downloads import find
from captioning.data.objects import given, published_vectors
from captioning.metrics.java_runtime import require
from captioning.settings import text_models
from captioning.settings.objects import BOX_HEAD, BOXES, LABELS, OWN, TRAINED, of_box_head
from captioning.settings.resolve import source
from captioning.settings.rules import check_lenders, warm_start
from captioning.settings.schema import Compute, Download, Evaluate, Features, Settings
from captioning.system import compute
from captioning.system.errors import UserError, check_all
from captioning.system.files import main_root
from captioning.training.encoder import blocks
from captioning.vision import fonts
from captioning.vision.detection import torchvision_detectors
from captioning.vision.encoders import backbones, encoders
from captioning.vision.encoders.weights import IMAGENET, NONE
from captioning.vision.images import Transform


def main(settings: Settings) -> None:
    """Raise UserError that lists, a line each, all that a later stage would refuse on this machine."""
    checks = (_machine, _folders, _objects, _text, _weights, _encoder, _start, _search, _fonts)
    check_all(settings, checks)


def _machine(settings: Settings) -> None:
    machine: Compute = settings.compute
    device = compute.choose_device(machine.device, machine.precision, machine.processes)
    engines.check(settings.features.engine, device)


def _folders(settings: Settings) -> None:
    download: Download = settings.download
    find(source(download.source), "")
    if settings.dataset == own.name:
        own.find(download.folder)
        own.check_names(download.folder)
    if not download.folder.is_dir():
        raise UserError(
            f"download.folder = {download.folder}: no such folder; in a queued experiment give its absolute path"
        )


def _objects(settings: Settings) -> None:
    download: Download = settings.download
    if settings.objects not in OWN:
        name = settings.objects.removesuffix(BOX_HEAD)
        torchvision_detectors.check(name, () if of_box_head(settings.objects) else OWN)
        if of_box_head(settings.objects):
            torchvision_detectors.check_box_head(name, BOX_HEAD)
    if settings.objects in (LABELS, BOXES):
        folder = source(download.source)
        given.check_labels(folder, settings.dataset, download.split)
        vectors, labels = given.vectors(folder, settings.dataset), given.files(folder, settings.dataset)
        published_vectors.check_labelled(settings.objects, vectors, labels)
        if vectors:
            _vectors(settings.features)
    if settings.objects == TRAINED:
        given.check_trained(settings.dataset, download.split)


def _vectors(features: Features) -> None:
    published_vectors.check(features.trainable, features.crop, features.engine, features.mirror)


def _text(settings: Settings) -> None:
    folder = text_models.named(settings.vocab.text)
    if folder is not None:
        text_models.pieces(folder)
        if settings.decoder == "oscar":
            text_models.weights(folder)


def _weights(settings: Settings) -> None:
    weights = settings.features.weights
    if weights not in (IMAGENET, NONE) and not (main_root() / Path(weights).expanduser()).is_file():
        raise UserError(
            f"features.weights = {weights}: no such file; write auto, imagenet, none or a path that is there"
        )


def _encoder(settings: Settings) -> None:
    """The backbone, the sizes of image that it takes, and the block from which it is trained."""
    features, train = settings.features, settings.train
    pretrained = features.weights != NONE
    transform = backbones.transform_for(settings.encoder, features.image_size, pretrained=pretrained)
    if features.trainable:
        backbones.check_training_size(settings.encoder, train.augment.image_size, transform.image_size)
        _block(settings.encoder, transform, train.encoder.from_block)


def _block(encoder: str, transform: Transform, block: str) -> None:
    if block not in (blocks.ALL, blocks.NONE):
        with torch.device("meta"):  # shapes without values
            blocks.ahead_of(encoders.build(encoder, transform=transform, weights={}), block)


def _fonts(_settings: Settings) -> None:
    fonts.named(os.environ.get(fonts.VARIABLE, ""))


def _start(settings: Settings) -> None:
    folder = warm_start(settings.train.start)
    if folder is not None:
        model_folders.check_start(folder, encoder=settings.encoder, decoder=settings.decoder)


def _search(settings: Settings) -> None:
    evaluate: Evaluate = settings.evaluate
    further = model_folders.decoders(model_folders.members(evaluate.ensemble))
    check_lenders([settings.decoder, *further], evaluate.rank_by)
    if evaluate.java:
        require("METEOR")
