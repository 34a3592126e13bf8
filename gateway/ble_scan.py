"""Scanning on one adapter through unmodified bleak: active or passive, falling back to the other kind when one is refused.

A scan that hears nothing for `STALL_S` is started anew: before BlueZ 5.88 a refused stop can leave one that finds nothing. `hush()`
stops it for a connect that the adapter cannot do while it scans. Passive needs a BlueZ with advertisement monitors; active works anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs, OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from gateway.ble_faults import fault_of
from gateway.ble_judging import Advert
from gateway.bounded import bounded

log = logging.getLogger(__name__)

Mode = Literal["active", "passive"]
START_S: Final = 10.0
STOP_S: Final = 5.0
STALL_S: Final = 60.0
FIRST_BACKOFF_S: Final = 0.5
LAST_BACKOFF_S: Final = 10.0
TRIES_OF_A_MODE: Final = 2
_OTHER: Final[dict[Mode, Mode]] = {"active": "passive", "passive": "active"}
_UUID_TAIL: Final = "-0000-1000-8000-00805f9b34fb"
_LISTS: Final = (AdvertisementDataType.INCOMPLETE_LIST_SERVICE_UUID16, AdvertisementDataType.COMPLETE_LIST_SERVICE_UUID16)
# flags of a device that can be found: general or limited, with and without "no BR/EDR" (Core Specification Supplement, part A, 1.3)
_FLAGS: Final = (b"\x02", b"\x04", b"\x05", b"\x06", b"\x1a")


def patterns_for(services: Sequence[str]) -> list[OrPattern]:
    """What a passive scan asks the controller to pass: discoverable devices, and those whose first 16-bit service is one of ours."""
    patterns = [OrPattern(0, AdvertisementDataType.FLAGS, flags) for flags in _FLAGS]
    for uuid in services:
        if uuid.endswith(_UUID_TAIL):
            short = bytes.fromhex(uuid[4:8])[::-1]
            patterns += [OrPattern(0, kind, short) for kind in _LISTS]
    return patterns


def advert_of(adapter: str, device: BLEDevice, data: AdvertisementData) -> Advert:
    """What BlueZ tells of a device, in our words."""
    props: Mapping[str, Any] = data.platform_data[1]  # those of now; the device object keeps its first ones
    return Advert(
        address=device.address,
        address_type=str(props.get("AddressType", "public")),
        adapter=adapter,
        rssi_dbm=data.rssi,
        name=data.local_name or device.name or "",
        uuids=tuple(uuid.lower() for uuid in data.service_uuids),
        bonded=bool(props.get("Bonded", props.get("Paired", False))),
        service_data=data.service_data,
    )


class AdapterScan:
    """`run` until cancelled. `services` empty: every device is told. `on_advert` is called in the event loop."""

    def __init__(
        self,
        adapter: str,
        mode: Mode,
        services: Sequence[str],
        on_advert: Callable[[Advert, BLEDevice], None],
        on_failure: Callable[[str], None] = lambda _adapter: None,
    ) -> None:
        self.adapter = adapter
        self.mode: Mode = mode
        self.scanning = False
        self.failures = 0
        self.starts = 0
        self.last_error = ""
        self._services = tuple(services)
        self._on_advert = on_advert
        self._on_failure = on_failure
        self._scanner: BleakScanner | None = None
        self._heard = False
        self._quiets = 0
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def run(self) -> None:
        """Scan; what fails is tried again with back-off, in the other mode after two failures."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            while self._quiets:
                await self._changed.wait()
                self._changed.clear()
            scanner = self._new_scanner()
            try:
                await bounded(scanner.start(), START_S)
            except Exception as error:
                self._failed(error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)
                continue
            self._scanner, self.scanning, self.last_error = scanner, True, ""
            self._stopped.clear()
            self.failures, self.starts, backoff_s = 0, self.starts + 1, FIRST_BACKOFF_S
            try:
                await self._while_heard()
            finally:
                self._scanner, self.scanning = None, False
                await self._stop(scanner)
                self._stopped.set()

    def listed(self) -> tuple[str, ...]:
        """The devices BlueZ knows by this scan; it drops one it has not heard for 30 s."""
        return tuple(self._scanner.discovered_devices_and_advertisement_data) if self._scanner is not None else ()

    async def hush(self) -> None:
        """No scan from now on until `unhush`; returns when it has stopped, or after `STOP_S`."""
        self._quiets += 1
        self._changed.set()
        try:
            async with asyncio.timeout(STOP_S):
                await self._stopped.wait()
        except TimeoutError:
            log.debug("%s: the scan does not stop", self.adapter)

    def unhush(self) -> None:
        """Scan again, once everybody who hushed it said so."""
        self._quiets -= 1
        self._changed.set()

    def _new_scanner(self) -> BleakScanner:
        args: BlueZScannerArgs = {"adapter": self.adapter}
        if self.mode == "passive":
            args["or_patterns"] = list(patterns_for(self._services))
        else:
            args["filters"] = {"DuplicateData": True}  # every advertisement is told: how fresh a sight is decides about a connect
        services = list(self._services) if self._services and self.mode == "active" else None
        return BleakScanner(self._detected, services, self.mode, bluez=args)

    def _detected(self, device: BLEDevice, data: AdvertisementData) -> None:
        self._heard = True
        if data.rssi > -127:  # what BlueZ only remembers has no signal strength
            self._on_advert(advert_of(self.adapter, device, data), device)

    async def _while_heard(self) -> None:
        """Until nothing was heard for a while, or a connect wants quiet."""
        while not self._quiets:
            self._heard = False
            self._changed.clear()
            try:
                async with asyncio.timeout(STALL_S):
                    await self._changed.wait()
            except TimeoutError:
                if not self._heard:
                    return

    async def _stop(self, scanner: BleakScanner) -> None:
        try:
            await bounded(scanner.stop(), STOP_S)
        except Exception as error:
            log.debug("%s: stopping the scan: %s", self.adapter, fault_of(error).text)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._on_failure(self.adapter)
        text = fault_of(error).text
        if text != self.last_error:
            log.warning("%s: %s scan: %s", self.adapter, self.mode, text)
        self.last_error = text
        if self.failures % TRIES_OF_A_MODE == 0:
            self.mode = _OTHER[self.mode]
