"""The command `captioning`, with its commands: each is a function of another module here."""

import typer

from captioning.cli import experiments, gallery
from captioning.cli.clean import clean
from captioning.cli.croissant import croissant
from captioning.cli.models import models
from captioning.cli.predict import predict
from captioning.cli.release import release
from captioning.cli.review import review
from captioning.cli.score import score
from captioning.cli.serve import serve
from captioning.cli.verify import verify

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _captioning() -> None:
    """Image captioning: the experiments run through DVC (`dvc repro`), the trained model is used from here."""


app.command()(predict)
app.command()(models)
app.command()(serve)
app.command()(experiments.experiments)
app.command()(experiments.compare)
app.command()(experiments.report)
app.command()(gallery.gallery)
app.command()(croissant)
app.command()(release)
app.command()(review)
app.command()(score)
app.command()(clean)
app.command()(verify)
app.add_typer(experiments.suite_app, name="suite")
