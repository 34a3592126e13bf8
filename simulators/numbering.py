"""How a simulated device numbers and dates its samples: boots, sequence numbers, a monotonic clock with drift, and what it believes
is UTC. Pure.

Frames depend on the seed and on true time only, never on when somebody looks: asking for everything until t in one step or in a
hundred gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.errors import BadInputError
from broker.frames import MAX_FRAME_BYTES, SELF_NUMBERED, Clock, Frame, encode_frame
from broker.ids import origin_of
from broker.layouts import all_layouts
from simulators.course import moved
from simulators.faults import FaultPlan
from simulators.noise import key_of, uniform
from simulators.truth import Made

Values = Mapping[str, float | None]
Source = Callable[[], Values | None]  # the next sample, without its tick; None: no more
_HEADER_ROOM: Final = 160  # bytes of a frame that are not records, at most


@dataclass(frozen=True, slots=True)
class ClockPlan:
    """The device's clock. Undated (`Clock.UNKNOWN`) until `dated_after_us` after each start, then `skew_us` wrong and dated again never."""

    quality: Clock = Clock.NETWORK
    dated_after_us: int = 0
    skew_us: int = 0
    drift_ppm: float = 0.0


@dataclass(frozen=True, slots=True)
class MakerSettings:
    """One device. `subject` is what it writes into its frames, `counts_for` whom they must count for in the end."""

    tenant: str
    node: str
    device: str
    seed: int
    start_us: int  # when the device is switched on; times of its faults count from here
    phase_us: int = 0  # the first sample comes so much later
    subject: str = ""
    counts_for: str = ""
    self_numbered: bool = True
    layout: int = 1
    period_us: int = 1_000_000
    samples_per_frame: int = 1
    clock: ClockPlan = ClockPlan()
    deaf_share: float = 0.0  # share of the samples this node does not hear

    def __post_init__(self) -> None:
        room = (MAX_FRAME_BYTES - _HEADER_ROOM) // all_layouts()[self.layout].size
        longest = 65_535_000 // self.period_us + 1
        if not 1 <= self.samples_per_frame <= min(room, longest):
            raise BadInputError(
                f"samples_per_frame {self.samples_per_frame} of {self.device} does not fit", cure=f"give 1..{min(room, longest)}"
            )


class FrameMaker:
    """Makes the frames of one device from a source of samples, one every `period_us` of true time from `start_us + phase_us` on."""

    def __init__(self, settings: MakerSettings, source: Source, faults: FaultPlan | None = None) -> None:
        self.settings = settings
        self.exhausted = False
        self.off = False  # samples pass by unrecorded
        self._source = source
        self._faults = faults or FaultPlan()
        self._key = key_of(settings.seed, settings.tenant, settings.device, "" if settings.self_numbered else settings.node)
        self._origin = origin_of(settings.tenant, settings.node, settings.device, self_numbered=settings.self_numbered)
        self._next_sample = 0
        self._boots = 0
        self._open: list[tuple[int, Values]] = []
        self.restart(settings.start_us)

    @property
    def next_us(self) -> int:
        """True time of the next sample."""
        return self.settings.start_us + self.settings.phase_us + self._next_sample * self.settings.period_us

    def restart(self, true_us: int) -> None:
        """Numbering starts anew: another boot, seq 0, a monotonic clock near 0; samples of an unfinished frame are gone."""
        self._open.clear()
        self.boot = key_of(self._key, "boot", self._boots)
        self.seq = 0
        self._boot_us = true_us
        self._mono_base_us = round(uniform(self._key, self._boots, 1e5, 2e6))
        self._boots += 1

    def finish(self) -> None:
        """No more samples; those of an unfinished frame are gone."""
        self._open.clear()
        self.exhausted = True

    def make(self, until_us: int) -> list[tuple[bytes, Made]]:
        """The frames closed by samples due at or before `until_us`."""
        frames: list[tuple[bytes, Made]] = []
        while not self.exhausted and (true_us := self.next_us) <= until_us:
            index = self._next_sample
            self._next_sample += 1
            values = self._source()
            if values is None:
                self.exhausted = True
                if self._open:
                    frames.append(self._close())
            elif not self.off and not self._deaf(index):
                self._open.append((true_us, self._jumped(values, true_us, index)))
                if len(self._open) == self.settings.samples_per_frame:
                    frames.append(self._close())
                elif true_us + self.settings.period_us - self._open[0][0] > 65_000_000:
                    frames.append(self._close())  # the tick of the next sample would not fit
        return frames

    def monotonic_us(self, true_us: int) -> int:
        """What the device's own clock shows."""
        return self._mono_base_us + round((true_us - self._boot_us) * (1.0 + self.settings.clock.drift_ppm * 1e-6))

    def _deaf(self, index: int) -> bool:
        share = self.settings.deaf_share
        return share > 0 and uniform(self._key ^ 0x33, index) < share

    def _offset(self, true_us: int) -> tuple[int | None, Clock]:
        """What the device adds to its monotonic clock to get UTC, and how sure it is."""
        time_s = self._time_s(true_us)
        if self._faults.active("clock_1970", time_s) is not None:
            return 0, Clock.SET
        plan = self.settings.clock
        dated_us = self._boot_us + plan.dated_after_us
        if plan.quality is Clock.UNKNOWN or true_us < dated_us:
            return None, Clock.UNKNOWN
        skew_us = plan.skew_us + round(1e6 * (self._faults.active("clock_skew", time_s) or 0.0))
        return dated_us + skew_us - self.monotonic_us(dated_us), plan.quality

    def _close(self) -> tuple[bytes, Made]:
        settings, layout = self.settings, all_layouts()[self.settings.layout]
        first_us = self._open[0][0]
        records = b"".join(layout.pack({**values, "tick_ms": (at - first_us) // 1000}) for at, values in self._open)
        self._open.clear()
        offset, quality = self._offset(first_us)
        t0_us = self.monotonic_us(first_us)
        flags = SELF_NUMBERED if settings.self_numbered else 0
        frame = Frame(layout.id, flags, settings.device, self.boot, self.seq, t0_us, offset, quality, settings.subject, records)
        dated_us = None if offset is None else t0_us + offset
        counts_for = settings.counts_for or settings.subject
        made = Made(self._origin, self.boot, self.seq, counts_for, layout.id, first_us, dated_us, records)
        self.seq += 1
        return encode_frame(frame), made

    def _jumped(self, values: Values, true_us: int, index: int) -> Values:
        """The sample with its position off, when GPS jumps now."""
        metres = self._faults.active("gps_jumps", self._time_s(true_us))
        lat, lon = values.get("lat"), values.get("lon")
        if metres is None or lat is None or lon is None or uniform(self._key ^ 0x77, 3 * index) >= 0.2:
            return values
        east, north = (uniform(self._key ^ 0x77, 3 * index + axis, -metres, metres) for axis in (1, 2))
        lat, lon = moved(lat, lon, east, north)
        return {**values, "lat": lat, "lon": lon}

    def _time_s(self, true_us: int) -> float:
        return (true_us - self.settings.start_us) / 1e6
