"""Which processes of this machine run, without any effect on them."""

import os
import sys


def another_runs(process: int) -> bool:
    """Is there a process with this number, other than this one?"""
    return process != os.getpid() and _runs(process)


if sys.platform == "win32":
    import ctypes

    _SYNCHRONIZE, _ACCESS_DENIED, _WAIT_TIMEOUT = 0x00100000, 5, 0x102  # of winnt.h, winerror.h and winbase.h

    def _runs(process: int) -> bool:
        """os.kill with 0 would interrupt the process on Windows, so a handle of it is opened instead."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(_SYNCHRONIZE, False, process)
        if not handle:
            return ctypes.get_last_error() == _ACCESS_DENIED  # another user's
        try:
            return bool(kernel.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)
        finally:
            kernel.CloseHandle(handle)

else:

    def _runs(process: int) -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True
