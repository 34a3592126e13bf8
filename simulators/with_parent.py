"""Run a program that ends when its parent does, however that ends: `python -m simulators.with_parent PROGRAM ARGUMENTS...` (Linux).

The kernel's wish for a signal at the death of the parent survives the exec, so the program itself need not know. It must be started from
the main thread: the kernel means the thread that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the process that started this one is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    die_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the caller's own program
