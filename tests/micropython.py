"""The MicroPython of the tests; see `simulators.micropython`, which the command line uses too."""

from __future__ import annotations

from simulators.micropython import MicroPython, debian_sources, find_or_unpack_micropython

__all__ = ["MicroPython", "debian_sources", "find_or_unpack_micropython"]
