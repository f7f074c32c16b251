"""The pages of the repository as sources of the site: flat, with links that lead within it.

A page links to code and settings beside pages. On the site each such file is a page too, with its text; images and
tables are copied.
"""

import re
import shutil
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

ROOT = Path(__file__).resolve().parents[1]
_NAMES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
_COPIED = {".csv", ".jpg", ".png", ".svg"}
_LANGUAGES = {".py": "python", ".yaml": "yaml"}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")


def pages() -> dict[str, str]:
    """The path of each page in the repository, and its name on the site."""
    return _NAMES | {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))}


def write(folder: Path) -> None:
    """Write the sources to a new `folder`. Raises FileNotFoundError for a link that leads nowhere."""
    waiting, done = list(pages()), set[str]()
    while waiting:
        path = waiting.pop()
        done.add(path)
        target = folder / _name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".md":
            target.write_text(_page(path), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / path, target)
        waiting += sorted(_linked(path) - done - set(waiting))


def _name(path: str) -> str:
    """The name on the site of a file of the repository."""
    if path in pages():
        return pages()[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"files/{path}" if PurePosixPath(path).suffix in {".md", *_COPIED} else f"files/{path}.md"


def _linked(path: str) -> set[str]:
    """The files of the repository to which a page links."""
    if not path.endswith(".md"):
        return set()
    return {_place(path, link) for link in _LINK.findall((ROOT / path).read_text(encoding="utf-8"))}


def _place(page: str, link: str) -> str:
    return normpath(PurePosixPath(page).parent / link)


def _page(path: str) -> str:
    """A page with its links as they are on the site, or a page that shows a file of another kind."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if not path.endswith(".md"):
        return _shown(path, text)
    here = PurePosixPath(_name(path)).parent
    return _LINK.sub(lambda link: relpath(_name(_place(path, link[1])), here), text)


def _shown(path: str, text: str) -> str:
    """The text of a file as a block of code, which the search leaves out."""
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{language}\n{text}````\n"
