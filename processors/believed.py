"""What the live stage believes of each sample that counted, as columns: filtered position, fused heart rate, distance so far. Pure.

For what shows or stores live telemetry outside (`influx_sink`). A field is there at the samples that brought it. One block a batch of the
stage; when an activity is run again because of late samples, one block of the whole of it, `again`. Beside it, what devices said of their
own health. As bytes a block is about 20 B a sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt

from broker.columns import join_records
from broker.errors import StoreError
from broker.layouts import all_layouts, layout_named
from processors import live_kernel as k
from processors.live_row import ABSENT, NO_ALTITUDE, NO_POS
from processors.run_kernel import Ran
from processors.samples import MACHINE, Samples, TakenFrame

I64 = npt.NDArray[np.int64]

_VERSION: Final = 1
_PARTS: Final = 8  # bits of a position that number the parts of a block
_MINUTE_US: Final = 60_000_000
_HEALTH: Final = layout_named("health.1").id
GPS, ON_MACHINE, SENSOR = range(3)  # what a sample is from: positions, a machine, anything else
SOURCES: Final = ("gps", "machine", "sensor")
MOST_AGE_US: Final = 48 * 3_600_000_000  # older ones are not told: an uploaded file of last year is no live telemetry
_COLUMNS: Final = (
    "subject_of", "t_us", "source", "lat", "lon", "altitude_dm", "speed_cmps", "hr_bpm", "power_w", "cadence_rpm", "dist_um", "position",
)  # fmt: skip
_NARROW: Final = ("<i4", "<i8", "<i1", "<i4", "<i4", "<i2", "<i4", "<i2", "<i4", "<i2", "<i8", "<i8")
_SAMPLE_BYTES: Final = sum(np.dtype(kind).itemsize for kind in _NARROW)
_CURE: Final = "it is passed over; paceline replay makes the state again"


@dataclass(frozen=True, slots=True)
class Health:
    """What a device, or the box that speaks for it, said of it. None: not said."""

    tenant: str
    node: str
    device: str
    t_us: int
    battery_pct: int | None
    rssi_dbm: int | None
    dropped: int | None
    uptime_s: int | None


@dataclass(frozen=True, slots=True)
class Believed:
    """Samples of `subjects`: a column each, ABSENT (NO_POS, NO_ALTITUDE) where a sample brought nothing. `appended_us`: of the last
    record. `dist_um` is that of the activity so far. `position`: of the record that had a sample told, times 256, never going back."""

    subjects: list[str]
    subject_of: I64
    t_us: I64
    source: I64
    lat: I64
    lon: I64
    altitude_dm: I64
    speed_cmps: I64
    hr_bpm: I64
    power_w: I64
    cadence_rpm: I64
    dist_um: I64
    position: I64
    appended_us: int
    again: bool = False
    health: Sequence[Health] = field(default_factory=tuple[Health, ...])

    def __len__(self) -> int:
        return len(self.t_us)


def believed_of(
    key_of: Callable[[int], str], slots: Sequence[int], samples: Samples, ran: Ran, taken: Iterable[tuple[str, TakenFrame]],
    at: Sequence[tuple[int, int]],
) -> Believed:  # fmt: skip
    """Of the frames of a batch: `slots` whom each counts for, which `key_of` names; `taken` are all of them, for health. `at`: (position,
    append time) of the record of each frame."""
    used, places = np.unique(np.asarray(slots, np.int64), return_inverse=True)
    numbers: list[int] = used.tolist()
    subjects = [key_of(slot) for slot in numbers]
    counts = samples.ends - samples.first
    position = np.repeat(np.array([position for position, _ in at], np.int64), counts)
    return _made(subjects, np.repeat(places, counts), samples, ran, position, at[-1][1], again=False, health=_health(taken))


def believed_again(key: str, samples: Samples, ran: Ran, at: tuple[int, int]) -> Believed:
    """Of whole activities of a subject that were run again at a record."""
    nothing = np.zeros(len(samples.t_us), np.int64)
    return _made([key], nothing, samples, ran, nothing + at[0], at[1], again=True, health=())


def _made(
    subjects: list[str], subject_of: I64, s: Samples, ran: Ran, position: I64, appended_us: int, *, again: bool,
    health: Sequence[Health],
) -> Believed:  # fmt: skip
    out = ran.out
    motion, heart, power, cadence = (out[:, c] != 0 for c in (k.BY_MOTION, k.BY_HEART, k.BY_POWER, k.BY_CADENCE))
    keep = np.flatnonzero((motion | heart | power | cadence) & (s.t_us >= appended_us - MOST_AGE_US))
    fixed = motion & (out[:, k.FIX_START] != k.NEVER)
    source = np.where(s.kind == MACHINE, ON_MACHINE, np.where(s.lat != NO_POS, GPS, SENSOR))
    columns = (
        subject_of, s.t_us, source,
        np.where(fixed, out[:, k.FIX_LAT], NO_POS), np.where(fixed, out[:, k.FIX_LON], NO_POS),
        np.where(motion, s.altitude_dm, NO_ALTITUDE), np.where(motion, out[:, k.NOW_SPEED], ABSENT),
        np.where(heart, out[:, k.NOW_HR], ABSENT), np.where(power, s.power_w, ABSENT), np.where(cadence, s.cadence_rpm, ABSENT),
        out[:, k.NOW_DIST], position << _PARTS,
    )  # fmt: skip
    return Believed(subjects, *[column[keep] for column in columns], appended_us=appended_us, again=again, health=health)


def _health(taken: Iterable[tuple[str, TakenFrame]]) -> list[Health]:
    said: list[Health] = []
    for key, f in taken:
        if f.frame.layout != _HEALTH:
            continue
        layout = all_layouts()[_HEALTH]
        absent = {name: layout.field(name).absent for name in ("battery_pct", "rssi_dbm", "dropped", "uptime_s")}
        for record in join_records(_HEALTH, [f.frame.records]):
            values = {name: None if int(record[name]) == none else int(record[name]) for name, none in absent.items()}
            t_us = f.frame.t0_us + f.offset_us + int(record["tick_ms"]) * 1000
            said.append(Health(key.partition("/")[0], f.node, f.frame.device, t_us, **values))
    return said


def _chosen(block: Believed, which: I64 | npt.NDArray[np.bool_] | slice) -> Believed:
    return replace(block, **{name: getattr(block, name)[which] for name in _COLUMNS})


def unseen(block: Believed, covered: int) -> Believed:
    """Without what was told at positions up to `covered`: a stage that goes on from a checkpoint tells the same again, cut otherwise."""
    if not len(block) or int(block.position[0]) > covered:
        return block
    return _chosen(block, block.position > covered)


def chosen_of(raw: bytes, wanted: Callable[[str], bool], where: str = "believed samples") -> bytes | None:
    """An encoded block with only the subjects and the health of tenants that are wanted: as it came when that is all of it, None when it is
    nothing; then its columns are not unpacked. StoreError names `where` when the bytes are damaged."""
    try:
        _, subjects, _, _, _, _, health = msgpack.unpackb(raw, use_list=False)
        kept = [place for place, subject in enumerate(subjects) if wanted(subject.partition("/")[0])]
        said = [one for one in health if wanted(one[0])]
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{where}: damaged ({error})", cure=_CURE) from error
    if len(kept) == len(subjects) and len(said) == len(health):
        return raw
    if not kept and not said:
        return None
    block = decode_believed(raw, where)
    new = np.full(len(subjects), -1, np.int64)
    new[kept] = np.arange(len(kept))
    part = _chosen(replace(block, subject_of=new[block.subject_of]), new[block.subject_of] >= 0)
    return encode_believed(replace(part, subjects=[subjects[place] for place in kept], health=[Health(*one) for one in said]))


def gathered(blocks: Sequence[Believed]) -> Believed:
    """Blocks that are told once, as one: samples and health in their order, a subject once. At least one block."""
    if len(blocks) == 1:
        return blocks[0]
    numbers: dict[str, int] = {}
    of: list[I64] = []
    for block in blocks:
        at = np.array([numbers.setdefault(subject, len(numbers)) for subject in block.subjects], np.int64)
        of.append(at[block.subject_of])
    columns: list[I64] = [np.concatenate([getattr(block, name) for block in blocks]) for name in _COLUMNS[1:]]
    newest_us = max(block.appended_us for block in blocks)
    health = [one for block in blocks for one in block.health]
    return Believed(list(numbers), np.concatenate(of), *columns, appended_us=newest_us, health=health)


def parts_of(block: Believed, most: int) -> list[Believed]:
    """The block in parts of about `most` samples: cut between records, between minutes where it is told again. Health is in the first."""
    if len(block) <= most:
        return [block]
    if block.again:
        block = _chosen(block, np.argsort(block.t_us, kind="stable"))
    marks = block.t_us // _MINUTE_US if block.again else block.position
    cuts = np.flatnonzero(np.diff(marks)) + 1
    bounds, at = [0], 0
    while len(block) - at > most:
        found = cuts[cuts > at]
        if not len(found):
            break
        within = found[found <= at + most]
        at = int(within[-1]) if len(within) else int(found[0])
        bounds.append(at)
    bounds.append(len(block))
    made = [_chosen(block, slice(lo, hi)) for lo, hi in pairwise(bounds)]
    if block.again:
        made = [replace(part, position=part.position + min(n, (1 << _PARTS) - 1)) for n, part in enumerate(made)]
    return [made[0], *(replace(part, health=()) for part in made[1:])]


def encode_believed(block: Believed) -> bytes:
    """As bytes; `decode_believed` gives the same back."""
    columns = b"".join(getattr(block, name).astype(kind).tobytes() for name, kind in zip(_COLUMNS, _NARROW, strict=True))
    health = [[getattr(h, name) for name in Health.__slots__] for h in block.health]
    return msgpack.packb((_VERSION, list(block.subjects), len(block), zlib.compress(columns, 1), block.appended_us, block.again, health))


class Span(NamedTuple):
    """What a block covers."""

    samples: int
    first: int  # positions, -1 without samples
    last: int
    appended_us: int


def span_of(raw: bytes, where: str = "believed samples") -> Span:
    """What an encoded block covers, without its columns; StoreError names `where` when the bytes are damaged."""
    try:
        version, _, n, packed, appended_us, *_ = msgpack.unpackb(raw, use_list=False)
        data = zlib.decompress(packed)
        if version != _VERSION or len(data) != n * _SAMPLE_BYTES:
            raise ValueError(f"version {version}, {len(data)} bytes of {n} samples")
        position = np.frombuffer(data, _NARROW[-1], n, len(data) - n * np.dtype(_NARROW[-1]).itemsize)
        return Span(n, int(position[0]) if n else -1, int(position[-1]) if n else -1, appended_us)
    except (ValueError, TypeError, zlib.error) as error:
        raise StoreError(f"{where}: damaged ({error})", cure=_CURE) from error


def decode_believed(raw: bytes, where: str = "believed samples") -> Believed:
    """Inverse of `encode_believed`; StoreError names `where` when the bytes are damaged."""
    try:
        version, subjects, n, packed, appended_us, again, health = msgpack.unpackb(raw, use_list=False)
        if version != _VERSION:
            raise ValueError(f"version {version}")
        data, at = zlib.decompress(packed), 0
        columns: list[I64] = []
        for kind in _NARROW:
            size = np.dtype(kind).itemsize * n
            columns.append(np.frombuffer(data[at : at + size], kind).astype(np.int64))
            at += size
        health = tuple(Health(*one) for one in health)
        return Believed(list(subjects), *columns, appended_us=appended_us, again=again, health=health)
    except (ValueError, TypeError, zlib.error) as error:
        raise StoreError(f"{where}: damaged ({error})", cure=_CURE) from error
