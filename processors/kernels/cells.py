"""Cells: the globe in squares of about 64 m, rows of one height, a width that changes with each band of about a degree."""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.compiled import compiled_inside
from processors.kernels.match_columns import Whole
from processors.kernels.plane import METRE, cosine

CELL_M: Final = 64.0
CELL: Final = int(CELL_M / METRE)  # height of a row in 1e-7 degrees
ROWS: Final = 10_000_000 // CELL  # that share one width
WIDEST: Final = 850_000_000


def band_widths() -> list[int]:
    """Width of a cell in 1e-7 degrees for each band of rows, from 91 degrees south; beyond 85 degrees as wide as there."""
    return [math.floor(CELL / cosine(float(min(abs(band) * ROWS * CELL, WIDEST)))) for band in range(-91, 93)]


@compiled_inside
def row_of(lat: int) -> int:
    """The row of a latitude."""
    return lat // CELL


@compiled_inside
def width_of(widths: Whole, row: int) -> int:
    """How wide the cells of a row are."""
    return widths[min(max(row // ROWS + 91, 0), 183)]


@compiled_inside
def hashed(row: int, column: int) -> int:
    """32 bits of a cell, well mixed; every product fits 63 bits."""
    h = (row * 73_856_093 + column * 1_540_483_477) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 739_982_445) & 0xFFFFFFFF
    return h ^ (h >> 13)


@compiled_inside
def tag_of(cell_hash: int) -> int:
    """The lower 15 bits of a hash: buckets are of the upper ones."""
    return cell_hash & 0x7FFF


@compiled_inside
def bucket_of(cell_hash: int, buckets: int) -> int:
    """The bucket among a power of two of them, at most 2**22."""
    return (cell_hash >> 10) & (buckets - 1)
