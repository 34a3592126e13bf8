"""The loop that writes lines byte by byte, compiled by numba when it is installed; without it `line_protocol` works on whole columns.

Its bytes are those of the plain way: tests write the same points both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from processors.kernels.compiled import COMPILED, numba

FLOAT, INT, TEXT = range(3)
_ABSENT: Final = np.int64(-(1 << 63))


def _number(out: Any, at: int, value: Any, digits: int) -> int:
    """Write a number from 0 on; with at least `digits` digits."""
    width = 1
    most = np.uint64(10)
    while width < 20 and value >= most:
        width += 1
        if width < 20:
            most *= np.uint64(10)
    width = max(width, digits)
    end = at + width
    for place in range(end - 1, at - 1, -1):
        higher = value // np.uint64(10)
        out[place] = np.uint8(48) + np.uint8(value - higher * np.uint64(10))
        value = higher
    return end


def _copy(out: Any, at: int, source: Any, first: int, end: int) -> int:
    for i in range(first, end):
        out[at] = source[i]
        at += 1
    return at


def _write_lines(
    out: Any, keys: Any, key_at: Any, series_of: Any, starts: Any, start_at: Any, kinds: Any, decimals: Any, columns: Any, texts: Any,
    text_at: Any, text_base: Any, times: Any,
) -> int:  # fmt: skip
    """Write every line into `out`, which is long enough; how many bytes there are. `*_at` say where each part of a byte string begins."""
    at = 0
    tens = np.ones(10, np.uint64)
    for i in range(1, 10):
        tens[i] = tens[i - 1] * np.uint64(10)
    for row in range(len(times)):
        series = series_of[row]
        at = _copy(out, at, keys, key_at[series], key_at[series + 1])
        for field in range(len(kinds)):
            value = columns[field, row]
            if value == _ABSENT:
                continue
            at = _copy(out, at, starts, start_at[field], start_at[field + 1])
            if kinds[field] == TEXT:
                one = text_base[field] + value
                at = _copy(out, at, texts, text_at[one], text_at[one + 1])
                continue
            if value < 0:
                out[at] = 45
                at += 1
            size = np.uint64(abs(value))
            if kinds[field] == INT:
                at = _number(out, at, size, 1)
                out[at] = 105
                at += 1
            else:
                ten = tens[decimals[field]]
                whole = size // ten
                at = _number(out, at, whole, 1)
                out[at] = 46
                at = _number(out, at + 1, size - whole * ten, decimals[field])
        out[at] = 32
        at += 1
        t = times[row]
        if t < 0:
            out[at] = 45
            at += 1
        at = _number(out, at, np.uint64(abs(t)), 1)
        out[at] = 10
        at += 1
    return at


write_lines: Callable[..., int] = _write_lines
if numba is not None and COMPILED:
    _njit: Any = numba.njit
    _number = _njit(inline="always", cache=True)(_number)
    _copy = _njit(inline="always", cache=True)(_copy)
    write_lines = _njit(cache=True)(_write_lines)
