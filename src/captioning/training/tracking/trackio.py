"""Trackio: a run of the project `captioning`, in a database in `logs/trackio` or where TRACKIO_DIR points."""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from captioning.training.tracking.base import Run, shown

_PROJECT = "captioning"


class Trackio:
    """One run, on this machine alone. A run that goes on after a kill is another one of the same name."""

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(run.logs / "trackio"))  # read when it is imported, as is the next
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else it asks the Hub whose token is here
        import huggingface_hub.constants
        import trackio
        from trackio.run import Run as Begun
        from trackio.utils import TRACKIO_DIR

        huggingface_hub.constants.HF_HUB_OFFLINE = True  # where it was imported before
        self._folder, self._image = Path(TRACKIO_DIR), trackio.Image
        self._run = Begun(None, _PROJECT, None, name=run.name, config=dict(run.settings))

    def scalars(self, epoch: int, row: Mapping[str, float]) -> None:
        """Log a row of scalars."""
        self._run.log(dict(row), step=epoch)

    def image(self, epoch: int, name: str, image: Image.Image) -> None:
        """Log an image."""
        self._run.log({name: self._image(image)}, step=epoch)

    def end(self, well: bool) -> None:  # noqa: ARG002
        """Write what is left; Trackio does not record how a run ended."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()

    def where(self) -> str:
        """Where the run is, and the command that shows it."""
        folder = shown(self._folder)
        return f"trackio wrote to {folder}; to look: TRACKIO_DIR={folder} trackio show --project {_PROJECT}"
