"""Small worlds to be run through the runner in any way: frames, uploads, bindings, segments and athletes; and what each way ended in.

A world is a handful of short activities drawn from a seed. Its plain course takes all reference data first and then the frames by time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, BindingRef, ErasureRef, MergeRef, Reference, RulingRef, SegmentRef, UploadRef, encode_reference
from processors.log import SqliteLog
from processors.results import activity_id, effort_id
from processors.runner import Runner, replay
from processors.stores import ReadStore
from processors.track_blobs import TrackBlobs

US = 1_000_000
T0_US = 1_790_000_000 * US
OWN_CLOCK_US = 1000 * US  # what a device's own clock shows at T0
MOTION, BEATS = layout_named("motion.1"), layout_named("beats.1")
LAT0, LON0 = 47.0, 8.0
M_LAT = 1 / 111_194.9
M_LON = M_LAT / math.cos(math.radians(LAT0))
SUBJECTS = ("anna", "bob", "carl", "dora")


def place(metre: float) -> tuple[float, float]:
    """Out and back along a gently winding way of 400 m, again and again."""
    metre %= 800
    metre = min(metre, 800 - metre)
    return LAT0 + metre * 0.8 * M_LAT + 10 * math.sin(metre / 60) * M_LAT, LON0 + metre * 0.6 * M_LON


def segment(name: str, from_m: float, to_m: float, sport: str = "any") -> SegmentRef:
    points = [place(from_m + k * 10) for k in range(int((to_m - from_m) / 10) + 1)]
    at = tuple((round(a * 1e7), round(b * 1e7)) for a, b in points)
    return SegmentRef.model_validate({"tenant": "gym", "id": name, "name": name, "sport": sport, "points": at})


@dataclass
class World:
    """All that happens: frames with the node that sent them, and reference changes in their order."""

    frames: list[tuple[Frame, str]] = field(default_factory=list[tuple[Frame, str]])
    refs: list[Reference] = field(default_factory=list[Reference])


def ride(
    rng: random.Random, device: str, boot: int, start_s: float, seconds: int, *, subject: str = "", own: bool = True, undated: int = 0,
    layout: str = "motion", first_seq: int = 0, recorded: bool = False, speed_mps: float = 0.0,
) -> list[Frame]:  # fmt: skip
    """One boot of a device: frames of 5 s (sometimes the first ones undated, sometimes with a clock that is set again on the way)."""
    speed_mps = speed_mps or rng.uniform(3, 8)
    kind = MOTION if layout == "motion" else BEATS
    frames: list[Frame] = []
    offset_us = T0_US - OWN_CLOCK_US
    steps = rng.random() < 0.2
    hr = rng.randint(90, 180)
    for seq in range(seconds // 5):
        rows: list[bytes] = []
        for i in range(5):
            lat, lon = place((start_s + seq * 5 + i) * speed_mps)
            values: dict[str, float] = {"tick_ms": i * 1000, "hr_bpm": hr + seq % 20}
            if kind is MOTION:
                values |= {"lat": lat, "lon": lon, "accuracy_m": 3.0, "speed_mps": speed_mps}
            rows.append(kind.pack(values))
        if steps and seq == seconds // 10:
            offset_us += rng.choice([1_500_000, -800_000])
        t0_us = OWN_CLOCK_US + int((start_s + seq * 5) * US)
        dated = seq >= undated
        clock = 0 if not dated else 4 if recorded else 2
        frames.append(
            Frame(kind.id, int(own), device, boot, first_seq + seq, t0_us, offset_us if dated else None, clock, subject, b"".join(rows))
        )
    return frames


def world_of(rng: random.Random) -> World:
    world = World()
    put = world.frames

    def add(frames: Sequence[Frame], node: str = "box") -> None:
        put.extend((f, node) for f in frames)

    starts = [0.0, 30.0, 500.0, 690.0, 703.0, 1400.0, 2500.0]
    add(ride(rng, "watch", 1, 0, 100, subject="gym/anna"))
    if rng.random() < 0.7:  # another device of hers at the same time, or joining two activities into one
        add(ride(rng, "phone", 2, rng.choice(starts), rng.choice([10, 40, 150]), subject="gym/anna", undated=rng.choice([0, 0, 3])))
    if rng.random() < 0.7:
        add(ride(rng, "watch", 3, rng.choice(starts[2:]), 100, subject="gym/anna"))
    live = rng.choice(starts)
    add(ride(rng, "band", 4, live, 100, subject="gym/bob", speed_mps=5))
    if rng.random() < 0.6:  # the file of it, and perhaps of something else
        at = live + rng.choice([-20, -4, 0, 12, 90, 700])
        file = ride(rng, "f-1", 77, at, rng.choice([60, 130]), subject="gym/bob", own=False, recorded=True, speed_mps=5)
        add(file, "upload")
        if rng.random() < 0.3:  # and another one of half of it
            half = ride(rng, "f-2", 78, at + 30, 60, subject="gym/bob", own=False, recorded=True, speed_mps=5, layout="beats")
            add(half, "upload")
        lap = (T0_US + int((at + 30) * US),) if rng.random() < 0.5 else ()
        sport = rng.choice(["running", "cycling", None])
        span = {"first_us": T0_US, "last_us": T0_US + 10 * US}
        world.refs.append(
            UploadRef.model_validate(
                {"tenant": "gym", "id": "f-1", "athlete": "bob", "name": "x.fit", "format": "fit", "lap_starts_us": lap, "sport": sport}
                | span
            )
        )
    for boot in (10, 11)[: rng.randint(1, 2)]:  # a strap nobody owns, shared in turn, heard by one box or two
        undated = rng.choice([0, 0, 3, 8])
        strap = ride(rng, "strap", boot, rng.choice(starts), rng.choice([60, 150]), undated=undated)
        stamped = rng.choice([len(strap), len(strap) // 2])
        add([f if n < stamped else _stamped(f, "gym/carl") for n, f in enumerate(strap)])
        if rng.random() < 0.4:
            add(rng.sample(strap, len(strap) // 3), "other")
            add([_stamped(f, "gym/carl") for f in rng.sample(strap, len(strap) // 4)], "other")
    if rng.random() < 0.5:  # a dumb sensor behind a node, numbered by it
        add(ride(rng, "belt", 20, rng.choice(starts), 60, subject=rng.choice(["", "gym/dora"]), own=False, layout="beats"))
    _references(rng, world)
    return world


def _stamped(frame: Frame, subject: str) -> Frame:
    return Frame(
        frame.layout,
        frame.flags,
        frame.device,
        frame.boot,
        frame.seq,
        frame.t0_us,
        frame.utc_offset_us,
        frame.clock,
        subject,
        frame.records,
    )


def _references(rng: random.Random, world: World) -> None:
    base = [segment("hill", 40, 140), segment("back", 500, 620), segment("long", 20, 300), segment("sprint", 100, 180, "run")]
    changes: list[Reference] = [*rng.sample(base, rng.randint(1, 4))]
    for held in [*changes]:
        assert isinstance(held, SegmentRef)
        if rng.random() < 0.3:
            changes.append(segment(held.id, 60, 200))
        if rng.random() < 0.25:
            changes.append(held.model_copy(update={"removed": True, "points": ()}))
            if rng.random() < 0.5:
                changes.append(held)
        if rng.random() < 0.2:
            changes.append(held.model_copy(update={"name": "another name"}))
    for name in rng.sample(SUBJECTS, 3):
        athlete = AthleteRef(tenant="gym", id=name, name=name)
        changes.append(athlete)
        for _ in range(rng.choice([0, 1, 1, 2])):
            athlete = athlete.model_copy(update=rng.choice(ATHLETES))
            changes.append(athlete)
    devices = [("strap", ""), ("belt", "box"), ("watch", "")]
    for number in range(rng.randint(0, 5)):
        device, node = rng.choice([devices[0], devices[0], *devices])
        marks = sorted(rng.sample([None, -50, 31, 52, 80, 300, 520, 700, 1420, 2000], 2), key=lambda s: -1000 if s is None else s)
        lo, hi = (None if s is None else T0_US + int(s * US) + rng.choice([0, 1, 400_000]) for s in marks)
        made = BindingRef(
            tenant="gym", id=f"b{number}", device=device, node=node, athlete=rng.choice(["carl", "dora", "anna"]), from_us=lo,
            to_us=rng.choice([hi, None]),
        )  # fmt: skip
        changes.append(made)
        for _ in range(rng.choice([0, 0, 1, 2])):
            then = rng.choice([{"removed": True}, {"athlete": "dora"}, {"to_us": None}, {"from_us": None}, {"device": "strap", "node": ""}])
            made = made.model_copy(update=then)
            changes.append(made)
    changes += _decisions(rng, world)
    # each entity keeps its own order, entities are mixed
    by_entity: dict[tuple[str, str], list[Reference]] = {}
    for change in changes:
        by_entity.setdefault((change.entity, change.id), []).append(change)
    queues: list[list[Reference]] = list(by_entity.values())
    while queues:
        queue = rng.choice(queues)
        world.refs.append(queue.pop(0))
        queues = [held for held in queues if held]


def _decisions(rng: random.Random, world: World) -> list[Reference]:
    """Rulings on activities and efforts that there may be, athletes who are one person, and now and then one who is erased."""
    made: list[Reference] = []
    if rng.random() < 0.4:
        return made
    subjects = [f"gym/{name}" for name in SUBJECTS]
    starts = sorted({f.t0_us + f.utc_offset_us for f, _ in world.frames if f.utc_offset_us is not None and f.seq == 0})
    for _ in range(rng.randint(1, 6)):
        activity = activity_id(rng.choice(subjects), rng.choice(starts))
        effort = effort_id(activity, rng.choice(["hill", "back", "long", "sprint"]), 0)
        ruling = RulingRef(tenant="gym", id=rng.choice([activity, effort]))
        for _ in range(rng.randint(1, 3)):
            ruling = ruling.model_copy(update=rng.choice(RULINGS))
            made.append(ruling)
    for old in rng.sample(SUBJECTS, rng.randint(0, 3)):
        merge = MergeRef(tenant="gym", id=old, into=rng.choice([name for name in SUBJECTS if name != old]))
        made.append(merge)
        if rng.random() < 0.4:
            made.append(merge.model_copy(update={"removed": True}))
            if rng.random() < 0.5:
                made.append(merge)
    if rng.random() < 0.3:
        made.append(ErasureRef(tenant="gym", id=rng.choice(SUBJECTS)))
    return made


RULINGS = [{"decision": "flag"}, {"decision": "clear"}, {"decision": None}, {"hidden": True}, {"hidden": False}, {"sport": "ride"}, {"removed": True},
           {"removed": False}]  # fmt: skip
ATHLETES = [{"hr_max_bpm": 160}, {"hr_max_bpm": 205}, {"hr_zones_bpm": (100, 120, 140, 160)}, {"name": "other"}, {"removed": True}]


class Killed(Exception):
    """What a kill is to a test in one process: nothing after it happens."""


class Course:
    """A log and a runner taken through a course."""

    def __init__(self, path: Path, max_records: int, rng: random.Random | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.rng = path, rng
        self.now_us = T0_US
        self.max_records = max_records
        self.log = SqliteLog.open(path / "log.db")
        self.runner = self._runner()

    def _runner(self) -> Runner:
        return Runner(self.log, self.path / "state.db", clock_us=lambda: self.now_us, max_records=self.max_records)

    def frame(self, f: Frame, node: str) -> LogRecord:
        key = route_of("gym", node, f.device, f.subject, self_numbered=f.self_numbered)
        return LogRecord(Kind.FRAME, key, "gym", node, self.now_us, encode_frame(f))

    def reference(self, value: Reference) -> LogRecord:
        return LogRecord(Kind.REFERENCE, "gym", "gym", "", self.now_us, encode_reference(value))

    def take(self, records: Sequence[LogRecord]) -> None:
        if records:
            self.log.append(records)
        self.drain()

    def drain(self) -> None:
        while True:
            try:
                self.runner.drain()
            except Killed:
                if self.rng is not None and self.rng.random() < 0.5:
                    self.runner.close()
                    self.runner = self._runner()
            else:
                return

    def settle(self, seconds: float) -> None:
        self.now_us += int(seconds * US)
        self.drain()
        while self.runner.fire_wakes():
            self.drain()

    def end(self) -> None:
        for _ in range(4):
            self.settle(700)

    def close(self) -> None:
        self.runner.close()
        self.log.close()


def outcome(state: Path, blobs: TrackBlobs | None = None) -> dict[str, str]:
    """Everything that must not depend on the way, readable when it does."""
    store = ReadStore(state, blobs)
    try:
        made: dict[str, str] = {}
        for subject in store.subjects():
            for layout, track in store.tracks(subject).items():
                made[f"track {subject} {layout}"] = f"{len(track)} {track.t_us.tolist()} " + str(hash(track.fingerprint()))
        for a in store.activities():
            line = (a.anchor_us - T0_US, a.end_us - T0_US, a.distance_um, a.points, a.moving_us, a.samples, a.hr_sum, a.hr_n, a.hr_max)
            made[f"activity {a.subject} {a.start_us - T0_US}"] = repr((*line, a.closed))
        for name in store.boards():
            made[f"board {name}"] = repr(store.board(name).standings())
        for number, part in enumerate(store.results()):
            made[f"result {number:03}"] = repr(part)
        return made
    finally:
        store.close()


def plain(path: Path, world: World) -> dict[str, str]:
    course = Course(path, 2048)
    try:
        frames = sorted(world.frames, key=lambda f: (f[0].t0_us, f[0].boot, f[0].seq))
        course.take([course.reference(value) for value in world.refs])
        course.take([course.frame(f, node) for f, node in frames])
        course.end()
    finally:
        course.close()
    return outcome(path / "state.db")


def any_way(path: Path, world: World, rng: random.Random) -> dict[str, str]:
    """The same world by another way: order, cut, repetition, pauses, kills, lost memory; then the log replayed."""
    items: list[tuple[Frame, str] | None] = [*world.frames, *rng.sample(world.frames, min(20, len(world.frames)))]
    order = rng.choice(["time", "near", "any"])
    if order == "any":
        rng.shuffle(items)
    else:
        spread_s = 0 if order == "time" else 60
        items.sort(key=lambda f: 0 if f is None else f[0].t0_us + rng.uniform(0, spread_s) * US)
    slots = sorted(rng.randint(0, len(items)) for _ in world.refs)
    if rng.random() < 0.25:
        slots = [len(items)] * len(slots)
    for slot in reversed(slots):
        items.insert(slot, None)
    course = Course(path, rng.choice([1, 3, 17, 2048]), rng)
    refs = iter(world.refs)
    pause = rng.choice([0.05, 0.3])
    try:
        at = 0
        while at < len(items):
            n = rng.choice([1, 2, 10, 40, len(items)])
            records = [course.reference(next(refs)) if item is None else course.frame(*item) for item in items[at : at + n]]
            course.take(records)
            at += n
            if rng.random() < pause:
                course.settle(rng.choice([1, 4, 7, 70, 700]))
        course.end()
    finally:
        course.close()
    return outcome(path / "state.db")


def replayed(path: Path, max_records: int) -> dict[str, str]:
    with SqliteLog.open(path / "log.db") as log:
        replay(log, path / "again.db", max_records=max_records).close()
    return outcome(path / "again.db")


def differing(a: dict[str, str], b: dict[str, str]) -> str:
    """What is not the same, short enough to read."""
    lines = [f"{k}:\n  - {a.get(k, '')[:600]}\n  + {b.get(k, '')[:600]}" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    return "\n".join(lines[:6])


def motion(t_s: float, seq: int, device: str, *, boot: int = 1, hr: int = 120, seconds: int = 5, subject: str = "gym/anna") -> Frame:
    """One frame of a device, on the way at 4 m/s."""
    rows: list[bytes] = []
    for i in range(seconds):
        lat, lon = place((t_s + i) * 4)
        values = {"tick_ms": i * 1000, "lat": lat, "lon": lon, "accuracy_m": 3.0, "speed_mps": 4.0, "hr_bpm": hr}
        rows.append(MOTION.pack(values))
    t0_us = OWN_CLOCK_US + int(t_s * US)
    return Frame(MOTION.id, 1, device, boot, seq, t0_us, T0_US - OWN_CLOCK_US, 2, subject, b"".join(rows))


def both_ways(path: Path, one: Sequence[Frame | Reference | int], other: Sequence[Frame | Reference | int]) -> dict[str, str]:
    """The outcome of two courses, which must be the same. A number is a pause in seconds."""
    found: list[dict[str, str]] = []
    for name, steps in (("one", one), ("other", other)):
        course = Course(path / name, 1)
        try:
            for step in steps:
                if isinstance(step, int):
                    course.settle(step)
                else:
                    course.take([course.frame(step, "box") if isinstance(step, Frame) else course.reference(step)])
            course.end()
        finally:
            course.close()
        found.append(outcome(path / name / "state.db"))
    assert found[0] == found[1], differing(*found)
    return found[0]


def bound(name: str, athlete: str, from_s: float | None = None, to_s: float | None = None, device: str = "strap") -> BindingRef:
    lo, hi = (None if s is None else T0_US + int(s * US) for s in (from_s, to_s))
    return BindingRef(tenant="gym", id=name, device=device, athlete=athlete, from_us=lo, to_us=hi)
