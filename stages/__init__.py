"""The stages of the pipeline, one thin script each: read settings, call the library, write outputs.

A queued or `--temp` experiment runs in a copy of the repository, but an editable install points to the
workspace. So the library beside this folder is put first on the path, here and only here, and checked.
"""

import sys
from collections.abc import Callable
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[1] / "src"
sys.path.insert(0, str(_SOURCE))

import captioning  # noqa: E402
from captioning.errors import UserError  # noqa: E402
from captioning.schema import Settings  # noqa: E402
from captioning.settings import load  # noqa: E402

if not Path(captioning.__file__).resolve().is_relative_to(_SOURCE):
    sys.exit(f"error: captioning was imported from {captioning.__file__}, not from {_SOURCE}; unset PYTHONPATH")


def run(main: Callable[[Settings], None]) -> None:
    """Run a stage. A user's mistake is printed in one line and ends it with status 1; Ctrl-C with 130."""
    try:
        main(load())
    except UserError as fault:
        sys.exit(f"error: {fault}")
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
