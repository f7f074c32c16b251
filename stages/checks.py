"""What only the libraries or this machine can refuse in the settings, asked before any stage has done its work.

`settings.check` refuses all that the settings alone tell.
"""

from pathlib import Path

import torch

from captioning.captioner import model_folders
from captioning.data.datasets import folder as own
from captioning.data.network.downloads import find
from captioning.metrics.java_runtime import require
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system import compute
from captioning.system.errors import UserError, check_all
from captioning.system.files import main_root
from captioning.training.encoder import blocks
from captioning.vision.encoders import backbones, encoders
from captioning.vision.encoders.weights import IMAGENET, NONE
from captioning.vision.images import Transform


def check(settings: Settings) -> None:
    """Raise UserError that lists, a line each, all that a later stage would refuse on this machine.

    Call `compute.pin` first: it decides which instructions this machine has.
    """
    check_all(settings, (_machine, _folders, _weights, _encoder, _start, _ensemble, _java))


def _machine(settings: Settings) -> None:
    machine = settings.compute
    compute.choose_device(machine.device, machine.precision, machine.processes)


def _folders(settings: Settings) -> None:
    find(resolve.source(settings), "")
    folder = settings.download.folder
    if settings.dataset == own.name:
        own.find(folder)
    if not folder.is_dir():
        raise UserError(f"download.folder = {folder}: no such folder; in a queued experiment give its absolute path")


def _weights(settings: Settings) -> None:
    weights = resolve.weights(settings)
    if weights not in (IMAGENET, NONE) and not (main_root() / Path(weights).expanduser()).is_file():
        raise UserError(
            f"features.weights = {weights}: no such file; write auto, imagenet, none or a path that is there"
        )


def _encoder(settings: Settings) -> None:
    """The backbone, the sizes of picture that it takes, and the block from which it is trained."""
    pretrained = resolve.weights(settings) != NONE
    transform = backbones.transform_for(settings.encoder, resolve.image_size(settings), pretrained=pretrained)
    if resolve.trainable(settings):
        smaller = resolve.augment(settings).image_size
        backbones.check_training_size(settings.encoder, smaller, transform.image_size)
        _block(settings.encoder, transform, settings.train.fine_tune.from_block)


def _block(encoder: str, transform: Transform, block: str) -> None:
    if block not in (blocks.ALL, blocks.NONE):
        with torch.device("meta"):  # shapes without values
            blocks.ahead_of(encoders.build(encoder, transform=transform, weights={}), block)


def _start(settings: Settings) -> None:
    folder = resolve.start(settings)
    if folder is not None:
        model_folders.check_start(folder, encoder=settings.encoder, decoder=settings.decoder)


def _ensemble(settings: Settings) -> None:
    model_folders.members(settings.evaluate.ensemble)


def _java(settings: Settings) -> None:
    if settings.evaluate.java:
        require("METEOR")
