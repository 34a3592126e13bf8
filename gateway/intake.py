"""Intake: the one door from every source to the spool. Stamps whom a frame counts for, then appends durably.

A frame is stamped once, here: what the uplink sends (and sends again) are the spooled bytes. Refuses a subject of another tenant.
Invariant: `append` returns only after the durable commit; when it raises, nothing was taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from broker.errors import Reason, Rejected
from broker.frames import Frame, encode_frame, restamp
from broker.ids import subject_of, subject_tenant
from broker.nodeconfig import NodeConfig
from gateway.clock import Instant
from gateway.spool import Spool, SpoolRow


def read_clock() -> Instant:
    """The box's monotonic and system clock, now."""
    return Instant(time.monotonic_ns() // 1000, time.time_ns() // 1000)


def subject_for(frame: Frame, tenant: str, config: NodeConfig) -> str:
    """Whom the frame counts for: the binding at its first instant, else what the source says, else nobody."""
    utc_us = frame.t0_us + frame.utc_offset_us if frame.utc_offset_us is not None and frame.dated else None
    athlete = config.athlete_at(frame.device, utc_us)
    return subject_of(tenant, athlete) if athlete is not None else frame.subject


class Intake:
    """The spool as the sources see it. `config` gives the configuration in force at that moment."""

    def __init__(self, spool: Spool, tenant: str, config: Callable[[], NodeConfig]) -> None:
        self._spool = spool
        self._tenant = tenant
        self._config = config
        self.without_room = 0  # frames too long to be stamped: kept as they came

    def stamp(self, frame: Frame, raw: bytes | None = None, *, received: bytes | None = None) -> SpoolRow | Rejected:
        """The row to spool. `raw` are the bytes of exactly this frame, `received` those it came as before it was dated, if there are any.

        A frame without room for its stamp is kept as it came (the platform can still attribute and date it), and counted.
        """
        if frame.subject and subject_tenant(frame.subject) != self._tenant:
            return Rejected(Reason.WRONG_TENANT, f"subject {frame.subject!r} is not of tenant {self._tenant}", raw or encode_frame(frame))
        subject = subject_for(frame, self._tenant, self._config())
        number = (frame.boot, frame.seq) if frame.self_numbered else None
        if raw is not None and subject == frame.subject:
            return SpoolRow(raw, frame.device, number)
        stamped = restamp(frame, subject=subject, utc_offset_us=frame.utc_offset_us, clock=frame.clock)
        try:
            return SpoolRow(encode_frame(stamped), frame.device, number)
        except ValueError:
            self.without_room += 1
            return SpoolRow(received if received is not None else encode_frame(frame), frame.device, number)

    def has_taken(self, frame: Frame) -> bool:
        """Whether this frame, numbered by its device, was taken before. It must not be stamped again: a re-send keeps its route."""
        return frame.self_numbered and self._spool.has_taken(frame.device, frame.boot, frame.seq)

    async def append(self, rows: Sequence[SpoolRow]) -> int:
        """The first row number, after the durable commit, of 1-1,000 rows. StoreError (SpoolFullError) when none of them was taken."""
        return await self._spool.append(rows)

    async def take(self, frames: Sequence[Frame]) -> None:
        """Stamp and append frames of a source in this box, without those it took before. ValueError when one could never be stored:
        that is an error of the source."""
        rows: list[SpoolRow] = []
        for frame in frames:
            if self.has_taken(frame):
                continue
            row = self.stamp(frame)
            if isinstance(row, Rejected):
                raise ValueError(f"{frame.device}: {row.reason}: {row.detail}")
            rows.append(row)
        if rows:
            await self.append(rows)
