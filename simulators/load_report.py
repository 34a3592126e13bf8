"""What a load came to: counts by ids, a histogram a part, how it was second by second, and a verdict by stated bars. Pure.

A part is a place on the way of a frame; its latency is from the moment the frame was due by the plan, whatever anybody answered, so a
load that was held up shows it (no coordinated omission). `sent` is the load's own part: due to written. When that is late, the machine
of the load was too slow, and nothing can be said of the platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from simulators.histogram import Histogram, merged

SENT: Final = "sent"
ACK: Final = "ack"
STEADY_WINDOWS: Final = 5  # a part is as before once so many seconds in a row are under its bar


class PartTimes:
    """The latencies of one part: all of those that count, and by the second (since the start) in which they were due."""

    def __init__(self, start_us: int, from_us: int) -> None:
        """Frames due before `from_us` are the warming up, and count by the second only."""
        self._start_us, self._from_us = start_us, from_us
        self.whole = Histogram()
        self.seconds: dict[int, Histogram] = {}

    def record(self, due_us: int, now_us: int, frames: int = 1) -> None:
        """So many frames that were due then are here now."""
        if due_us >= self._from_us:
            self.whole.record(now_us - due_us, frames)
        second = (due_us - self._start_us) // 1_000_000
        if second not in self.seconds:
            self.seconds[second] = Histogram()
        self.seconds[second].record(now_us - due_us, frames)

    def add(self, other: PartTimes) -> None:
        self.whole.add(other.whole)
        for second, histogram in other.seconds.items():
            self.seconds[second] = merged([self.seconds.get(second, Histogram()), histogram])

    def to_json(self) -> dict[str, Any]:
        return {"whole": self.whole.to_json(), "seconds": {str(s): h.to_json() for s, h in self.seconds.items()}}

    @classmethod
    def from_json(cls, start_us: int, from_us: int, value: Mapping[str, Any]) -> PartTimes:
        made = cls(start_us, from_us)
        made.whole = Histogram.from_json(value["whole"])
        made.seconds = {int(s): Histogram.from_json(h) for s, h in value["seconds"].items()}
        return made


@dataclass(slots=True)
class LoadCounts:
    """In frames, by their ids, but for `messages`, `sent_bytes` and connections."""

    messages: int = 0
    sent_bytes: int = 0
    made: int = 0
    stored: int = 0  # the platform said so
    refused: int = 0
    lost: int = 0  # never answered
    not_taken: int = 0  # the node's memory was full
    sent_again: int = 0
    answered_again: int = 0
    connects: int = 0
    cuts: int = 0  # connections that ended before their time
    refused_connects: int = 0

    def add(self, other: LoadCounts) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class Bars:
    """What a load has to hold. Of `p99_ms` only the parts that were watched count; `recover_s` only when there was a storm."""

    p99_ms: Mapping[str, float]
    lost: int = 0
    doubled: int = 0
    recover_s: float = 30.0


@dataclass(slots=True)
class Watched:
    """What a watcher saw of a part: each frame once, and those that came again. `owed`: how many it should have seen; None: not said."""

    times: PartTimes
    seen: int = 0
    doubled: int = 0
    strange: int = 0  # of our athletes, at a time at which none of their frames is due
    owed: int | None = None
    may_double: bool = False  # what is sent again is there again


@dataclass(slots=True)
class LoadReport:
    """Everything of a run. `storm_s`: when all links were cut, since the start."""

    counts: LoadCounts
    parts: dict[str, PartTimes]
    seconds: float
    cpu_s: float
    athletes: int
    connections: int
    frame_s: int
    processes: int
    storm_s: float | None = None
    back_s: float | None = None  # from the storm until everybody was connected again
    watched: dict[str, Watched] = field(default_factory=dict[str, Watched])

    def times(self) -> dict[str, PartTimes]:
        """Of every part, the load's own first."""
        return {**self.parts, **{name: watched.times for name, watched in self.watched.items()}}

    def recovered_s(self, part: str, bar_ms: float) -> float | None:
        """Seconds from the storm until the 99th percentile of `part` stays under its bar for some seconds; None: it never did."""
        assert self.storm_s is not None, "there was no storm"
        return recovered_s(self.times()[part].seconds, self.storm_s, bar_ms)

    def verdict(self, bars: Bars) -> list[str]:
        """What did not hold; empty: it passes."""
        return [*self._wrong_counts(bars), *self._wrong_times(bars)]

    def _wrong_counts(self, bars: Bars) -> list[str]:
        wrong: list[str] = []
        counts = self.counts
        lost = counts.lost + counts.not_taken
        if lost > bars.lost:
            wrong.append(f"{lost} of {counts.made + counts.not_taken} frames were lost, at most {bars.lost} may be")
        if counts.refused:
            wrong.append(f"{counts.refused} frames were refused")
        for name, watched in self.watched.items():
            missing = 0 if watched.owed is None else watched.owed - watched.seen
            if missing > bars.lost:
                wrong.append(f"{name}: {missing} frames never came there")
            if watched.doubled > bars.doubled and not watched.may_double:
                wrong.append(f"{name}: {watched.doubled} frames came twice, at most {bars.doubled} may")
            if not watched.seen:
                wrong.append(f"{name}: nothing of the load was seen there")
        return wrong

    def _wrong_times(self, bars: Bars) -> list[str]:
        wrong: list[str] = []
        times = self.times()
        for name, bar_ms in bars.p99_ms.items():
            if name not in times:
                continue
            p99_ms = times[name].whole.percentile_us(99) / 1000
            if self.storm_s is None and not times[name].whole.count:
                wrong.append(f"{name}: nothing was timed there after the warming up: take more seconds")
            elif self.storm_s is None and p99_ms > bar_ms:
                wrong.append(f"{name}: p99 {p99_ms:.0f} ms, at most {bar_ms:g} may be")
            elif self.storm_s is not None:
                after_s = self.recovered_s(name, bar_ms)
                if after_s is None or after_s > bars.recover_s:
                    said = "not again in this run" if after_s is None else f"only after {after_s:.0f} s"
                    wrong.append(f"{name}: p99 under {bar_ms:g} ms {said}, at most {bars.recover_s:g} s may pass after the storm")
        own_ms = times[SENT].whole.percentile_us(99) / 1000 if SENT in times else 0.0
        if bars.p99_ms and own_ms > min(bars.p99_ms.values()) / 2:
            wrong.append(f"sent: the load itself was late (p99 {own_ms:.0f} ms): take more processes, another machine or fewer athletes")
        return wrong

    def to_process(self) -> dict[str, Any]:
        """What a process of the load tells the one that started it."""
        counts = {each.name: getattr(self.counts, each.name) for each in fields(self.counts)}
        parts = {name: times.to_json() for name, times in self.parts.items()}
        return {"counts": counts, "parts": parts, "seconds": self.seconds, "cpu_s": self.cpu_s, "back_s": self.back_s}

    def to_json(self, bars: Bars) -> dict[str, Any]:
        """For people and programs; times in ms."""
        wrong = self.verdict(bars)
        storm: dict[str, Any] = {}
        if self.storm_s is not None:
            after = {name: self.recovered_s(name, ms) for name, ms in bars.p99_ms.items() if name in self.times()}
            storm = {"storm": {"at_s": self.storm_s, "all_back_s": self.back_s, "recovered_s": after}}
        counts = {each.name: getattr(self.counts, each.name) for each in fields(self.counts)}
        return {
            "verdict": "FAIL" if wrong else "PASS",
            "wrong": wrong,
            "athletes": self.athletes,
            "connections": self.connections,
            "frame_s": self.frame_s,
            "processes": self.processes,
            "seconds": round(self.seconds, 1),
            "cpu_s": round(self.cpu_s, 2),
            "frames_per_s": round(self.counts.made / self.seconds, 1) if self.seconds else 0.0,
            "counts": counts,
            "parts_ms": {name: summary_ms(times.whole) for name, times in self.times().items()},
            "watched": {
                name: {"seen": w.seen, "owed": w.owed, "doubled": w.doubled, "strange": w.strange} for name, w in self.watched.items()
            },
            **storm,
            "bars": {"p99_ms": dict(bars.p99_ms), "lost": bars.lost, "doubled": bars.doubled, "recover_s": bars.recover_s},
        }


def summary_ms(histogram: Histogram) -> dict[str, float]:
    """Count, percentiles and the longest, in ms."""
    told = {f"p{p:g}".replace(".", ""): round(histogram.percentile_us(p) / 1000, 1) for p in (50, 95, 99, 99.9)}
    return {"count": histogram.count, **told, "max": round(histogram.max_us / 1000, 1)}


def recovered_s(seconds: Mapping[int, Histogram], storm_s: float, bar_ms: float) -> float | None:
    """From `storm_s` to the first second from which `STEADY_WINDOWS` in a row (those with frames) have their p99 under the bar."""
    run: list[int] = []
    for second in sorted(s for s in seconds if s + 1 > storm_s):
        good = seconds[second].percentile_us(99) <= bar_ms * 1000
        run = [*run, second] if good else []
        if len(run) == STEADY_WINDOWS:
            return max(run[0] - storm_s, 0.0)
    return None


def put_together(reports: Sequence[LoadReport]) -> LoadReport:
    """The reports of the processes of one load as one."""
    counts, parts = LoadCounts(), dict[str, PartTimes]()
    for report in reports:
        counts.add(report.counts)
        for name, times in report.parts.items():
            if name in parts:
                parts[name].add(times)
            else:
                parts[name] = times
    first = reports[0]
    back = [r.back_s for r in reports if r.back_s is not None]
    return LoadReport(
        counts, parts, max(r.seconds for r in reports), sum(r.cpu_s for r in reports), first.athletes, first.connections, first.frame_s,
        len(reports), first.storm_s, max(back) if len(back) == len(reports) else None,
    )  # fmt: skip
