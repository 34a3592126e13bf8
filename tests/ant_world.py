"""A stick conversation and a virtual stick back to back, without time: what a host hears in so many seconds of a room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from gateway.ant_search import Search
from gateway.ant_stick import Output, Page, Phase, Stick, StickSettings
from simulators.ant_sensors import Sensor
from simulators.ant_stick import StickFaults, StickModel, VirtualStick

KEY = bytes(range(8))  # made up: the key of the virtual room
STEP_US = 10_000


def searches(sensors: Iterable[Sensor]) -> tuple[Search, ...]:
    return tuple(dict.fromkeys(Search(s.type, s.period) for s in sensors))


class AntWorld:
    """Both ends of one line. `pages` is what the host heard, `whole` what the stick sent undamaged, by device."""

    def __init__(
        self,
        sensors: list[Sensor],
        *,
        model: StickModel | None = None,
        faults: StickFaults | None = None,
        key: bytes = KEY,
        may_scan: bool = True,
        make: type[VirtualStick] = VirtualStick,
        cut: Callable[[bytes], list[bytes]] = lambda data: [data],
    ) -> None:
        self.whole: dict[str, list[bytes]] = {}
        self.sensors = sensors
        self.virtual = make(sensors, KEY, model=model, faults=faults, on_page=self._sent)
        self.settings = StickSettings(key, searches(sensors), may_scan=may_scan)
        self.stick = Stick(self.settings, 0.0)
        self.t_us = 0
        self.output: list[Output] = []
        self._cut = cut

    def _sent(self, sensor: Sensor, page: bytes, whole: bool) -> None:
        if whole:
            self.whole.setdefault(sensor.device, []).append(page)

    @property
    def pages(self) -> dict[str, list[bytes]]:
        pages: dict[str, list[bytes]] = {}
        for out in self.output:
            if isinstance(out, Page):
                pages.setdefault(out.who.device, []).append(out.payload)
        return pages

    @property
    def heard(self) -> Counter[str]:
        return Counter(out.who.device for out in self.output if isinstance(out, Page))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let `seconds` pass, or fewer when `until` holds."""
        end_us = self.t_us + round(seconds * 1e6)
        while self.t_us < end_us and not until():
            self.t_us += STEP_US
            self.virtual.advance(self.t_us)
            for piece in self._cut(self.virtual.take()):
                if piece:
                    self.output += self.stick.feed(piece, self.t_us / 1e6)
            if self.t_us / 1e6 >= self.stick.deadline_s():
                self.output += self.stick.wake(self.t_us / 1e6)
            self.virtual.feed(self.stick.outgoing())

    def listening(self) -> bool:
        return self.stick.phase is Phase.LISTENING
