"""A sensor that reports every `period_s`, and can say something else in between (an answer, a status), in the order of its time.

`number` counts everything it says. A subclass gives `tick`: the reports of one period, as (UUID, bytes, what they say).
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from simulators.sensors.sensor import Report, Service, StaticSensor

Said = tuple[str, bytes, Mapping[str, float | list[float]]]


class Ticking(StaticSensor, ABC):
    """See the module."""

    def __init__(self, services: Sequence[Service], advertised: Sequence[str], values: Mapping[str, bytes], period_s: float) -> None:
        super().__init__(services, advertised, values)
        self.period_s = period_s
        self._ticks = 0
        self._said = 0
        self._due: list[tuple[float, int, Said]] = []
        self._queued = 0

    @abstractmethod
    def tick(self, at_s: float) -> Sequence[Said]:
        """What it says at `at_s`, one period after the last time."""

    def say_at(self, at_s: float, uuid: str, payload: bytes, values: Mapping[str, float | list[float]] | None = None) -> None:
        """Say something at `at_s`, beside the ticks."""
        heapq.heappush(self._due, (at_s, self._queued, (uuid, payload, values or {})))
        self._queued += 1

    def next_s(self) -> float:
        tick_s = (self._ticks + 1) * self.period_s
        return min(tick_s, self._due[0][0]) if self._due else tick_s

    def take(self, now_s: float) -> list[Report]:
        reports: list[Report] = []
        while self.next_s() <= now_s:
            at_s = self.next_s()
            if self._due and self._due[0][0] <= at_s:
                said: Sequence[Said] = [heapq.heappop(self._due)[2]]
            else:
                self._ticks += 1
                said = self.tick(at_s)
            for uuid, payload, values in said:
                reports.append(Report(uuid, payload, self._said, values))
                self._said += 1
        return reports
