"""How a command of `captioning` ends: with one line and a status, whatever stops it, and wherever it is to write."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from captioning.cli import experiments as commands
from captioning.cli import gallery, places
from captioning.experiments import results
from captioning.system.errors import UserError
from tests.imports import ROOT

SIGNALS = [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
KILL = "import os, signal; os.kill(os.getpid(), {0:d})\n"
BODIES = {
    "at work": "{kill}",
    "a library made another exception of it": """
try:
    {kill}
except BaseException as fault:
    raise ImportError("half loaded") from fault
""",
    "in a destructor": """
class Held:
    def __del__(self):
        {kill}
held = Held()
del held
print("went on")
""",
    "after the last line": "import atexit; atexit.register(lambda: {kill}); raise SystemExit(0)",
    "with a thread at work": "import threading; threading.Thread(target=threading.Event().wait).start(); {kill}",
}


def ended(code: str, *arguments: str, folder: Path | None = None, **variables: str) -> tuple[int, str, str]:
    """Status, output and errors of a Python program."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), **variables}
    done = subprocess.run(
        (sys.executable, "-c", code, *arguments), env=environment, cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("number", "said"), SIGNALS)
@pytest.mark.parametrize("module", ["pathlib", "typer", "captioning.cli.formats"])
def test_a_signal_while_libraries_are_loaded(number: int, said: str, module: str) -> None:
    """It comes just before a module is imported."""
    code = f"""
import builtins, os
from captioning.cli import main
real = builtins.__import__
def load(name, *rest):
    if name == {module!r} or any({module!r} == f"{{name}}.{{part}}" for part in (rest[2:3] or [()])[0] or ()):
        os.kill(os.getpid(), {number:d})
    return real(name, *rest)
builtins.__import__ = load
main()
"""
    assert ended(code, "predict", "photo.jpg") == (128 + number, "", f"{said}\n")


@pytest.mark.parametrize(("number", "said"), SIGNALS)
@pytest.mark.parametrize("body", BODIES)
def test_a_signal_while_a_command_works(number: int, said: str, body: str, tmp_path: Path) -> None:
    kill = f"os.kill(os.getpid(), {number:d})"
    (tmp_path / "body.py").write_text(BODIES[body].format(kill=kill))
    code = """
import os, sys
import captioning.cli.app
from captioning.cli import main
text = open(sys.argv[1]).read()
captioning.cli.app.app = lambda: exec(compile(text, "body", "exec"), {"os": os})
main()
"""
    assert ended(code, str(tmp_path / "body.py")) == (128 + number, "", f"{said}\n")


def test_a_half_written_file_is_removed_first(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
import captioning.cli.app
from captioning.cli import main
from captioning.system.files import atomic
def app():
    with atomic(Path("report.html")) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), {signal.SIGTERM:d})
captioning.cli.app.app = app
main()
"""
    assert ended(code, folder=tmp_path) == (143, "", "terminated\n")
    assert list(tmp_path.iterdir()) == []


def test_it_is_heeded_where_a_shell_has_it_ignored() -> None:
    code = f"""
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import captioning.cli.app
from captioning.cli import main
captioning.cli.app.app = lambda: os.kill(os.getpid(), {signal.SIGINT:d})
main()
"""
    assert ended(code) == (130, "", "interrupted\n")


def test_a_fault_of_the_program_is_no_users_mistake() -> None:
    code = """
import captioning.cli.app
from captioning.cli import main
captioning.cli.app.app = lambda: 1 / 0
main()
"""
    status, _, errors = ended(code)
    assert status == 1
    assert errors.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_has_no_room_is_one_line() -> None:
    code = "import sys; sys.argv = ['captioning', '--help']; from captioning.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run((sys.executable, "-c", code), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output: No space left on device")
    assert done.stderr.count("\n") == 1


def barred(tmp_path: Path) -> list[Path]:
    """Paths that cannot be written."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    paths = [tmp_path / "folder", tmp_path / "file/report.html", tmp_path / "file/deep/report.html", Path()]
    paths += [tmp_path / ("x" * 300), *([Path("/proc/none/report.html")] if Path("/proc").is_dir() else [])]
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        paths += [tmp_path / "closed/report.html", tmp_path / "closed/deep/report.html"]
    return paths


def test_a_place_that_cannot_be_written_is_one_line_that_names_the_option(tmp_path: Path) -> None:
    for path in barred(tmp_path):
        with pytest.raises(UserError) as caught:
            write(path)
        assert str(caught.value).startswith(f"--out {path}: ")
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "new/deep/report.html", tmp_path / "file", Path("report.html")):
        places.check_file("--out", path)
    assert not (tmp_path / "new").exists()


def write(path: Path) -> None:
    from captioning.system.files import write_bytes

    places.check_file("--out", path)
    with places.written("--out", path):
        write_bytes(path, b"")


def test_commands_look_at_the_place_before_they_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no repository at all: any work would end in another error."""
    monkeypatch.chdir(tmp_path)
    for command in (lambda: commands.report(["HEAD"], out=tmp_path), lambda: gallery.gallery(out=tmp_path)):
        with pytest.raises(UserError, match=rf"^--out {tmp_path}: this is a folder; name a file in it"):
            command()
    (tmp_path / "file").write_bytes(b"\xff")
    for page in (tmp_path / "none.md", tmp_path / "file", tmp_path):
        with pytest.raises(UserError, match=rf"^{page}: no such page, or no text"):
            results.put(page, "depth", "")


def test_commands_of_a_project_work_from_its_subfolders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (".dvc", "apps/cap/deep/deeper", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    project = tmp_path / "apps/cap"
    (project / "dvc.yaml").write_text("")
    seen: list[tuple[Path, Path]] = []

    @places.in_project
    def command(_name: str, out: Path = Path("x")) -> None:
        seen.append((Path.cwd(), out))

    for start, inside in (
        ("apps/cap", project),
        ("apps/cap/deep", project),
        ("apps/cap/deep/deeper", project),
        ("elsewhere", tmp_path),
    ):
        monkeypatch.chdir(tmp_path / start)
        command("a", out=Path("page.md"))
        assert Path.cwd() == tmp_path / start
        where, out = seen[-1]
        assert where == inside
        assert (where / out) == tmp_path / start / "page.md"
    assert seen[0][1] == Path("page.md")  # as it was typed
