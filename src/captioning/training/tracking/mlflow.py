"""MLflow: a run of the experiment `captioning`, in `logs/mlflow` or where MLFLOW_TRACKING_URI points."""

import os
from collections.abc import Mapping

from PIL import Image

from captioning.training.tracking.base import Run, shown

_EXPERIMENT = "captioning"
_LOOK = "MLFLOW_ALLOW_FILE_STORE=true uvx mlflow ui --backend-store-uri"  # `mlflow-skinny` has no server


class MLflow:
    """One run in MLflow's store. A run that goes on after a kill is another one, with the whole history."""

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads these when it is imported
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        self._folder, self._server = run.logs / "mlflow", os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(self._server or self._folder.as_uri())
        known = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(_EXPERIMENT)
        self._run: str = self._client.create_run(experiment, run_name=run.name).info.run_id
        for name, value in run.settings.items():
            self._client.log_param(self._run, name, value)

    def scalars(self, epoch: int, row: Mapping[str, float]) -> None:
        """Log a row of scalars."""
        for name, value in row.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def image(self, epoch: int, name: str, image: Image.Image) -> None:
        """Log an image as an artifact, in a folder of its epoch."""
        self._client.log_image(self._run, image, artifact_file=f"epoch_{epoch}/{name}")

    def end(self, well: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, "FINISHED" if well else "FAILED")

    def where(self) -> str:
        """Where the run is, and the command that shows it: the client that is installed here has no server."""
        if self._server:
            return f"mlflow wrote to {self._server}, run {self._run}"
        return f"mlflow wrote to {shown(self._folder)}; to look: {_LOOK} {shown(self._folder)}"
