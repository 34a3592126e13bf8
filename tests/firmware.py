"""The firmware kit under CPython and MicroPython: where it lies, and how a test imports its modules."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path

KIT = Path(__file__).resolve().parent.parent / "firmware" / "micropython"


@contextlib.contextmanager
def on_path() -> Generator[None]:
    """Modules of the kit can be imported in here, as `kit.ring`, `ble.central`, `fakes.flash`."""
    sys.path.insert(0, str(KIT))
    try:
        yield
    finally:
        sys.path.remove(str(KIT))
