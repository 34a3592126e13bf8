"""The columns of a board as pages of bounded size: SLOTS efforts each, 48 bytes an effort.

A page has what ranks of its efforts, in the order in which they came, so a new effort is written with its last neighbours and a correction
with those of its own page. A board is filled from its pages without a look at any effort itself. What a page of another length or order
would be is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from broker.errors import StoreError
from processors.packed_efforts import PackedEfforts, check_told
from processors.packed_holding import PackedHolding
from processors.packed_kernel import Told

SLOTS: Final = 8
_SLOT: Final = np.dtype(
    [
        ("who_hi", "<u8"), ("who_lo", "<u8"), ("id_hi", "<u8"), ("start_us", "<i8"), ("id_lo", "<u4"), ("version_low", "<u4"),
        ("elapsed_ms", "<i4"), ("version_high", "<u2"), ("id_mid", "u1"), ("state", "u1"),
    ]
)  # fmt: skip
PAGE_BYTES: Final = SLOTS * _SLOT.itemsize
_CURE: Final = "make the state again: delete the group paceline-boards and its changelog"


def page_count(efforts: int) -> int:
    """How many pages as many efforts take."""
    return -(-efforts // SLOTS)


def pages_of(packed: PackedEfforts, slots: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The pages that hold some slots, with their numbers from 0."""
    for number in sorted({slot // SLOTS for slot in slots}):
        first, end = number * SLOTS, min((number + 1) * SLOTS, packed.used)
        page = np.empty(end - first, _SLOT)
        page["who_hi"], page["who_lo"] = packed.names(slice(first, end))
        c = packed.columns
        page["id_hi"], page["start_us"], page["elapsed_ms"] = c.id_hi[first:end], c.start_us[first:end], c.elapsed_ms[first:end]
        page["id_lo"], page["id_mid"] = c.id_lo[first:end] & 0xFFFFFFFF, c.id_lo[first:end] >> 32
        page["version_low"], page["version_high"] = c.version_low[first:end], c.version_high[first:end]
        page["state"] = c.state[first:end]
        yield number, page.tobytes()


def fill(holding: PackedHolding, pages: list[bytes], where: str) -> None:
    """Fill an empty holding from all pages of a board, in their order. StoreError names `where` when they are not those of a board."""
    whole = all(len(page) == PAGE_BYTES for page in pages[:-1])
    raw = b"".join(pages)
    if not whole or len(raw) % _SLOT.itemsize or not (pages and pages[-1]):
        raise StoreError(f"{where}: {len(pages)} pages of {len(raw)} bytes are not those of a board", cure=_CURE)
    slots = np.frombuffer(raw, _SLOT)
    told = Told(
        np.zeros(len(slots), np.int32),
        slots["id_hi"].copy(),
        slots["id_mid"].astype(np.uint64) << np.uint64(32) | slots["id_lo"].astype(np.uint64),
        slots["start_us"].copy(),
        slots["version_high"].astype(np.int64) << 32 | slots["version_low"].astype(np.int64),
        slots["elapsed_ms"].astype(np.int64),
        slots["state"].copy(),
    )
    try:
        check_told(told)
    except ValueError as error:
        raise StoreError(f"{where}: {error}", cure=_CURE) from error
    holding.restore(told, slots["who_hi"].copy(), slots["who_lo"].copy())
