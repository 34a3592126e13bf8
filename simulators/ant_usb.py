"""Virtual ANT sticks on USB: a backend of pyusb, so that unmodified pyusb (and whatever uses it) finds ANT sticks in this process.

Give it to pyusb where it looks for libusb: `usb.backend.libusb1.get_backend = lambda **_: VirtualUsb([stick])`. Reads block as long as
pyusb says and end with its time-out error, as with a real bus. `unplug` makes the device vanish: calls to it end with ENODEV.
"""

from __future__ import annotations

import errno
import threading
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final

import usb.core
from usb.backend import IBackend

from simulators.ant_clock import LiveStick
from simulators.ant_stick import VirtualStick

VENDOR: Final = 0x0FCF
PRODUCT: Final = 0x1008
_IN, _OUT = 0x81, 0x01
_BULK: Final = 2


@dataclass(slots=True)
class _Port:
    """One place on the bus."""

    live: LiveStick
    address: int
    present: bool = True
    claimed: bool = False
    unread: bytearray = field(default_factory=bytearray)
    change: threading.Condition = field(default_factory=threading.Condition)


def _gone() -> usb.core.USBError:
    return usb.core.USBError("No such device", -4, errno.ENODEV)


class VirtualUsb(IBackend):
    """A bus with one stick at each address, from 1."""

    def __init__(self, sticks: list[VirtualStick]) -> None:
        self._ports = [_Port(LiveStick(stick), i + 1) for i, stick in enumerate(sticks)]

    def unplug(self, index: int = 0) -> None:
        """Pull a stick out."""
        port = self._ports[index]
        with port.change:
            port.present = port.claimed = False
            port.change.notify_all()

    def plug(self, index: int = 0) -> None:
        """Plug it in again: under a new address, freshly powered."""
        port = self._ports[index]
        with port.change:
            port.present, port.address = True, port.address + len(self._ports)
            port.live.stick.restart()

    def enumerate_devices(self) -> Iterable[object]:
        return [port for port in self._ports if port.present]

    def get_parent(self, dev: object) -> object | None:
        return None

    def get_device_descriptor(self, dev: object) -> object:
        port = _port(dev)
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x0200, bDeviceClass=0, bDeviceSubClass=0, bDeviceProtocol=0, bMaxPacketSize0=64,
            idVendor=VENDOR, idProduct=PRODUCT, bcdDevice=0x0100, iManufacturer=0, iProduct=0, iSerialNumber=0, bNumConfigurations=1,
            address=port.address, bus=1, port_number=port.address, port_numbers=(port.address,), speed=2,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: object, config: int) -> object:
        if config:
            raise IndexError(config)
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=32, bNumInterfaces=1, bConfigurationValue=1, iConfiguration=0, bmAttributes=0x80,
            bMaxPower=50, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, dev: object, intf: int, alt: int, config: int) -> object:
        if intf or alt or config:
            raise IndexError(intf)
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=0, bAlternateSetting=0, bNumEndpoints=2, bInterfaceClass=255,
            bInterfaceSubClass=0, bInterfaceProtocol=0, iInterface=0, extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(self, dev: object, ep: int, intf: int, alt: int, config: int) -> object:
        return SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=(_IN, _OUT)[ep], bmAttributes=_BULK, wMaxPacketSize=64, bInterval=1,
            bRefresh=0, bSynchAddress=0, extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev: object) -> object:
        return _present(dev)

    def close_device(self, dev_handle: object) -> None:
        _port(dev_handle).claimed = False

    def set_configuration(self, dev_handle: object, config_value: int) -> None:
        _present(dev_handle)

    def get_configuration(self, dev_handle: object) -> int:
        _present(dev_handle)
        return 1

    def set_interface_altsetting(self, dev_handle: object, intf: int, altsetting: int) -> None:
        _present(dev_handle)

    def claim_interface(self, dev_handle: object, intf: int) -> None:
        port = _present(dev_handle)
        if port.claimed:
            raise usb.core.USBError("Resource busy", -6, errno.EBUSY)
        port.claimed = True

    def release_interface(self, dev_handle: object, intf: int) -> None:
        _port(dev_handle).claimed = False

    def bulk_write(self, dev_handle: object, ep: int, intf: int, data: array[int], timeout: int) -> int:
        port = _present(dev_handle)
        with port.change:
            port.live.stick.advance(port.live.now_us)
            port.live.stick.feed(data.tobytes())
            port.change.notify_all()
        return len(data)

    def bulk_read(self, dev_handle: object, ep: int, intf: int, buff: array[int], timeout: int) -> int:
        port = _port(dev_handle)
        until_s = time.monotonic() + timeout / 1000
        with port.change:
            while True:
                if not port.present:
                    raise _gone()
                port.unread += port.live.exchange()
                if port.unread:
                    count = min(len(port.unread), len(buff))
                    buff[:count] = array("B", port.unread[:count])
                    del port.unread[:count]
                    return count
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise usb.core.USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)
                port.change.wait(min(left_s, port.live.wait_s()))

    def clear_halt(self, dev_handle: object, ep: int) -> None:
        _present(dev_handle)

    def reset_device(self, dev_handle: object) -> None:
        port = _present(dev_handle)
        with port.change:
            port.live.stick.restart()

    def is_kernel_driver_active(self, dev_handle: object, intf: int) -> bool:
        return False

    def detach_kernel_driver(self, dev_handle: object, intf: int) -> None:
        _present(dev_handle)

    def attach_kernel_driver(self, dev_handle: object, intf: int) -> None:
        _present(dev_handle)


def _port(dev: object) -> _Port:
    assert isinstance(dev, _Port)
    return dev


def _present(dev: object) -> _Port:
    port = _port(dev)
    if not port.present:
        raise _gone()
    return port
