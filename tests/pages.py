"""The commands of README and docs, and a reader who types them: each one as it stands in the page, top to bottom.

A command that no test can type is marked in its comment, at the end of its last line: `run by hand 2026-11-26`, or
`not run: why`. A page whose introduction says that what it describes "has not been run" needs no other mark.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tests.imports import ROOT
from tests.project import Project

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"\brun by hand (\d{4}-\d\d-\d\d)\b|\bnot run: \w+")


class Command(NamedTuple):
    """A command of a page: `typed` is all of it, `text` has no comment; the number of its block in the page."""

    typed: str
    text: str
    comment: str
    block: int

    @property
    def marked(self) -> bool:
        """Was it run by hand, or is it said that it was not? Raises ValueError for a day that is none."""
        found = _MARK.search(self.comment)
        return bool(found and (found[1] is None or date.fromisoformat(found[1])))


def commands(page: Path) -> list[Command]:
    """The commands of a page's blocks. A line that ends with a backslash goes on in the next."""
    return list(_commands(page.read_text(encoding="utf-8")))


def _commands(page: str) -> Iterator[Command]:
    for number, block in enumerate(_BLOCK.findall(page)):
        for typed in block.replace("\\\n", "\0").splitlines():
            text, _, comment = re.sub(r"\0\s*", "", typed).partition(" #")
            if text.strip() and not text.startswith("#"):
                yield Command(typed.replace("\0", "\\\n"), text.strip(), comment.strip(), number)


def not_run(page: Path) -> bool:
    """Does the introduction say so for the whole page?"""
    return "has not been run" in page.read_text(encoding="utf-8").partition("\n## ")[0].replace("\n", " ")


def in_ci(command: Command) -> bool:
    """CI types it, in a clean clone."""
    return command.text in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()


def to_type(page: Path) -> list[Command]:
    """The commands that a test has to type."""
    return [] if not_run(page) else [line for line in commands(page) if not line.marked and not in_ci(line)]


def typed(
    project: Project,
    name: str,
    *,
    anew: bool = False,
    before: Callable[[Project, Command], None] | None = None,
    after: Callable[[Project, Command], None] | None = None,
) -> dict[str, str]:
    """Type the commands of page `name` (of docs/, or README.md) in a project → what each printed; fails if one does.

    anew: each block starts from the baseline. before, after: called around each command.
    """
    page = next(page for page in PAGES if page.name == name)
    printed, block, here = {}, None, project
    for command in to_type(page):
        if block != command.block:
            block, here = command.block, project
            if anew:
                baseline(project)
        here = _ready(here, command)
        if before:
            before(here, command)
        printed[command.text] = here.run("bash", "-euc", command.typed).stdout
        if after:
            after(here, command)
    return printed


def baseline(project: Project) -> None:
    """As committed, with the outputs of then."""
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q", "--force")


def reader(project: Project) -> None:
    """Give a copy of the reproduced project what the pages take for granted, beside what `_ready` brings when asked.

    Suites have two short runs, of the names that they have in fact.
    """
    exclude(project, "photo.jpg", ".venv", "REPOSITORY")
    (project.folder / ".venv").symlink_to(sys.prefix)
    with Image.open(project.folder / "data/evaluate/gallery/test.png") as image:
        image.convert("RGB").save(project.folder / "photo.jpg")
    runs = "runs: {resnet18: {evaluate.max_words: 4}, resnet50: {evaluate.max_words: 2}}\n"
    (project.folder / "experiments/depth.yaml").write_text(f"question: Deeper?\n{runs}", encoding="utf-8")
    project.run("git", "commit", "-qam", "short suites")


def exclude(project: Project, *names: str) -> None:
    with (project.folder / ".git/info/exclude").open("a", encoding="utf-8") as file:
        file.writelines(f"/{name}\n" for name in names)


def _ready(project: Project, command: Command) -> Project:
    """What a reader has or has done when a command is typed; the project to type in, perhaps a colleague's."""
    origin = project.folder.with_name("origin.git")
    if re.match(r"git push|dvc exp (push|list)", command.text) and not origin.exists():
        project.run("git", "init", "-q", "--bare", "-b", "main", str(origin))
        project.run("git", "remote", "add", "origin", str(origin))
        project.run("git", "push", "-qu", "origin", "main")
    if re.match(r"dvc push|dvc exp p", command.text):  # the page's folder is another machine's
        project.run("dvc", "remote", "modify", "--local", "storage", "url", str(project.folder.with_name("storage")))
    for name in re.findall(r"(?:exp push origin|--model) ([a-z]+)$", command.text):
        if name not in project.run("dvc", "exp", "list", "--name-only").stdout.split():
            project.run("dvc", "exp", "run", "-S", "evaluate.max_words=3", "--name", name)
            baseline(project)
    if "depth-" in command.text and "depth-" not in project.run("dvc", "exp", "list", "--all-commits").stdout:
        project.run("captioning", "suite", "run", "depth")
    if "REPOSITORY" in command.text:
        shutil.copytree(project.folder, project.folder.with_name("repository"), symlinks=True)
        (project.folder / "REPOSITORY").symlink_to("../repository")
    return _clone(project, origin) if "colleague" in command.comment else project


def _clone(project: Project, origin: Path) -> Project:
    """A colleague's clone, with nothing of DVC's but the remote."""
    folder = project.folder.with_name("colleague")
    folder.mkdir()
    made = Project(folder, Path(project.environment["HOME"]))
    made.run("git", "clone", "-q", str(origin), ".")
    made.run("dvc", "remote", "modify", "--local", "storage", "url", str(project.folder.with_name("storage")))
    return made
