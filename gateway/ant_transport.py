"""What carries the bytes of an ANT stick: a serial line or USB. The contract of both; `open_stick` makes one from its setting.

A transport is open when it is made. Everything that can go wrong with a stick is an OSError with what to do in it (not plugged in, not
allowed, pulled out); what is wrong with the setting or the installation is a ConfigError.
"""

from __future__ import annotations

from typing import Final, Protocol

from broker.errors import ConfigError

USB: Final = "usb"
WRITE_S: Final = 2.0  # a stick that takes no bytes for so long is gone


class Transport(Protocol):
    """Bytes to and from one stick."""

    name: str

    async def read(self) -> bytes:
        """At least one byte, as soon as there are any; cancelled, it loses none. OSError when the stick is gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand over all bytes. OSError when the stick is gone or takes none for 2 s."""
        ...

    async def close(self) -> None:
        """Give the stick back; may be called twice."""
        ...


async def open_stick(setting: str, *, reset: bool = False) -> Transport:
    """The stick of a setting: `usb`, `usb:SERIAL` or the path of a serial device. `reset`: start a USB stick anew, it did not answer."""
    if setting == USB or setting.startswith(f"{USB}:"):
        from gateway.ant_usb import UsbStick  # needs pyusb, which a box with a serial stick does not have

        return await UsbStick.open(setting.partition(":")[2], reset=reset)
    if not setting.startswith("/"):
        raise ConfigError(f"ant stick {setting!r} is neither usb nor a device", cure="use usb, usb:SERIAL or a path such as /dev/ttyUSB0")
    from gateway.ant_serial import SerialStick

    return SerialStick.open(setting)
