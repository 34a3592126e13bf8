"""Who is on a segment now, and how far behind or ahead of whom: matcher states joined with the boards at read time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from processors.board_cache import BoardCache
from processors.directory import Known
from processors.live_kernel import APPENDED, NEVER
from processors.live_state import Matching
from processors.matcher import Arena, UnderWay, gap_ms, projected_ms, under_way
from processors.results import Effort
from processors.results_db import attempts_of_tenant
from processors.segment_board import OVERALL
from processors.segments import SegmentEntry
from processors.stores import ReadStore

STALE_US: Final = 120_000_000  # so long a silence ends every attempt, once a fix comes


@dataclass(frozen=True, slots=True)
class Racing:
    """An attempt under way and its gaps in ms at the same share of the way (positive: behind; None: nobody to compare with).

    `next_faster` stands right above the subject on the board of all time; for who is not on it, its last row."""

    subject: str
    segment: SegmentEntry
    under: UnderWay
    gap_leader_ms: int | None
    gap_own_ms: int | None
    gap_next_ms: int | None
    next_faster: Effort | None
    next_rank: int | None
    projected_ms: int | None  # elapsed at the finish, by the subject's own best, else the leader's, else an even pace


def racing(store: ReadStore, known: Known, boards: BoardCache, now_us: int, segment: str | None = None) -> list[Racing]:
    """All attempts of a tenant (on one segment) of who is heard, by segment, the furthest first."""
    made = [_joined(known, boards, subject, under) for subject, under in _under_way(store, known, now_us, segment)]
    made.sort(key=lambda r: (r.segment.id, -r.under.share_ppm, r.under.elapsed_ms, r.subject))
    return made


def _under_way(store: ReadStore, known: Known, now_us: int, segment: str | None) -> Iterator[tuple[str, UnderWay]]:
    heard = {subject: int(row[APPENDED]) for subject, row in store.rows(known.tenant)}
    arena = Arena()
    for subject, raw in attempts_of_tenant(store.db, known.tenant):
        if now_us - heard.get(subject, NEVER) < STALE_US:
            for under in under_way(Matching.decode(raw, arena).attempts, known.index):
                if segment is None or under.segment == segment:
                    yield subject, under


def _joined(known: Known, boards: BoardCache, subject: str, under: UnderWay) -> Racing:
    with boards.board(known.tenant, under.segment) as board:
        found = board.reference(OVERALL, known.decisions.person(subject))
        rank = None if found.next_faster is None else board.rank(OVERALL, found.next_faster.subject)

    def gap(to: Effort | None) -> int | None:
        curve = boards.curve(known.tenant, to) if to is not None else ()
        return gap_ms(under, curve) if curve else None

    model = found.own_best if found.own_best is not None else found.leader
    return Racing(
        subject, known.index.segments[under.segment], under, gap(found.leader), gap(found.own_best), gap(found.next_faster),
        found.next_faster, rank, projected_ms(under, boards.curve(known.tenant, model) if model is not None else ()),
    )  # fmt: skip
