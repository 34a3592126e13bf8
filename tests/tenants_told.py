"""What the stages of a cluster say of three tenants, and the state files that views of parts of them make of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from broker.frames import encode_frame
from broker.ids import route_of
from broker.kafka_topics import REFERENCE
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, ErasureRef, MergeRef, Reference, encode_reference
from broker.view_part import ViewPart
from processors.hot_board import NONE_HOT, HotRule
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from processors.view_file import open_part
from tests.any_way import T0_US, US, ride, segment
from tests.memory_cluster import MemoryCluster

TENANTS = ("club", "gym", "hall")
ATHLETES = ("anna", "bob")


def rides_of(folder: Path, hot: HotRule = NONE_HOT, t0_us: int = T0_US) -> list[Record]:
    """Rides of two athletes of each tenant over a segment, finished; one of them is erased and one merged. All is said by 5,801 s after t0."""
    cluster = MemoryCluster(folder, now_us=t0_us + 3_000 * US, tells=True, hot=hot)
    frames = [
        (tenant, replace(frame, utc_offset_us=(frame.utc_offset_us or 0) + t0_us - T0_US))
        for number, tenant in enumerate(TENANTS)
        for name in ATHLETES
        for frame in ride(random.Random(name), f"w-{name}", number + 1, 0, 400, subject=f"{tenant}/{name}", speed_mps=5.0)
    ]
    frames.sort(key=lambda one: (one[1].t0_us, one[0], one[1].device))

    def refer(*values: Reference) -> None:
        cluster.append([LogRecord(Kind.REFERENCE, v.tenant, v.tenant, "", cluster.now_us, encode_reference(v)) for v in values])
        cluster.drain()

    try:
        for tenant in TENANTS:
            refer(segment("hill", 40, 140).model_copy(update={"tenant": tenant}))
            refer(*(AthleteRef(tenant=tenant, id=name, name=name) for name in (*ATHLETES, "zoe")))
        cluster.append(
            [
                LogRecord(
                    Kind.FRAME, route_of(tenant, "box", f.device, f.subject, self_numbered=f.self_numbered), tenant, "box", cluster.now_us,
                    encode_frame(f),
                )
                for tenant, f in frames
            ]
        )  # fmt: skip
        cluster.drain()
        for _ in range(4):
            cluster.pass_time(700 * US)
        refer(MergeRef(tenant="club", id="bob", into="zoe"), ErasureRef(tenant="gym", id="bob"))
        cluster.pass_time(US)
        cluster.view()
        lanes = zip(cluster.topics.told, cluster.topics.lanes, strict=True)
        return [Record(topic, lane, m.offset, m.key or b"", m.value, m.headers) for (topic, m), (_, lane) in lanes]
    finally:
        cluster.close()


def view_of(path: Path, told: Sequence[Record], part: ViewPart, batch: int = 40) -> StateDb:
    """The state file of a part, after these records."""
    store = open_part(path, part)
    store.db.execute("INSERT OR IGNORE INTO position VALUES (?, 0)", (f"{REFERENCE}[0]",))
    view = StateView(store, tells=True, part=part)
    for at in range(0, len(told), batch):
        store.db.execute("BEGIN IMMEDIATE")
        assert view.take(told[at : at + batch]) == []
        store.db.execute("COMMIT")
    return store
