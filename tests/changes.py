"""Kinds of faults in which a setting, a line of code or the inputs are others when a killed stage is repeated.

The result is that of an undisturbed run after the change. So nothing of the work before it may be taken up.
"""

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.damage import Bench, Kind, killed
from tests.forks import Run
from tests.imports import ROOT, STAGES
from tests.project import merge
from tests.trees import difference, tree

CHANGES: dict[str, list[dict]] = {  # for each stage, settings that change its result
    "download": [{"download": {"scenes": {"seed": 2}}}, {"download": {"scenes": {"image_size": 48}}}],
    "vocab": [{"vocab": {"min_count": 2}}],
    "split": [{"split": {"max_words": 5}}],
    "objects": [{"objects": "none"}],
    "features": [{"features": {"crop": "centre"}}, {"features": {"image_size": 40}}, {"features": {"shard_size": 4}}],
    "train": [
        {"train": {"optimizer": {"lr": 0.001}}},
        {"train": {"batch_size": 16}},
        {"decoders": {"oscar": {"dropout": 0.1}}},
        {"seed": 5},
    ],
    "evaluate": [{"evaluate": {"max_words": 2}}, {"evaluate": {"max_words": 4}}],
}
Edit = tuple[str, str, str]  # a file, what stands there, what it becomes
_IMAGES, _CAPTIONS = "src/captioning/vision/images.py", "src/captioning/data/splits/captions.py"
_OBJECTS = "src/captioning/data/objects/tables.py"
EDITS: dict[str, list[Edit]] = {  # for each stage, edits of its code that change its result
    "download": [("src/captioning/data/datasets/scenes/backdrop.py", '("#fff0b8", 0.08)', '("#fff0b8", 0.4)')],
    "vocab": [("src/captioning/data/text/vocabulary.py", "(-pieces[piece], piece)", "(pieces[piece], piece)")],
    "split": [("stages/split.py", "vocabulary, split.max_words)", "vocabulary, split.max_words // 6)")],
    "objects": [(_OBJECTS, "MOST = 36", "MOST = 1")],
    "features": [(_IMAGES, "Image.Resampling.BILINEAR", "Image.Resampling.NEAREST")],
    "train": [
        ("src/captioning/training/build.py", "WORD_PRESENCE = 1.0", "WORD_PRESENCE = 2.0"),
        ("src/captioning/training/averaging.py", "1 - min(self._decay, (1", "1 - min(self._decay, (2"),
    ],
    "evaluate": [("stages/evaluate.py", "SAMPLES = 12", "SAMPLES = 2")],
}
NEUTRAL: dict[str, str] = {  # for each stage, a file that it reads; a comment there changes no result
    "download": _IMAGES,
    "vocab": _CAPTIONS,
    "split": _CAPTIONS,
    "objects": _OBJECTS,
    "features": _IMAGES,
    "train": "src/captioning/training/trainer.py",
    "evaluate": _IMAGES,
}
OTHER_DATA = {"download": {"scenes": {"seed": 2}}}  # whose results are other inputs of the stages after it
READERS = ("vocab", "split", "objects", "features", "train", "evaluate")


def setting_changed(bench: Bench, stage: str, draw: random.Random) -> str:
    """Another setting between the kill and the repeated run."""
    change = draw.choice(CHANGES[stage])
    return _changed(bench, stage, draw, str(change), lambda folder: edit(folder, change))


def code_changed(bench: Bench, stage: str, draw: random.Random) -> str:
    """An edited line of code between the kill and the repeated run; or a comment, which changes no result."""
    place, before, after = draw.choice([*EDITS[stage], (NEUTRAL[stage], "", "# another line\n")])
    code = _edited(bench.folder, place, before, after)
    if not before:
        bench.expected.setdefault(f"{stage}: {code.name}", _results(bench.trees[stage]))
    return _changed(bench, stage, draw, code.name, lambda _: None, code)


def inputs_changed(bench: Bench, stage: str, draw: random.Random) -> str:
    """Results of other data in the stages before it, between the kill and the repeated run."""
    others = _inputs(bench)
    return _changed(bench, stage, draw, "inputs", lambda folder: _take(others / stage, folder))


def _changed(
    bench: Bench,
    stage: str,
    draw: random.Random,
    name: str,
    change: Callable[[Path], None],
    code: Path | None = None,
) -> str:
    """Kill the stage, make a change, repeat it: what differs from an undisturbed run after the change."""
    expected = _expected(bench, stage, name, change, code)
    with bench.case(stage) as folder:
        killed(bench, stage, folder, draw)
        change(folder)
        ended = Run(stage, folder, code=code).wait()
        if ended.status:
            return f"repeated after {name}: status {ended.status}, said {ended.said[-1500:]}"
        return difference(_results(tree(folder)), expected)


def _expected(bench: Bench, stage: str, name: str, change: Callable[[Path], None], code: Path | None) -> dict[str, str]:
    """The results of an undisturbed run after a change, which is made once."""
    key = f"{stage}: {name}"
    if key not in bench.expected:
        with bench.case(stage) as folder:
            change(folder)
            ended = Run(stage, folder, code=code).wait()
            assert ended.status == 0, ended.said
            bench.expected[key] = _results(tree(folder))
        assert bench.expected[key] != _results(bench.trees[stage]), f"{name} changes nothing of {stage}"
    return bench.expected[key]


def _results(files: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in files.items() if name.startswith("data/")}


def edit(folder: Path, change: dict) -> None:
    """Change settings in params.yaml."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(merge(yaml.safe_load(path.read_text()), change)))


def _edited(folder: Path, place: str, before: str, after: str) -> Path:
    """A copy of the project's code, with an edit: made once."""
    code = folder / f"code-{Path(place).stem}-{zlib.crc32(after.encode()):08x}"
    if not code.exists():
        for part in ("src", "stages"):
            shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(ROOT / "dvc.yaml", code)
        text = (code / place).read_text(encoding="utf-8")
        assert before in text, f"{place} has no `{before}` any more"
        text = text.replace(before, after, 1) if before else text + after
        (code / place).write_text(text, encoding="utf-8")
    return code


def _inputs(bench: Bench) -> Path:
    """What each stage would read of other data: a folder a stage. Made once."""
    others = bench.folder / "inputs"
    if not others.exists():
        project = shutil.copytree(bench.before[STAGES[0]], bench.folder / "other data")
        edit(project, OTHER_DATA)
        for stage in STAGES[: STAGES.index(READERS[-1]) + 1]:
            if stage in READERS:
                shutil.copytree(project / "data", others / stage)
            ended = Run(stage, project).wait()
            assert ended.status == 0, ended.said
    return others


def _take(inputs: Path, folder: Path) -> None:
    """Put other inputs in the place of those that are there."""
    for path in inputs.iterdir():
        shutil.rmtree(folder / "data" / path.name)
        shutil.copytree(path, folder / "data" / path.name)


STAGES_OF: dict[Kind, tuple[str, ...]] = {
    setting_changed: tuple(CHANGES),
    code_changed: tuple(EDITS),
    inputs_changed: READERS,
}
"""The kinds, each with the stages that it can hit."""
