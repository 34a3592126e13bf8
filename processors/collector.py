"""The interpreter's collector of cycles waits while a batch is worked on.

A batch makes tens of thousands of small objects, none in a cycle; looking through all of them again and again costs a fifth of its time.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def waiting_collector() -> Generator[None]:
    """No collection inside; the collector goes on afterwards as it was."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
