"""The virtual sensors of `paceline demo --sensors`: straps, machines and meters on a private D-Bus, and an ANT stick that hears a room.

The real gateway hears them, over unmodified bleak and over a serial line.

Each belongs to an athlete of its own by a binding, but one strap that nobody owns. At the end everybody is silent, and what the virtual
daemon says went out is held against the tracks of those athletes, sample by sample (`simulators.sensor_truth`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from broker.layouts import all_layouts
from broker.reference import BindingRef, Reference
from paceline.demo_world import person
from simulators.ant_hall import AntHall
from simulators.athlete import Sport, draw_athlete
from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from simulators.sensor_truth import Record, SensorVerdict, device_of, fields_of, judge_sensors, owed, stored_records

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from processors.tracks import Track

MACHINES: Final = ("trainer", "treadmill", "rower", "cross_trainer", "trainer", "stair_climber", "treadmill", "step_climber")
METERS: Final = ("power_meter", "foot_pod")
_KIND_WORDS: Final = {"strap": "Strap", "foot_pod": "Foot pod"}
_RUNNING: Final = frozenset({"treadmill"})
_FIRST_NAME: Final = 200  # of the list of names: others than those of the members


@dataclass(frozen=True, slots=True)
class VirtualSensor:
    """One sensor of the room, and the athlete who wears or uses it ("" for nobody)."""

    kind: str
    address: str
    name: str
    seed: int
    athlete: str

    @property
    def device(self) -> str:
        """Its id on the wire."""
        return device_of(self.address)

    def document(self) -> dict[str, object]:
        """As the room document has it."""
        options = {"running": True} if self.kind in _RUNNING else {}
        about = {"kind": self.kind, "address": self.address, "name": self.name, "seed": self.seed, "options": options}
        return {**about, "rssi": {"hci0": -55 - self.seed % 30}}


@dataclass(frozen=True, slots=True)
class SensorPlan:
    """How many there are: straps, machines, and what the ANT stick hears (`hr:30,trainer:2`; "" for no stick)."""

    straps: int = 12
    machines: int = 8
    ant: str = "hr:6,trainer:1,treadmill:1,power:1,stride:1"


def sensors_of(seed: int, straps: int, machines: int) -> list[VirtualSensor]:
    """The sensors of a room: the athletes s01, s02 ... have a strap each, the first of them stand on the machines, then come the meters."""
    kinds = ["strap"] * straps + [MACHINES[index % len(MACHINES)] for index in range(machines)] + list(METERS[: straps // 4])
    made: list[VirtualSensor] = []
    for index, kind in enumerate(kinds):
        owner = index if kind == "strap" else index - straps
        word = _KIND_WORDS.get(kind, kind.replace("_", " ").capitalize())
        address = f"C0:FF:EE:00:{index >> 8:02X}:{index & 0xFF:02X}"
        made.append(VirtualSensor(kind, address, f"{word} {index + 1}", seed * 1000 + index, f"s{owner + 1:02}"))
    return [*made, VirtualSensor("strap", "C0:FF:EE:00:FF:FF", "Strap of nobody", seed * 1000 + 999, "")]


class SensorGym:
    """A room of virtual sensors and a virtual ANT stick. `await open()`, `await hush()` when it is over, `await close()` always.

    Every sensor of the ANT room is worn by an athlete of its own.
    """

    def __init__(self, tenant: str, node: str, folder: Path, plan: SensorPlan, *, seed: int) -> None:
        self.sensors = sensors_of(seed, plan.straps, plan.machines)
        self.said: dict[str, list[Record]] = {}
        self.reports = 0
        self._tenant = tenant
        self._node = node
        self._folder = folder
        self._seed = seed
        self._key = secrets.token_bytes(8)
        self._link = folder.absolute() / "ant-stick"
        self._ant = AntHall(plan.ant, self._key, self._link) if plan.ant else None
        self._bluetooth: VirtualBluetooth | None = None
        self._stack = contextlib.AsyncExitStack()
        self.owners = {sensor.device: sensor.athlete for sensor in self.sensors}
        if self._ant is not None:
            self.owners |= {sensor.device: f"a{index + 1:02}" for index, sensor in enumerate(self._ant.sensors)}

    @property
    def environment(self) -> dict[str, str]:
        """What makes the gateway see this room and no real radio."""
        assert self._bluetooth is not None
        return {"DBUS_SYSTEM_BUS_ADDRESS": self._bluetooth.address}

    def gateway_settings(self) -> dict[str, Any]:
        """What the gateway is told besides."""
        settings: dict[str, Any] = {"ble": {"enabled": True, "slots": 64}}
        if self._ant is not None:
            settings["ant"] = {"enabled": True, "key": self._key.hex(), "sticks": [str(self._link)]}
        return settings

    def references(self) -> list[Reference]:
        """An athlete for each who wears or uses something, and the bindings."""
        athletes = dict.fromkeys(athlete for athlete in self.owners.values() if athlete)
        people = [
            person(self._tenant, _FIRST_NAME + index, draw_athlete(name, Sport.BIKE, self._seed)) for index, name in enumerate(athletes)
        ]
        bindings = [
            BindingRef(tenant=self._tenant, id=f"demo-{device}", node=self._node, device=device, athlete=athlete)
            for device, athlete in self.owners.items()
            if athlete
        ]
        return [*people, *bindings]

    async def open(self) -> None:
        """Start the private bus and the virtual daemon, and plug the stick in."""
        room = {"adapters": [{"name": "hci0"}], "sensors": [sensor.document() for sensor in self.sensors]}
        self._bluetooth = await self._stack.enter_async_context(virtual_bluetooth(self._folder, room))
        if self._ant is not None:
            self._stack.push_async_callback(self._ant.close)
            await self._ant.open()

    async def hush(self) -> None:
        """Everybody is silent: what was said is the truth."""
        assert self._bluetooth is not None
        await self._bluetooth.do("hush")
        entries = await asyncio.to_thread(self._bluetooth.entries)
        self.said, self.reports = owed(entries), len(entries)
        if self._ant is not None:
            self._ant.hush()
            self.said |= self._ant.said()
            self.reports += self._ant.heard

    async def close(self) -> None:
        """End the processes; safe at any time."""
        await self._stack.aclose()

    async def until_stored(self, state: Path, limit_s: float) -> bool:
        """Wait until nothing that was said is missing, at most so long: whether anything had to be waited for.

        A box on a busy machine may not have read its radio for seconds, and nothing else tells that something is still under way.
        """
        end_s, waited = time.monotonic() + limit_s, False
        while time.monotonic() < end_s:
            tracks = await asyncio.to_thread(self.read, state)
            if not self.judge(tracks).lost:
                return waited
            waited = True
            await asyncio.sleep(1.0)
        return waited

    def read(self, state: Path) -> SensedTracks:
        """What the tracks of their athletes hold of these sensors; the state file must be quiet."""
        return read_tracks(state, self._tenant, self._node, self.owners)

    def judge(self, tracks: SensedTracks) -> SensorVerdict:
        """What was said against what the tracks hold."""
        return judge_sensors(self.said, tracks.records(self.said), self.reports)


@dataclass(frozen=True, slots=True, order=True)
class Numbered:
    """One sample of a track, ordered as it was numbered; `began_us` is when its boot began."""

    began_us: int
    boot: int
    seq: int
    index: int
    layout: int
    record: bytes


@dataclass(frozen=True, slots=True)
class SensedTracks:
    """What tracks hold of the sensors of a box: the samples of each device, of all its layouts, in the order they were numbered."""

    origin: str
    rows: Mapping[str, Sequence[Numbered]]

    def numbers(self) -> dict[tuple[str, int], range]:
        """What each (origin, boot) must have: every number up to the last."""
        last: dict[tuple[str, int], int] = {}
        for device, rows in self.rows.items():
            for row in rows:
                key = f"{self.origin}/{device}", row.boot
                last[key] = max(last.get(key, 0), row.seq)
        return {key: range(seq + 1) for key, seq in last.items()}

    def records(self, said: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
        """The samples of each device that are compared."""
        found: dict[str, list[Record]] = {}
        for device, rows in self.rows.items():
            compared = fields_of(said.get(device, ()))
            for row in rows:
                layout = all_layouts()[row.layout]
                if layout.name in compared:
                    found.setdefault(device, []).extend(stored_records(row.record, layout, compared[layout.name]))
        return found


def read_tracks(state: Path, tenant: str, node: str, owners: Mapping[str, str]) -> SensedTracks:
    """The samples of these devices of one box, each only in the tracks of its owner ("": of the device itself)."""
    from processors.stores import ReadStore

    origin = f"{tenant}/{node}"
    rows: dict[str, list[Numbered]] = {}
    store = ReadStore(state)
    try:
        for device, athlete in owners.items():
            tracks = store.tracks(f"{tenant}/{athlete}" if athlete else f"{tenant}/@{node}/{device}").values()
            parts = [
                (track, track.source == place, boot)
                for track in tracks
                for place, (source, boot) in enumerate(track.sources)
                if source == f"{origin}/{device}"
            ]
            began_us: dict[int, int] = {}
            for track, mine, boot in parts:
                first_us = int(track.t_us[mine].min())
                began_us[boot] = min(began_us.get(boot, first_us), first_us)
            found = [row for track, mine, boot in parts for row in _numbered(track, mine, boot, began_us[boot])]
            if found:
                rows[device] = sorted(found)
    finally:
        store.close()
    return SensedTracks(origin, rows)


def _numbered(track: Track, mine: npt.NDArray[np.bool_], boot: int, began_us: int) -> list[Numbered]:
    size, raw = all_layouts()[track.layout].size, track.records[mine].tobytes()
    numbers = zip(track.seq[mine].tolist(), track.index[mine].tolist(), strict=True)
    return [Numbered(began_us, boot, seq, index, track.layout, raw[at * size : (at + 1) * size]) for at, (seq, index) in enumerate(numbers)]
