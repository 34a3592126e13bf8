"""An ANT stick on USB through pyusb (extra `ant`), read by one thread that blocks in the kernel: nothing spins.

The thread hands what it read to the event loop, at most `MAX_WAITING` packets ahead: when the loop is slower, it waits, and the stick keeps
the rest as far as it can (an overflow there is an event of the protocol). `close` ends the thread within one read time.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from broker.errors import ConfigError
from gateway.ant_transport import WRITE_S

if TYPE_CHECKING:
    from usb.core import Device, Endpoint, USBError

VENDOR: Final = 0x0FCF
PRODUCTS: Final = (0x1008, 0x1009, 0x1004)  # ANTUSB2, ANTUSB-m, the first ones with a serial bridge
MAX_WAITING: Final = 256
_READ_MS: Final = 250
_READ_BYTES: Final = 512
_held: set[tuple[int | None, int | None]] = set()  # bus and address of sticks this process has open


class UsbStick:
    """One open stick. `read`, `write` and `close` from the event loop."""

    def __init__(self, device: Device, reader: Endpoint, writer: Endpoint, place: tuple[int | None, int | None]) -> None:
        self.name = f"usb {place[0]}-{place[1]}"
        self._device, self._reader, self._writer, self._place = device, reader, writer, place
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self._ending = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._pump, name=f"ant-{self.name}", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, serial: str = "", *, reset: bool = False) -> UsbStick:
        """The first free stick, or that with this serial number. OSError says what is wrong, ConfigError what is not installed."""
        device, reader, writer, place = await asyncio.to_thread(_claim, serial, reset)
        return cls(device, reader, writer, place)

    async def read(self) -> bytes:
        """See `Transport`."""
        while not self._arrived:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        data = b"".join(self._arrived)
        for _ in range(len(self._arrived)):
            self._arrived.popleft()
            self._room.release()
        return data

    async def write(self, data: bytes) -> None:
        """See `Transport`."""
        if self._failure is not None:
            raise self._failure
        await asyncio.to_thread(self._write, data)

    async def close(self) -> None:
        """See `Transport`."""
        if self._ending.is_set():
            return
        self._ending.set()
        await asyncio.shield(asyncio.to_thread(self._give_back))

    def _give_back(self) -> None:
        import usb.util

        self._thread.join()
        usb.util.dispose_resources(self._device)
        _held.discard(self._place)

    def _write(self, data: bytes) -> None:
        import usb.core

        try:
            self._writer.write(data, timeout=round(WRITE_S * 1000))
        except usb.core.USBError as error:
            raise OSError(error.errno or errno.EIO, f"{self.name}: {error.strerror}") from error

    def _pump(self) -> None:
        import usb.core

        try:
            while not self._ending.is_set():
                try:
                    data = bytes(self._reader.read(_READ_BYTES, timeout=_READ_MS))
                except usb.core.USBTimeoutError:
                    continue
                if not data:
                    self._ending.wait(_READ_MS / 1000)  # a driver that answers with nothing must not make us spin
                while data and not self._room.acquire(timeout=_READ_MS / 1000):
                    if self._ending.is_set():
                        return
                if data:
                    self._tell(data)
        except usb.core.USBError as error:
            self._fail(OSError(error.errno or errno.EIO, f"{self.name}: pulled out ({error.strerror})"))

    def _tell(self, data: bytes) -> None:
        self._call(lambda: (self._arrived.append(data), self._news.set()))

    def _fail(self, failure: OSError) -> None:
        def told() -> None:
            self._failure = failure
            self._news.set()

        self._call(told)

    def _call(self, what: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            self._ending.set()  # the loop is closed: nobody reads any more


def _claim(serial: str, reset: bool) -> tuple[Device, Endpoint, Endpoint, tuple[int | None, int | None]]:
    """Find and set up a stick. Blocks: call it in a thread."""
    try:
        import usb.core
        import usb.util
    except ImportError as error:
        raise ConfigError(
            "ant stick usb: pyusb is not installed", cure="pip install 'paceline[ant]', or use the path of a serial stick"
        ) from error
    try:
        found = list(usb.core.find(find_all=True, idVendor=VENDOR, custom_match=lambda d: d.idProduct in PRODUCTS) or ())
    except usb.core.NoBackendError as error:
        raise ConfigError("ant stick usb: libusb is not installed", cure="apt-get install libusb-1.0-0") from error
    wanted = [d for d in found if (d.bus, d.address) not in _held and (not serial or _serial_of(d) == serial)]
    if not wanted:
        what = f"with serial number {serial}" if serial else "free"
        raise OSError(errno.ENODEV, f"usb: no ANT stick {what} among {len(found)}: plug one in")
    device = wanted[0]
    place = device.bus, device.address
    try:
        if reset:
            device.reset()
        if device.is_kernel_driver_active(0):
            device.detach_kernel_driver(0)
    except NotImplementedError:
        pass  # a backend without kernel drivers
    except usb.core.USBError as error:
        raise OSError(error.errno or errno.EIO, f"usb {place[0]}-{place[1]}: {_cure(error)}") from error
    try:
        device.set_configuration()
        ends = list(device.get_active_configuration()[(0, 0)])
        usb.util.claim_interface(device, 0)
    except usb.core.USBError as error:
        usb.util.dispose_resources(device)
        raise OSError(error.errno or errno.EIO, f"usb {place[0]}-{place[1]}: {_cure(error)}") from error
    reader = next((e for e in ends if usb.util.endpoint_direction(e.bEndpointAddress) == usb.util.ENDPOINT_IN), None)
    writer = next((e for e in ends if usb.util.endpoint_direction(e.bEndpointAddress) == usb.util.ENDPOINT_OUT), None)
    if reader is None or writer is None:
        usb.util.dispose_resources(device)
        raise OSError(errno.EIO, f"usb {place[0]}-{place[1]}: no endpoints of a stick: pull it out and plug it in again")
    _held.add(place)
    return device, reader, writer, place


def _serial_of(device: Device) -> str:
    import usb.core

    try:
        return device.serial_number or ""
    except (ValueError, usb.core.USBError):
        return ""  # not allowed to ask


def _cure(error: USBError) -> str:
    if error.errno == errno.EACCES:
        return "not allowed: the udev rule of the box gives the stick to the gateway's user"
    if error.errno == errno.EBUSY:
        return "used by another program: end it"
    return error.strerror or "does not answer"
