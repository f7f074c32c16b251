"""Weights & Biases: a run of the project `captioning`, offline in `logs/wandb` unless WANDB_MODE is set otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from captioning.training.tracking.base import Run, shown


class WandB:
    """One run. A run that goes on after a kill is another one of the same name, with the whole history."""

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        import wandb
        from wandb.sdk.lib.wbauth import authenticate_session

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        if mode not in ("offline", "disabled"):
            host = wandb.setup().settings.base_url
            if authenticate_session(host=host, source="train.trackers", prompt=False) is None:
                raise RuntimeError(f"WANDB_MODE is {mode} and there is no API key; run wandb login")
        run.logs.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            init_timeout=30,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "captioning"),
            name=run.name,
            config=dict(run.settings),
            dir=str(run.logs),
            mode=mode,
            settings=quiet,
        )

    def scalars(self, epoch: int, row: Mapping[str, float]) -> None:
        """Log a row of scalars."""
        self._run.log(dict(row), step=epoch)

    def image(self, epoch: int, name: str, image: Image.Image) -> None:
        """Log an image."""
        self._run.log({name: self._image(image)}, step=epoch)

    def end(self, well: bool) -> None:
        """Write what is left, and say how the run ended."""
        self._run.finish(exit_code=0 if well else 1)

    def where(self) -> str:
        """Where the run is, and the command that shows it."""
        if not self._run.offline:
            return f"wandb wrote to {self._run.url}"
        folder = Path(self._run.dir).parent
        return (
            f"wandb wrote to {shown(folder)}; to look here: wandb leet {shown(folder.parent)}; "
            f"to upload it: wandb login, then wandb sync {shown(folder)}"
        )
