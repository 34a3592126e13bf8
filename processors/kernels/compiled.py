"""How a kernel is written and compiled.

A kernel is plain typed Python over floats: `+ - * /`, square roots, comparisons, `min`, `max`, `abs`; IEEE 754 rounds each of them
exactly, so numba (without fast maths, which also forbids fused products), the interpreter and C give the same bits. No power, no
exponential of a library, no sum over an array: their last bits depend on the machine. No division by what may be zero. Absent is NaN:
`value == value` asks. State is a row of floats (an array when compiled, a list in the interpreter, three times faster there), columns
named in `columns`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

try:
    import numba
except ImportError:
    numba = None

COMPILED: Final = numba is not None

F = TypeVar("F", bound=Callable[..., Any])


class Row(Protocol):
    """A mutable row of floats."""

    def __getitem__(self, i: int, /) -> float: ...
    def __setitem__(self, i: int, value: float, /) -> None: ...


def compiled(function: F) -> F:
    """The function compiled by numba when that is installed (cached beside the source), else itself.

    Inlined, and without counting references to rows (a kernel makes none that outlive it): four times the speed, that of C.
    """
    if numba is None:
        return function
    njit: Any = numba.njit
    return njit(cache=True, fastmath=False, error_model="numpy", forceinline=True, _nrt=False)(function)
