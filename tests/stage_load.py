"""What is put through the stages of a cluster and what must come of it: worlds of several tenants, the same through the embedded runner, what
readers of the cluster see, and the events that are told.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from broker.errors import StoreError
from broker.frames import Frame
from broker.kafka_topics import event_topics
from broker.logrecord import LogRecord
from broker.reference import Reference, encode_reference
from processors.track_blobs import TrackBlobs
from processors.track_folder import FolderBlobs
from tests.any_way import Course, differing, outcome, world_of
from tests.kafka_stages import WAIT_S, Replicas, until


@dataclass
class Load:
    """Worlds of several tenants: what is known, bindings of devices to athletes of other partitions among it, and the frames by time."""

    refs: list[LogRecord]
    frames: list[LogRecord]


def load_of(seeds: Sequence[int], folder: Path) -> Load:
    course = Course(folder, 1)  # only makes records
    refs: list[LogRecord] = []
    frames: list[tuple[Frame, LogRecord]] = []
    for seed in seeds:
        tenant = f"gym{seed}"
        world = world_of(random.Random(seed))

        def named(record: LogRecord, tenant: str = tenant) -> LogRecord:
            mine = record.key.startswith(f"{tenant}/")  # it was made of a frame with the subject of the tenant
            return record._replace(key=record.key if mine else record.key.replace("gym", tenant, 1), tenant=tenant)

        for ref in world.refs:
            moved: Reference = ref.model_copy(update={"tenant": tenant})
            refs.append(named(course.reference(moved))._replace(body=encode_reference(moved)))
        for frame, node in world.frames:
            subject = frame.subject.replace("gym", tenant, 1)
            frames.append((frame, named(course.frame(replace(frame, subject=subject), node))))
    course.close()
    frames.sort(key=lambda f: (f[0].t0_us, f[0].boot, f[0].seq))
    return Load(refs, [record for _, record in frames])


def beside(refs: Sequence[LogRecord], parts: int, kept_first: Sequence[str] = ()) -> tuple[list[LogRecord], list[list[LogRecord]]]:
    """Changes to be known first, and as many parts of those that come beside kills: in order the second half of those of each tenant, but
    of `kept_first` none."""
    first, later = list[LogRecord](), list[LogRecord]()
    count = Counter(ref.tenant for ref in refs)
    seen_of = Counter[str]()
    for ref in refs:
        seen_of[ref.tenant] += 1
        (first if ref.tenant in kept_first or seen_of[ref.tenant] * 2 <= count[ref.tenant] else later).append(ref)
    return first, [later[n * len(later) // parts : (n + 1) * len(later) // parts] for n in range(parts)]


def alone(folder: Path, load: Load) -> dict[str, str]:
    """The same records through the embedded runner."""
    course = Course(folder, 2048)
    try:
        course.take([*load.refs, *load.frames])
        course.end()
    finally:
        course.close()
    return outcome(folder / "state.db")


def seen(replicas: Replicas, blobs: TrackBlobs | None = None) -> dict[str, str]:
    """What readers see now; tracks are in the folder of the replicas, or in `blobs`."""
    state = replicas.folder / "a" / "platform" / "state.db"
    try:
        return outcome(state, blobs or FolderBlobs(replicas.folder / "tracks")) if state.exists() else {}
    except StoreError:  # being made just now
        return {}


def wait_until_equal(replicas: Replicas, expected: dict[str, str], blobs: TrackBlobs | None = None, wait_s: float = WAIT_S) -> None:
    last: dict[str, str] = {}

    def equal() -> bool:
        replicas.all_alive()
        last.clear()
        last.update(seen(replicas, blobs))
        return last == expected

    try:
        until(equal, "the cluster does not end as one machine does", wait_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{differing(expected, last)[:4000]}\n{replicas.logs()}") from None


class Told(NamedTuple):
    """One event on its topic."""

    id: str
    topic: str
    entity: str
    type: str
    data: dict[str, Any]


def told(bootstrap: str) -> list[Told]:
    """All events that are committed, those of an entity in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    widths = {t.name: len(consumer.list_topics(t.name, timeout=60).topics[t.name].partitions) for t in event_topics()}
    places = [TopicPartition(name, n, -2) for name, width in widths.items() for n in range(width)]
    consumer.assign(places)
    ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=60)[1] for p in places}
    found: list[Told] = []

    def read() -> bool:
        for m in consumer.consume(1000, 0.2):
            if m.error() is None:
                said = {name: value.decode() for name, value in m.headers() or ()}
                found.append(Told(said["ce_id"], str(m.topic()), said["ce_subject"], said["ce_type"], json.loads(m.value() or b"")))
        return all(p.offset >= ends[p.topic, p.partition] or not ends[p.topic, p.partition] for p in consumer.position(places))

    until(read, "the events could not be read to their end")
    consumer.close()
    return found


def told_again(events: Sequence[Told], changing: Container[str] = ()) -> list[Told]:
    """Events that are no repeats by their ids and yet say what their entity said last: something was counted twice.

    Bindings that change amid frames (`changing`: of these tenants) may make an activity anew that nobody was told of, and take it away
    again: that it is gone is then told once more, without any kill and on one machine, too.
    """
    known: set[str] = set()
    last: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    again: list[Told] = []
    for event in events:
        if event.id in known:
            continue
        known.add(event.id)
        if event.type.endswith("lead_taken.v1"):  # a moment, of the same entity as the board
            continue
        state = {name: value for name, value in event.data.items() if name != "change"}
        now = "gone" if event.type.endswith(("removed.v1", "withdrawn.v1")) else "is", state
        made_anew = event.type.endswith("activity.removed.v1") and event.data["subject"].partition("/")[0] in changing
        if last.get((event.topic, event.entity)) == now and not event.type.endswith("started.v1") and not made_anew:
            again.append(event)
        last[event.topic, event.entity] = now
    return again
