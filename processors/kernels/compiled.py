"""How a kernel is written and compiled.

A kernel is plain typed Python over floats: `+ - * /`, square roots, comparisons, `min`, `max`, `abs`; IEEE 754 rounds each of them
exactly, so numba (without fast maths, which also forbids fused products), the interpreter and C give the same bits. No power, no
exponential of a library, no sum over an array: their last bits depend on the machine. No division by what may be zero. Absent is NaN:
`value == value` asks. State is a row of floats (an array when compiled, a list in the interpreter, three times faster there), columns
named in `columns`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

try:
    import numba
except ImportError:
    numba = None

COMPILED: Final = numba is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"  # a debugging aid of numba
_HERE: Final = Path(__file__).parent
_MADE_OF_THEM: Final = ("live_row.py", "fusion.py", "live_motion.py", "live_channels.py", "live_kernel.py")
_LIVE: Final = [_HERE.parent / name for name in _MADE_OF_THEM]
SOURCES: Final = zlib.crc32(b"".join(path.read_bytes() for path in [*sorted(_HERE.glob("*.py")), *_LIVE]))

F = TypeVar("F", bound=Callable[..., Any])


class Row(Protocol):
    """A mutable row of floats."""

    def __getitem__(self, i: int, /) -> float: ...
    def __setitem__(self, i: int, value: float, /) -> None: ...


def compiled(function: F) -> F:
    """The function compiled by numba when that is installed, else itself.

    Cached beside its source, for as long as no kernel changes: numba alone looks at the file of the function, not at those it calls.

    Inlined, and without counting references to rows (a kernel makes none that outlive it): four times the speed, that of C.
    """
    return _compiled(function)


def compiled_inside(function: F) -> F:
    """The same for what only kernels call: without the door for Python, which with many arguments takes longer to compile than the code."""
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _compiled(function: F, **more: bool) -> F:
    if numba is None or not COMPILED:
        return function
    njit: Any = numba.njit
    made: Any = njit(cache=True, fastmath=False, error_model="numpy", forceinline=True, _nrt=False, **more)(function)
    index: Any = made._cache._cache_file  # noqa: SLF001 - numba has no public way to say what else a function is made of
    index._source_stamp = (*index._source_stamp, SOURCES)  # noqa: SLF001
    return made
