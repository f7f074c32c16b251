"""The command `captioning`, with its commands: each a function of another module here, loaded when it is used."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from captioning.system import quickly

_USUAL: dict[str, Any] = {"add_completion": False, "no_args_is_help": True, "pretty_exceptions_enable": False}
_COMMANDS = {  # and their modules, in the order in which the help has them
    "predict": "predict",
    "models": "models",
    "serve": "serve",
    "experiments": "experiments",
    "compare": "experiments",
    "report": "experiments",
    "gallery": "gallery",
    "croissant": "croissant",
    "release": "release",
    "export": "export",
    "review": "review",
    "score": "score",
    "clean": "clean",
    "verify": "verify",
    "suite": "experiments",
}


class _Commands(TyperGroup):
    """Loads a command when it is asked for: that of all of them takes longer than most."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (of the class above)
        return [*_COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.add_command(_loaded(cmd_name), cmd_name)
        return self.commands[cmd_name]


def _loaded(name: str) -> Any:
    with quickly.loading():
        module = import_module(f"captioning.cli.{_COMMANDS[name]}")
    group: typer.Typer | None = getattr(module, f"{name}_app", None)
    if group is None:
        alone = typer.Typer(**_USUAL)
        alone.command(name)(getattr(module, name))
        return get_command(alone)
    command = get_group(group)
    command.name = name
    return command


app = typer.Typer(cls=_Commands, **_USUAL)


@app.callback()
def _captioning() -> None:
    """Image captioning: the experiments run through DVC (`dvc repro`), the trained model is used from here."""
