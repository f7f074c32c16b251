"""A command as somebody types it: in a terminal of a certain width."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import termios

from tests.project import Project

_ROWS = 50
_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def typed(project: Project, command: str, columns: int) -> list[str]:
    """The lines that a command prints to a terminal, without styles. Fails with them when the command fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    environment = {**project.environment, "TERM": "xterm-256color"}
    environment = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        shlex.split(command), cwd=project.folder, env=environment, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        text = _STYLES.sub("", _read(ours).decode()).replace("\r\n", "\n")
        _, complaint = process.communicate()
    os.close(ours)
    assert process.returncode == 0, f"{command}: exit {process.returncode}\n{text}\n{complaint.decode()}"
    return text.splitlines()


def _read(terminal: int) -> bytes:
    """All that is written until the last writer is gone, of which Linux tells the reader by an error."""
    data = b""
    while True:
        try:
            data += os.read(terminal, 65536)
        except OSError:
            return data
