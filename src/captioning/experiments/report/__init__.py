"""The report: one HTML file with scores, curves, settings and images of several experiments.

It needs nothing but itself: no server, no network. What comes from outside (captions, names, settings) is text and
stays text: the templates escape it, the scripts set it as text, and a Content-Security-Policy lets only those scripts
run whose digests it names.
"""

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from captioning.experiments import verdicts
from captioning.experiments.compare import Comparison
from captioning.experiments.report import header, tables
from captioning.experiments.report.content import document
from captioning.experiments.report.gallery import choose
from captioning.experiments.revisions import Revision
from captioning.system.files import write_text

_SCRIPTS = ("page.js", "charts.js", "gallery.js")


def write(path: Path, comparison: Comparison, command: str, limit: int | None, seed: int = 0) -> int:
    """Write the report of a comparison, and return its size in bytes. Same revisions, same bytes.

    command: what made it, to be shown. limit: at most so many images are shown, None: all of them; `seed` draws those
    that are not selected for their disagreement.
    Raises UserError when a revision lacks a file that is needed, or an image cannot be decoded.
    """
    experiments = [experiment for group in comparison.groups for experiment in group.experiments]
    selected = choose(experiments, limit, seed)
    text = html(comparison, document(experiments, selected, seed), command, seed)
    write_text(path, text)
    return len(text.encode())


def html(comparison: Comparison, content: dict[str, Any], command: str, seed: int = 0) -> str:
    """The page. content: what `content.document` gives; the scripts draw charts and images from it."""
    trained = [group for group in comparison.groups if isinstance(group.experiments[0].revision, Revision)]
    first = comparison.groups[0]
    return _TEMPLATES.get_template("page.html").render(
        names=[experiment["name"] for experiment in content["experiments"]],
        first=first.name,
        facts=header.facts(comparison, command),
        findings=_findings(comparison),
        scores=tables.scores(comparison),
        differences=tables.differences(comparison),
        notes=verdicts.caveats(comparison),
        differing=tables.differing(comparison) if len(trained) > 1 else None,
        sections=tables.sections(first.experiments[0]),
        selection=_selection(content, len(comparison.images), seed),
        data=_json(content),
        style=_asset("style.css"),
        scripts=[_asset(name) for name in _SCRIPTS],
    )


def _findings(comparison: Comparison) -> list[tuple[str, str]]:
    """The name of each group but the first, and what goes on behind it."""
    return [
        (group.name, verdicts.verdict(comparison, k).removeprefix(group.name))
        for k, group in enumerate(comparison.groups[1:], start=1)
    ]


def _selection(content: dict[str, Any], total: int, seed: int) -> str:
    count = len(content["images"])
    if count == 0:
        return "None were asked for."
    if len(content["experiments"]) > 1:
        how = "those on which the experiments differ most, and a random sample"
        return "All test images." if count == total else f"{count:,} of {total:,}: {how}."
    order = f"the first of them are a random sample (seed {seed}), not chosen by score."
    shown = f"All {total:,} test images in random order" if count == total else f"{count:,} of {total:,} test images"
    return f"{shown}: {order}"


def _asset(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _templates() -> Environment:
    """Templates beside this file. What they are given is escaped; a name that they are not given is an error."""
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["digest"] = _digest
    return environment


_TEMPLATES = _templates()


def _json(content: Any) -> str:
    """JSON that may stand in a script element: no `<` that could end it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c")
