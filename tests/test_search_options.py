"""`captioning predict` has an option for everything that a search can be asked for, as it is declared."""

import click
import pytest
import typer
from typer.testing import CliRunner

from captioning.cli import app
from captioning.settings.search import USUAL, SearchOptions
from captioning.settings.sections import Meaning, fields_of, marked

OPTIONS = fields_of(SearchOptions)
GROUP = typer.main.get_group(app.app)
COMMAND = GROUP.get_command(click.Context(GROUP), "predict")
assert COMMAND is not None
PREDICT = {parameter.name: parameter for parameter in COMMAND.params}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_the_search_is_one_of_the_command(name: str) -> None:
    option = PREDICT[name]
    assert option.opts == [f"--{name.replace('_', '-')}"]
    assert option.default == USUAL.get(name)
    assert option.help.rstrip(".").lower() == marked(OPTIONS[name], Meaning).text.lower()


def test_all_have_a_usual_value_but_the_beam_size() -> None:
    assert set(OPTIONS) - set(USUAL) == {"beam_size"}


@pytest.mark.parametrize(
    ("option", "value"),
    [("--n-best", "0"), ("--top-p", "1.5"), ("--temperature", "0"), ("--method", "beams"), ("--seed", "-1")],
)
def test_a_value_out_of_range_is_refused(option: str, value: str) -> None:
    done = CliRunner().invoke(app.app, ["predict", "x.jpg", option, value], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in click.unstyle(done.output)
