"""The room behind the virtual daemon: adapters, peripherals, and the clock that lets them advertise and report.

One task; it sleeps until the next advertisement or report of anybody. What a sensor says while nobody is linked to it is taken and dropped,
as on the air. Time is seconds since `epoch_s` of the machine's monotonic clock, so that a daemon started again goes on in the same room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dbus_fast import Message, Variant

from broker.errors import BadInputError
from simulators.bluez.adapter import Adapter, Monitor
from simulators.bluez.device import Device
from simulators.bluez.faults import Faults
from simulators.bluez.journal import Journal
from simulators.bluez.peripheral import Peripheral, now_s
from simulators.bluez.tree import AGENTS, Tree
from simulators.sensors.sensor import Report

_LONGEST_SLEEP_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take, in seconds; the defaults are a quick radio, so that tests are quick."""

    connect_s: float = 0.04
    resolve_s: float = 0.02
    disconnect_s: float = 0.01
    att_s: float = 0.001
    pair_s: float = 0.05
    page_s: float = 20.0  # how long Connect waits for a device that does not answer
    forget_s: float = 30.0


class Room:
    """Adapters and peripherals. `emit` gets every signal in order; `ask_monitor(sender, path, device)` tells a monitor of a device."""

    def __init__(
        self,
        emit: Callable[[Message], None],
        *,
        epoch_s: float,
        timing: Timing | None = None,
        journal: Journal | None = None,
        ask_monitor: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self.tree = Tree(emit)
        self.timing = timing or Timing()
        self.faults = Faults()
        self.journal = journal or Journal(None)
        self.adapters: dict[str, Adapter] = {}
        self.peripherals: list[Peripheral] = []
        self._epoch_s = epoch_s
        self._ask_monitor = ask_monitor
        self._wake = asyncio.Event()
        self._swept_s = 0.0
        self.tree.add("/org/bluez", {AGENTS: dict[str, Variant]()})

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return now_s(self._epoch_s)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something a little later."""
        asyncio.get_running_loop().call_later(delay_s, act)

    def add_adapter(self, name: str, address: str, *, slots: int, passive: bool = True) -> None:
        """Plug in an adapter."""
        self.adapters[name] = Adapter(self, name, address, slots, passive=passive)

    def add(self, peripheral: Peripheral) -> None:
        """A peripheral enters the room. What it said before nobody heard."""
        if any(one.address == peripheral.address for one in self.peripherals):
            raise BadInputError(f"address {peripheral.address} is taken", cure="give every peripheral its own address")
        peripheral.sensor.take(self.now_s())
        self.peripherals.append(peripheral)
        self._wake.set()

    def wake(self) -> None:
        """Somebody has something to say earlier than was thought."""
        self._wake.set()

    def peripheral(self, address: str) -> Peripheral:
        """The peripheral with that address."""
        found = next((one for one in self.peripherals if one.address == address.upper()), None)
        if found is None:
            raise BadInputError(f"no peripheral has the address {address}", cure="ask for `state` to see which there are")
        return found

    def devices(self) -> list[Device]:
        """All device objects of all adapters."""
        return [device for adapter in self.adapters.values() for device in adapter.devices.values()]

    def links(self, peripheral: Peripheral) -> list[Device]:
        """The device objects through which a peripheral is linked: one, or none."""
        return [device for device in self.devices() if device.peripheral is peripheral and device.connected]

    def tell_monitor(self, monitor: Monitor, device_path: str) -> None:
        """DeviceFound for a monitor."""
        if self._ask_monitor is not None:
            self._ask_monitor(monitor.sender, monitor.path, device_path)

    def client_left(self, sender: str) -> None:
        """A D-Bus connection is gone."""
        for adapter in self.adapters.values():
            adapter.client_left(sender)

    async def run(self) -> None:
        """Let time pass, for ever."""
        while True:
            wait_s = self._next_s() - self.now_s()
            self._wake.clear()
            try:
                async with asyncio.timeout(min(max(wait_s, 0.0), _LONGEST_SLEEP_S)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self.step(self.now_s())

    def step(self, at_s: float) -> None:
        """All advertisements and reports due by `at_s`."""
        for peripheral in self.peripherals:
            if peripheral.sensor.next_s() <= at_s:
                self.say(peripheral, peripheral.sensor.take(at_s))
            if peripheral.next_advertisement_s <= at_s:
                peripheral.next_advertisement_s = at_s + peripheral.advertise_s
                if peripheral.advertises():
                    peripheral.advertisements += 1
                    for adapter in self.adapters.values():
                        adapter.hear(peripheral)
        if at_s - self._swept_s >= 0.5:
            self._swept_s = at_s
            for adapter in self.adapters.values():
                adapter.forget_old(at_s)

    def say(self, peripheral: Peripheral, reports: Sequence[Report]) -> int:
        """Send reports of a peripheral over its link, if it has one: how many links that were."""
        links = self.links(peripheral) if reports and peripheral.linked_to else []
        for device in links:
            device.say(reports)
        return len(links)

    def _next_s(self) -> float:
        times = [one.sensor.next_s() for one in self.peripherals]
        times += [one.next_advertisement_s for one in self.peripherals if one.advertises()]
        return min(times, default=float("inf"))
