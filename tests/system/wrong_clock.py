"""`python -m tests.system.wrong_clock FILE ROLE ...`: a role whose system clock is as many seconds ahead as FILE says, at any moment."""

from __future__ import annotations

import sys
import time
from pathlib import Path

_ahead = Path(sys.argv[1])
_true_ns = time.time_ns


def _wrong_ns() -> int:
    return _true_ns() + round(float(_ahead.read_text() or 0) * 1e9)


time.time_ns = _wrong_ns
time.time = lambda: _wrong_ns() / 1e9

if __name__ == "__main__":
    from paceline.cli import main

    sys.argv[1:] = sys.argv[2:]
    main()
