"""Why DVC cannot read a revision, in one line: which file is wrong, where in it, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from dvc.exceptions import DvcException
from dvc.scm import SCMError
from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

from captioning.system.errors import UserError, reason, shown

FAULTS = (DvcException, SCMError, UnicodeDecodeError, re.error)  # the last two: of .dvcignore and .dvc/config
RESTORE = "restore it with `git restore`, or name another revision"


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Raise UserError where DVC finds no sense in the files of the revision `name`."""
    try:
        yield
    except FAULTS as fault:
        raise UserError(f"{name}: {cause(fault)}; {RESTORE}") from None


def cause(fault: Exception) -> str:
    """A file that fails DVC's schema is named with the place in it; other faults have their own words."""
    if isinstance(fault, YAMLValidationError):
        error = fault.exc.errors[0]
        place = ".".join(map(str, error.path))
        return f"{_file(fault.path)}: {shown(place)}: {shown(error.error_message)}"
    if isinstance(fault, YAMLSyntaxError):
        return f"{_file(fault.relpath)} is not YAML ({shown(reason(fault.exc.__cause__ or fault, first_line=True))})"
    file = "" if isinstance(fault, DvcException | SCMError) else ".dvcignore or .dvc/config: "
    return f"{file}{shown(reason(fault, first_line=True))}"


def _file(path: str) -> str:
    """A path as the project's folder has it: `./dvc.lock` is dvc.lock."""
    return PurePosixPath(path).as_posix()
