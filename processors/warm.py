"""Compiles every kernel, so that the first frame waits for no compiler. `python -m processors.warm` does it ahead of time.

What is compiled is kept beside the sources, once for a machine and version: half a minute of a core then, and half a second from then on.
Without numba there is nothing to compile.
"""

from __future__ import annotations

from processors import matcher, packed_efforts, repair, run_kernel, smoothing


def warm_up() -> None:
    """Compile what is not compiled yet, and load the rest."""
    run_kernel.warm_up()
    smoothing.warm_up()
    repair.warm_up()
    matcher.warm_up()
    packed_efforts.warm_up()


if __name__ == "__main__":
    warm_up()
