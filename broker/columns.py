"""Columns: many frames of one layout as one numpy structured array (0.02 us a sample). Only the processors import this (numpy)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from broker.layouts import Field, Layout, all_layouts

_NUMPY: Final = {"u8": "u1", "i8": "i1", "u16": "<u2", "i16": "<i2", "u32": "<u4", "i32": "<i4", "u64": "<u8"}

Records = npt.NDArray[np.void]


@cache
def dtype_of(layout_id: int) -> np.dtype[np.void]:
    """The packed dtype of a layout; KeyError for an unknown id."""
    layout = all_layouts()[layout_id]
    dtype: np.dtype[np.void] = np.dtype([(f.name, _NUMPY[f.type]) for f in layout.fields])
    assert dtype.itemsize == layout.size
    return dtype


def join_records(layout_id: int, blocks: Sequence[bytes]) -> Records:
    """All records of the blocks, shape (samples,), in order; read-only."""
    return np.frombuffer(b"".join(blocks), dtype=dtype_of(layout_id))


def si_column(layout: Layout, records: Records, name: str) -> npt.NDArray[np.float64]:
    """One field in SI units as float64, NaN where absent."""
    field: Field = layout.field(name)
    raw: npt.NDArray[Any] = records[name]
    values = raw * field.scale + field.offset
    if field.absent is not None:
        values[raw == field.absent] = np.nan
    return values
