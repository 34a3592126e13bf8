"""What virtual sensors said, held against what is stored of them: lost, doubled and wrong as counts of samples. Pure.

The truth is the journal of the virtual daemon: every report that went out over a link, with what it says by its model. A sample is compared
after the quantisation of its layout, in the fields its model speaks of; its time is not, because a box dates what arrives.
The samples of a device are a sequence: one missing is lost, one too many is doubled, one that nobody said is wrong (and one that was said
is then lost), and two that changed places are out of order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker.layouts import Layout, layout_named
from simulators.bluez.journal import Entry

Record = tuple[str, tuple[tuple[str, float], ...]]  # layout, and what was measured by name
Values = Mapping[str, float | list[float]]
_MOTION: Final = ("power_w", "speed_mps", "cadence_rpm", "distance_m")
_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class SensorVerdict:
    """Counts of samples, and the first few of each fault by name. `devices` had something to say."""

    devices: int
    reports: int
    samples: int
    stored: int
    lost: int
    duplicated: int
    wrong: int
    out_of_order: int
    examples: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, wrong or out of order."""
        return not (self.lost or self.duplicated or self.wrong or self.out_of_order)


def device_of(address: str) -> str:
    """The id a box gives a sensor with a lasting address."""
    return f"ble-{address.replace(':', '').lower()}"


def said_samples(values: Values) -> Sequence[tuple[str, Mapping[str, float]]]:
    """The samples a report comes to: (layout, values in SI units). None for the first part of a split record, an answer, a status."""
    if "rr_s" in values:
        return _beats(values)
    plain = {name: value for name, value in values.items() if not isinstance(value, list)}
    if "kind" in plain:
        return [("machine.1", plain)]
    motion = {name: plain[name] for name in _MOTION if name in plain}
    return [("motion.1", motion)] if motion else []


def owed(entries: Iterable[Entry]) -> dict[str, list[Record]]:
    """What each device said, in order, as it must be stored."""
    found: dict[str, list[Record]] = {}
    for entry in entries:
        records = found.setdefault(device_of(entry.device), [])
        for name, values in said_samples(entry.values):
            records.append(record_of(layout_named(name), values))
    return found


def record_of(layout: Layout, values: Mapping[str, float]) -> Record:
    """One sample as its layout stores it."""
    (row,) = layout.unpack(layout.pack({"tick_ms": 0, **values}))
    return _record(layout, row, values)


def stored_records(records: bytes, layout: Layout, fields: Iterable[str]) -> list[Record]:
    """The records of a stored frame in those fields."""
    names = set(fields)
    return [_record(layout, row, names) for row in layout.unpack(records)]


def fields_of(records: Iterable[Record]) -> dict[str, set[str]]:
    """The fields in which records of each layout are compared."""
    found: dict[str, set[str]] = {}
    for layout, values in records:
        found.setdefault(layout, set()).update(name for name, _ in values)
    return found


def judge_sensors(said: Mapping[str, Sequence[Record]], stored: Mapping[str, Sequence[Record]], reports: int) -> SensorVerdict:
    """Hold what is stored against what was said. `stored` is in the order of its numbering; devices that said nothing are ignored."""
    lost = duplicated = wrong = out_of_order = held = 0
    examples: list[str] = []
    for device, want in said.items():
        have = stored.get(device, ())
        held += len(have)
        if list(want) == list(have):
            continue
        missing, beyond = Counter(want) - Counter(have), Counter(have) - Counter(want)
        doubled = sum(times for record, times in beyond.items() if record in set(want))
        lost, duplicated, wrong = lost + missing.total(), duplicated + doubled, wrong + beyond.total() - doubled
        examples += [f"lost {device} {record}" for record in list(missing)[:3]] + [
            f"too many {device} {record}" for record in list(beyond)[:3]
        ]
        if not missing and not beyond:
            out_of_order += sum(one != other for one, other in zip(want, have, strict=True))
            examples.append(f"out of order {device}")
    samples = sum(map(len, said.values()))
    return SensorVerdict(len(said), reports, samples, held, lost, duplicated, wrong, out_of_order, tuple(examples[:_EXAMPLES]))


def _beats(values: Values) -> Sequence[tuple[str, Mapping[str, float]]]:
    intervals, rate = values["rr_s"], values.get("hr_bpm")
    assert isinstance(intervals, list)
    common = {"hr_bpm": rate} if isinstance(rate, int | float) else {}
    if intervals:
        return [("beats.1", {"rr_ms": rr_s * 1000, **common}) for rr_s in intervals]
    return [("beats.1", dict(common))] if common else []


def _record(layout: Layout, row: Mapping[str, float | None], fields: Iterable[str]) -> Record:
    measured = ((name, row[name]) for name in sorted(fields))
    return layout.name, tuple((name, value) for name, value in measured if value is not None)
