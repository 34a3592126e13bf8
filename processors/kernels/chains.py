"""Chains: records of a book hung behind each other, from an athlete's head; a free one is in the chain of the free."""

from __future__ import annotations

from typing import Final

from processors.kernels.compiled import compiled_inside
from processors.kernels.match_columns import FREE, FREE_N, NEXT, Book

END: Final = -1


@compiled_inside
def taken(book: Book) -> int:
    """A free record; there must be one."""
    r = book.pool[FREE]
    book.pool[FREE] = book.records[r, NEXT]
    book.pool[FREE_N] -= 1
    return r


@compiled_inside
def released(book: Book, r: int) -> None:
    """The record is free."""
    book.records[r, NEXT] = book.pool[FREE]
    book.pool[FREE] = r
    book.pool[FREE_N] += 1


@compiled_inside
def appended(book: Book, slot: int, chain: int, r: int) -> None:
    """Hang a record to the end of the chain whose columns (first, last, how many) begin at `chain`."""
    heads = book.heads
    book.records[r, NEXT] = END
    if heads[slot, chain + 2] == 0:
        heads[slot, chain] = r
    else:
        book.records[heads[slot, chain + 1], NEXT] = r
    heads[slot, chain + 1] = r
    heads[slot, chain + 2] += 1


@compiled_inside
def unhung(book: Book, slot: int, chain: int, before: int, r: int) -> None:
    """Take a record off its chain; `before` is the one it hangs on, END for the first."""
    heads = book.heads
    behind = book.records[r, NEXT]
    if before == END:
        heads[slot, chain] = behind
    else:
        book.records[before, NEXT] = behind
    if behind == END:
        heads[slot, chain + 1] = before
    heads[slot, chain + 2] -= 1
