"""Faults of the virtual daemon, by name. An armed fault says how often it still strikes and with what value; a strike uses it up.

A fault is armed for one device (its address) or for whichever comes first (""). `drop`, `rotate`, `adapter_off`, `adapter_on`, `unplug`,
`plug` and `silent` happen at once and are not here: they are commands of the control channel. A crash is a kill -9 of the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.errors import BadInputError

# name: (value when none is given, meaning)
KNOWN: Final[dict[str, tuple[float, str]]] = {
    "slow_resolve": (3.0, "seconds from Connect to ServicesResolved"),
    "in_progress": (0.0, "Connect is refused with InProgress"),
    "abort_by_local": (0.0, "Connect fails with le-connection-abort-by-local after Connected was true for a moment"),
    "connect_fails": (0.0, "Connect fails with le-connection-unknown"),
    "hang_connect": (20.0, "seconds until Connect answers at all, with a failure"),
    "drop_in_resolve": (0.0, "the link goes while the services are being resolved"),
    "unlikely_in_write": (0.0, "a write fails with ATT 0x0e and the link goes just after"),
    "unlikely_in_read": (0.0, "a read fails with ATT 0x0e and the link goes just after"),
    "busy_write": (0.0, "a write is refused with InProgress"),
    "stop_in_progress": (0.0, "StopDiscovery is refused with InProgress"),
    "notify_refused": (0.0, "StartNotify fails with ATT 0x0e"),
    "pair_refused": (0.0, "Pair fails with AuthenticationFailed"),
}


@dataclass(slots=True)
class Armed:
    """A fault that waits: it strikes `times` more."""

    name: str
    address: str
    times: int
    value: float


class Faults:
    """What is armed, and how often each name has struck."""

    def __init__(self) -> None:
        self.struck: dict[str, int] = {}
        self._armed: list[Armed] = []

    def arm(self, name: str, *, address: str = "", times: int = 1, value: float | None = None) -> None:
        """Let `name` strike `times` times. BadInputError names an unknown one."""
        if name not in KNOWN:
            raise BadInputError(f"fault {name!r} is not known", cure=f"use one of {', '.join(KNOWN)}")
        self._armed.append(Armed(name, address.upper(), times, KNOWN[name][0] if value is None else value))

    def disarm(self) -> None:
        """Forget all that is armed."""
        self._armed.clear()

    def strikes(self, name: str, address: str = "") -> float | None:
        """The value if `name` strikes that device now, else None."""
        for armed in self._armed:
            if armed.name == name and armed.address in {"", address.upper()}:
                armed.times -= 1
                if armed.times <= 0:
                    self._armed.remove(armed)
                self.struck[name] = self.struck.get(name, 0) + 1
                return armed.value
        return None
