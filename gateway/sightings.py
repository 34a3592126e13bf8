"""Sightings: what is near this box, in which state and why, for `paceline gateway devices`, the node's state and the set-up page.

Every radio source reports here; the newest report of a device stands. `run` writes `devices.json` beside the spool: within a second when
a state, reason, name, profile or battery changed, every 30 s for signal strengths and times (an SD card wears out).
Bounded: beyond `capacity` devices, the one heard longest ago is forgotten; so is one not heard for `FORGET_S`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from broker.errors import StoreError
from gateway.clock import Instant
from gateway.intake import read_clock

log = logging.getLogger(__name__)

FILE: Final = "devices.json"
CHANGED_S: Final = 1.0
QUIET_S: Final = 30.0
FORGET_S: Final = 900.0
MAX_NAME_CHARS: Final = 64

Kind = Literal["ble", "ant"]
State = Literal["near", "waiting", "connecting", "live", "lost", "refused"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One device as its source knows it. `last_us` is the box's monotonic clock when it was last heard; None and "" mean not known.

    near: heard, and listened to without a connection (an advertisement, ANT+); waiting: wanted, for a slot or a back-off; connecting;
    live: its data comes; lost: it was live and is not heard; refused: not wanted. `reason` says why it is not live.
    """

    device: str
    kind: Kind
    name: str = ""
    profiles: tuple[str, ...] = ()
    rssi_dbm: int | None = None
    battery_pct: int | None = None
    state: State = "near"
    reason: str = ""
    last_us: int = 0
    about: str = ""  # manufacturer, model and firmware as the device tells them


class Sightings:
    """The devices of one box. `athlete_of(device)` says who wears it now, or None."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        athlete_of: Callable[[str], str | None] = lambda _device: None,
        clock: Callable[[], Instant] = read_clock,
        capacity: int = 512,
    ) -> None:
        self._path = path
        self._athlete_of = athlete_of
        self._clock = clock
        self._capacity = capacity
        self._known: OrderedDict[str, Sighting] = OrderedDict()
        self._changed = False
        self._written_us: int | None = None

    def report(self, sighting: Sighting) -> None:
        """The newest word on a device; it replaces the one before."""
        before = self._known.get(sighting.device)
        self._known[sighting.device] = sighting
        if before is None or _matters(before) != _matters(sighting):
            self._changed = True
        if before is None or sighting.last_us > before.last_us:
            self._known.move_to_end(sighting.device)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def forget(self, device: str) -> None:
        """The device is known under another id now."""
        if self._known.pop(device, None) is not None:
            self._changed = True

    def all(self) -> tuple[Sighting, ...]:
        """The devices known, by id."""
        return tuple(self._known[device] for device in sorted(self._known))

    def counters(self) -> dict[str, int]:
        """How many devices stand in each state, for the state of the node."""
        counts: dict[str, int] = {}
        for sighting in self._known.values():
            key = f"{sighting.kind}_{sighting.state}"
            counts[key] = counts.get(key, 0) + 1
        return counts

    def document(self, now: Instant) -> dict[str, Any]:
        """What `devices.json` holds: UTC microseconds of the writing, and of each device when it was last heard."""
        devices = [_row(sighting, self._athlete_of(sighting.device), now) for sighting in self.all()]
        return {"written_us": now.utc_us, "devices": devices}

    async def run(self) -> None:
        """Write until cancelled, and once more then."""
        try:
            while True:
                self.write_when_due()
                await asyncio.sleep(CHANGED_S)
        finally:
            self._write(self._clock())

    def write_when_due(self) -> bool:
        """Forget who is gone and write the file if it is time; True when it was."""
        now = self._clock()
        self._forget_old(now.mono_us)
        due = self._written_us is None or now.mono_us - self._written_us >= QUIET_S * 1e6
        if self._changed or due:
            self._write(now)
            return True
        return False

    def _forget_old(self, now_us: int) -> None:
        for sighting in tuple(self._known.values()):
            if sighting.state != "live" and now_us - sighting.last_us >= FORGET_S * 1e6:
                self.forget(sighting.device)

    def _write(self, now: Instant) -> None:
        self._changed, self._written_us = False, now.mono_us
        if self._path is None:
            return
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(self.document(now), indent=1) + "\n", "utf-8")
            temporary.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error.strerror)


def read_devices(data_dir: Path) -> dict[str, Any] | None:
    """The document the gateway of `data_dir` wrote last; None when it never did. StoreError when it cannot be read."""
    path = data_dir / FILE
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: {error}", cure="start the gateway: it writes the file anew") from error


def _matters(sighting: Sighting) -> tuple[object, ...]:
    return sighting.name, sighting.profiles, sighting.battery_pct, sighting.state, sighting.reason, sighting.about


def _row(sighting: Sighting, athlete: str | None, now: Instant) -> dict[str, Any]:
    row = asdict(sighting)
    last_us = row.pop("last_us")
    row["name"] = sighting.name[:MAX_NAME_CHARS]
    return row | {"athlete": athlete, "heard_us": now.utc_us - (now.mono_us - last_us)}
