"""Cells: the globe in squares of about 64 m, rows of one height, a width that changes with each band of about a degree."""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.compiled import compiled
from processors.kernels.plane import METRE, cosine

CELL_M: Final = 64.0
CELL: Final = int(CELL_M / METRE)  # height of a row in 1e-7 degrees
ROWS: Final = 10_000_000 // CELL  # that share one width
WIDEST: Final = 850_000_000


@compiled
def row_of(lat: int) -> int:
    """The row of a latitude."""
    return lat // CELL


@compiled
def width_of(row: int) -> int:
    """How wide the cells of a row are, in 1e-7 degrees; beyond 85 degrees as wide as there."""
    return math.floor(CELL / cosine(min(abs(row // ROWS * (ROWS * CELL)), WIDEST) * 1.0))


@compiled
def hashed(row: int, column: int) -> int:
    """32 bits of a cell, well mixed; every product fits 63 bits."""
    h = (row * 73_856_093 + column * 1_540_483_477) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 739_982_445) & 0xFFFFFFFF
    return h ^ (h >> 13)


@compiled
def tag_of(cell_hash: int) -> int:
    """The lower 15 bits of a hash: buckets are of the upper ones."""
    return cell_hash & 0x7FFF


@compiled
def bucket_of(cell_hash: int, buckets: int) -> int:
    """The bucket among a power of two of them, at most 2**22."""
    return (cell_hash >> 10) & (buckets - 1)
