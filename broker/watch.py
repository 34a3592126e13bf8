"""What a process lets its operator see: its figures, whether it lives (its loops move) and whether it is ready (links up, caught up).

One `Watch` a process. Parts are given it and tell it three things: figures (`measure`), that they move (`part`, see `broker/liveness.py`),
and what must hold before the process is of use (`ready_when`). `drain` says that it is about to end: it is not ready from that moment on.
Conditions are asked from a thread of the server: they only read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final

from broker.liveness import Liveness, Part
from broker.metric_list import BUILD, DRAINING, LINK_CONNECTS, LINK_UP, LIVE, READY
from broker.metrics import Measure, Registry, Source

STALL_S: Final = 120.0  # a loop that shows no progress for so long stands still: longer than any retry, salvage or compile

LOOP_ANSWERS_S: Final = 2.0

Condition = Callable[[], str]
"""Empty while it holds, else the reason in a few words."""


class Watch:
    """The figures, the liveness and the readiness of the process that plays `role`."""

    def __init__(self, role: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.role = role
        self.liveness = Liveness(clock)
        self.registry = Registry()
        self._conditions: dict[str, Condition] = {}
        self._draining = ""
        self._when_draining: list[Callable[[], None]] = []
        self.registry.add(self._measures)

    def measure(self, source: Source) -> None:
        """Tell the figures of `source` at every look."""
        self.registry.add(source)

    def part(self, name: str, limit_s: float = STALL_S) -> Part:
        """The loop of that name: it beats within `limit_s` while it has work, or rests."""
        return self.liveness.part(name, limit_s)

    def ready_when(self, name: str, holds: Condition) -> None:
        """The process is ready only while `holds()` is empty."""
        self._conditions[name] = holds

    def link(
        self, name: str, up: Callable[[], bool], trouble: Callable[[], str] = lambda: "", *, connects: Callable[[], int] | None = None
    ) -> None:
        """A connection that must be up. `trouble` says what is known when it is not; `connects` how often it was made."""
        self.ready_when(name, lambda: "" if up() else trouble() or "not connected")
        self.registry.add(lambda: [LINK_UP.of(int(up()), name)])
        if connects is not None:
            self.registry.add(lambda: [LINK_CONNECTS.of(connects(), name)])

    def drain(self, why: str = "is stopping") -> None:
        """Not ready any more, for good: told to stop. The first reason stays."""
        if self._draining:
            return
        self._draining = why
        for call in self._when_draining:
            call()

    def when_draining(self, call: Callable[[], None]) -> None:
        """Call this at the first `drain`."""
        self._when_draining.append(call)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """(whether every loop moves, what to say)."""
        stalled = self.liveness.stalled()
        return not stalled, {"live": not stalled, "role": self.role, "stands_still": list(stalled)}

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """(whether it is of use now, the reasons by name; all conditions with what they say)."""
        said = {name: self._asked(holds) for name, holds in self._conditions.items()}
        reasons = {name: why for name, why in said.items() if why}
        if self._draining:
            reasons["stop"] = self._draining
        return not reasons, {"ready": not reasons, "role": self.role, "reasons": reasons, "conditions": sorted(said)}

    def _asked(self, holds: Condition) -> str:
        try:
            return holds()
        except Exception as error:
            return f"cannot be told: {type(error).__name__}: {error}"

    def _measures(self) -> Iterable[Measure]:
        return (
            BUILD.of(1, version("paceline"), self.role),
            LIVE.of(int(self.health()[0])),
            READY.of(int(self.readiness()[0])),
            DRAINING.of(int(bool(self._draining))),
        )


def in_loop(source: Source) -> Source:
    """A source that is asked inside the event loop of now, as its books may only be read there. TimeoutError when the loop hangs."""
    loop = asyncio.get_running_loop()

    async def told() -> Sequence[Measure]:
        return list(source())

    def ask() -> Sequence[Measure]:
        return asyncio.run_coroutine_threadsafe(told(), loop).result(LOOP_ANSWERS_S)

    ask.__qualname__ = getattr(source, "__qualname__", "source")
    return ask
