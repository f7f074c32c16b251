"""`captioning score`: scores of captions that any program wrote."""

import json
from pathlib import Path
from typing import Annotated

import typer

from captioning.cli.experiments import Format

_References = Annotated[Path, typer.Argument(help="References: COCO's caption document, .json, .jsonl, .csv or .tsv.")]
_Captions = Annotated[
    list[Path], typer.Argument(help="Captions of the same images: COCO's results, .json, .jsonl, .csv or .tsv.")
]
_Format = Annotated[Format, typer.Option("--format", help="text, md (Markdown) or json.")]
_Seed = Annotated[int, typer.Option(min=0, help="Seeds the bootstrap.")]


def score(references: _References, captions: _Captions, output: _Format = Format.text, seed: _Seed = 0) -> None:
    """Score captions of any program: BLEU, ROUGE-L and CIDEr-D with intervals, and a signature.

    Several files are compared with the first one. The signature names all that a score depends on beside the captions.
    """
    from captioning.experiments import scoring, verdicts

    scored = scoring.score(references, captions, seed=seed)
    if output is Format.json:
        print(json.dumps(scoring.document(scored), indent=1, ensure_ascii=False))
        return
    draw = verdicts.table if output is Format.md else verdicts.aligned
    tables = [scoring.rows(scored), scoring.difference_rows(scored)]
    parts = [draw(table) for table in tables if table]
    print("\n\n".join([*parts, "\n".join(scoring.notes(scored))]))
