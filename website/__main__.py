"""python -m website FOLDER: build the site into a folder, in place of what is there."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from captioning.system.files import move
from website import sources

_HERE = Path(__file__).parent


def build(target: Path) -> None:
    """Build the site. Raises CalledProcessError if Zensical has a warning: `target` is then as it was."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        sources.write(folder / "docs")
        shutil.copyfile(_HERE / "extra.css", folder / "docs/extra.css")
        shutil.copyfile(_HERE / "zensical.toml", folder / "zensical.toml")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, check=True)
        move(folder / "site", target)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except (subprocess.CalledProcessError, FileNotFoundError) as fault:
        sys.exit(f"website: {fault}")
