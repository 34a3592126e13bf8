"""A survey: what the adapters of this machine hear within some seconds, without connecting. For `paceline gateway scan` and `pair`.

Works beside a running gateway: BlueZ lets both scan. What is connected does not advertise; the gateway's own list has that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bleak.backends.device import BLEDevice

from broker.errors import LinkError
from gateway.ble_judging import Advert
from gateway.ble_scan import AdapterScan
from gateway.bluez_watch import BluezWatch
from gateway.settings import BleSettings

READY_S: Final = 5.0
END_S: Final = 15.0
CAPACITY: Final = 512  # a box by a street hears phones whose addresses change, for weeks before it is set up


@dataclass(slots=True)
class Found:
    """One device: its last advertisement, the strongest signal of each adapter, and BlueZ's path at the adapter that hears it best."""

    advert: Advert
    rssi_dbm: dict[str, int] = field(default_factory=dict[str, int])
    path: str = ""


class Survey:
    """What was heard so far, by address, the one heard last at the end. Beyond `CAPACITY` the one heard longest ago is forgotten."""

    def __init__(self, watch: BluezWatch) -> None:
        self.found: OrderedDict[str, Found] = OrderedDict()
        self.watch = watch
        self._more = asyncio.Event()

    async def until(self, holds: Callable[[Found], bool], timeout_s: float) -> Found | None:
        """The first device for which `holds`, None when none was heard in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._more.clear()
                    for found in self.found.values():
                        if holds(found):
                            return found
                    await self._more.wait()
        except TimeoutError:
            return None

    def hear(self, advert: Advert, device: BLEDevice) -> None:
        """One advertisement."""
        found = self.found.setdefault(advert.address, Found(advert))
        self.found.move_to_end(advert.address)
        if len(self.found) > CAPACITY:
            self.found.popitem(last=False)
        found.advert = advert
        found.rssi_dbm[advert.adapter] = max(advert.rssi_dbm, found.rssi_dbm.get(advert.adapter, -127))
        if not found.path or found.rssi_dbm[advert.adapter] == max(found.rssi_dbm.values()):
            found.path = device.details["path"]
        self._more.set()


@asynccontextmanager
async def surveying(settings: BleSettings) -> AsyncGenerator[Survey]:
    """Scan on every adapter of the settings while the block runs. LinkError when there is no daemon, or no adapter that is on."""
    changed = asyncio.Event()
    watch = BluezWatch(changed.set)
    tasks = [asyncio.create_task(watch.run())]
    try:
        adapters = await _ready(watch, changed, settings)
        survey = Survey(watch)
        scans = [AdapterScan(name, settings.scan, (), survey.hear) for name in adapters]
        scanning = [asyncio.create_task(scan.run()) for scan in scans]
        tasks = [*scanning, *tasks]
        yield survey
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=END_S)


async def _ready(watch: BluezWatch, changed: asyncio.Event, settings: BleSettings) -> list[str]:
    """The adapters to use."""
    try:
        async with asyncio.timeout(READY_S):
            while not (names := _usable(watch, settings)):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        raise _missing(watch, settings) from None
    return names


def _usable(watch: BluezWatch, settings: BleSettings) -> list[str]:
    wanted = {one.lower() for one in settings.adapters}
    return [
        name for name, seen in watch.adapters.items() if seen.powered and (not wanted or name in wanted or seen.address.lower() in wanted)
    ]


def _missing(watch: BluezWatch, settings: BleSettings) -> LinkError:
    if not watch.up:
        return LinkError("no Bluetooth daemon on D-Bus", cure="apt install bluez, then systemctl start bluetooth")
    if not watch.adapters:
        return LinkError("no Bluetooth adapter", cure="plug one in; `rfkill list` says whether one is blocked")
    names = ", ".join(f"{name} ({'on' if seen.powered else 'off'})" for name, seen in sorted(watch.adapters.items()))
    if settings.adapters and not any(seen.powered for seen in watch.adapters.values()):
        return LinkError(f"no adapter that is on: {names}", cure="bluetoothctl power on; `rfkill unblock bluetooth` if it refuses")
    if settings.adapters:
        return LinkError(f"none of gateway.ble.adapters is here and on: {names}", cure="name one that is, or leave the setting out for all")
    return LinkError(f"no adapter that is on: {names}", cure="bluetoothctl power on; `rfkill unblock bluetooth` if it refuses")
