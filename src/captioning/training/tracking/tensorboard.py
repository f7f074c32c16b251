"""TensorBoard: an event file in `logs/tensorboard/RUN`. A run that goes on writes it anew, whole."""

import shutil
from collections.abc import Mapping

from PIL import Image

from captioning.training.tracking.base import Run, shown


class TensorBoard:
    """One run's event file."""

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder = run.logs / "tensorboard" / run.name
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        rows = [f"| {name} | {value} |" for name, value in run.settings.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), 0)

    def scalars(self, epoch: int, row: Mapping[str, float]) -> None:
        """Write a row of scalars; what is written is on the disk after each epoch."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def image(self, epoch: int, name: str, image: Image.Image) -> None:
        """Write an image."""
        import numpy as np

        self._writer.add_image(name, np.asarray(image.convert("RGB")), epoch, dataformats="HWC")

    def end(self, well: bool) -> None:  # noqa: ARG002
        """Close the file."""
        self._writer.close()

    def where(self) -> str:
        """Where the event file is, and the command that shows it."""
        return f"tensorboard wrote to {shown(self._folder)}; to look: tensorboard --logdir {shown(self._folder.parent)}"
