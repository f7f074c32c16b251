"""The commands of `captioning` that are about experiments: `compare`."""

import json
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """How a comparison is printed."""

    text = "text"
    md = "md"
    json = "json"


def compare(
    revisions: Annotated[
        list[str],
        typer.Argument(
            help="Commits, branches, tags, experiments, or `workspace`; the others are compared with the first."
        ),
    ],
    output: Annotated[Format, typer.Option("--format", help="text, md (Markdown) or json.")] = Format.text,
    images: Annotated[int, typer.Option(min=0, help="Images shown on which two differ most.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the bootstrap.")] = 0,
) -> None:
    """Compare experiments with the first: scores, intervals of the differences, and a verdict in words.

    Revisions that differ in nothing but `seed` are taken together. Nothing is checked out, and nothing is downloaded.
    """
    from captioning import verdicts
    from captioning.compare import compare as compared
    from captioning.compare import read
    from captioning.revisions import resolve

    comparison = compared([read(revision) for revision in resolve(revisions)], seed=seed)
    if output is Format.json:
        print(json.dumps(verdicts.document(comparison, images), indent=1, ensure_ascii=False))
    else:
        print((verdicts.text if output is Format.text else verdicts.markdown)(comparison, images), end="")
