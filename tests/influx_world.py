"""A platform's folder with something in it for InfluxDB: rides over segments, finished activities, health of a device, nodes that report."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from broker.nodeconfig import NodeState
from broker.reference import AthleteRef, ErasureRef, Reference, encode_reference
from processors.believed import decode_believed
from processors.believed_db import blocks_after
from processors.influx_sink import SinkFiles
from processors.log import SqliteLog
from processors.pulse import write_pulse
from processors.runner import Runner
from processors.state_db import connect
from tests.any_way import T0_US, US, ride, segment

HEALTH = layout_named("health.1")
SPEED_MPS = 5.0


class InfluxWorld:
    """A log and a runner that tells, with a clock that the test moves."""

    def __init__(self, folder: Path, t0_us: int = T0_US) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.files = SinkFiles(folder)
        self.log = SqliteLog.open(self.files.log)
        self.t0_us = self.now_us = t0_us
        self.runner = Runner(self.log, self.files.state, clock_us=lambda: self.now_us, tells=True)
        self.sent = 0

    def close(self) -> None:
        self.runner.close()
        self.log.close()

    def refer(self, *values: Reference) -> None:
        self.log.append([LogRecord(Kind.REFERENCE, v.tenant, v.tenant, "", self.now_us, encode_reference(v)) for v in values])
        self.runner.drain()

    def take(self, frames: list[Frame], node: str = "box") -> None:
        records = []
        for frame in frames:
            assert frame.utc_offset_us is not None
            f = replace(frame, utc_offset_us=frame.utc_offset_us + self.t0_us - T0_US)
            key = route_of("gym", node, f.device, f.subject, self_numbered=f.self_numbered)
            records.append(LogRecord(Kind.FRAME, key, "gym", node, self.now_us, encode_frame(f)))
        self.log.append(records)
        self.runner.drain()

    def ride_on(self, seconds: int, athletes: tuple[str, ...] = ("anna", "bob")) -> None:
        """The next seconds of everybody's ride, 25 s a batch."""
        for at in range(self.sent, self.sent + seconds, 25):
            frames = []
            for number, name in enumerate(athletes):
                rng = random.Random(name)
                frames += ride(
                    rng, f"watch-{name}", 1 + number, at, 25, subject=f"gym/{name}", speed_mps=SPEED_MPS + number, first_seq=at // 5
                )  # fmt: skip
            self.now_us = self.t0_us + (at + 26) * US
            self.take(frames)
        self.sent += seconds

    def finish(self) -> None:
        """Let the activities end and be finished."""
        for _ in range(30):
            self.now_us += 60 * US
            self.runner.drain()
            while self.runner.fire_wakes():
                self.runner.drain()

    def tell_health(self) -> None:
        body = HEALTH.pack({"tick_ms": 0, "battery_pct": 80, "rssi_dbm": -60})
        self.take([Frame(HEALTH.id, 1, "watch-anna", 9, 0, self.now_us - self.t0_us, T0_US, 2, "gym/anna", body)])

    def report_nodes(self) -> None:
        write_pulse(self.files.pulse, self.now_us, {("gym", "box"): NodeState(online=True, spool_rows=7, hours_left=12.5)}, {"p99": 85.0})

    def segments(self) -> None:
        self.refer(segment("hill", 40, 140), segment("back", 500, 620), *(AthleteRef(tenant="gym", id=n, name=n) for n in ("anna", "bob")))

    def erase(self, athlete: str) -> None:
        self.refer(ErasureRef(tenant="gym", id=athlete))

    def samples(self) -> dict[tuple[str, int], float]:
        """See `samples_in`."""
        return samples_in(self.files.state)


def samples_in(state: Path) -> dict[tuple[str, int], float]:
    """(athlete, time in us) of every sample that was told, with the distance then in metres."""
    found: dict[tuple[str, int], float] = {}
    with closing(connect(state, write=False)) as db:
        for block in blocks_after(db, 0, 1_000_000):
            b = decode_believed(block.body)
            for of, t_us, dist_um in zip(b.subject_of.tolist(), b.t_us.tolist(), b.dist_um.tolist(), strict=True):
                found[b.subjects[of].partition("/")[2], t_us] = dist_um // 100_000 / 10
    return found
