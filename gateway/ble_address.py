"""Addresses of Bluetooth LE: which of them last, and the id a sensor has on the wire (`ble-` and 12 hex digits).

A public or static random address is the device's for ever. A resolvable one (two highest bits 01) changes every quarter of an hour; it is
stable only once the device is bonded, because BlueZ then tells the identity address instead. A device that rotates and cannot be bonded is
known by its serial number where it has a believable one, else only as long as its address lasts. Source: Core 5.4, volume 6 part B, 1.3.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

from device_profiles.samples import Identity

AddressKind = Literal["public", "static", "resolvable", "non_resolvable"]
PREFIX: Final = "ble-"
MIN_SERIAL_CHARS: Final = 4
_ADDRESS: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", re.ASCII)
_PLAIN: Final = ("0123456789", "1234567890", "123456789a", "abcdefghij")  # what a maker leaves in who never numbered anything


def is_address(text: str) -> bool:
    """Whether `text` is six octets in hex with colons."""
    return _ADDRESS.fullmatch(text) is not None


def kind_of(address: str, address_type: str) -> AddressKind:
    """The kind of an address; `address_type` is BlueZ's "public" or "random"."""
    if address_type != "random":
        return "public"
    top = int(address[:2], 16) >> 6
    if top == 0b11:
        return "static"
    return "resolvable" if top == 0b01 else "non_resolvable"


def lasts(address: str, address_type: str, *, bonded: bool) -> bool:
    """Whether the device keeps this address."""
    return bonded or kind_of(address, address_type) in {"public", "static"}


def device_of_address(address: str) -> str:
    """The id of the device with this address."""
    return PREFIX + address.replace(":", "").lower()


def device_of_serial(identity: Identity) -> str | None:
    """The id of a device by its maker, model and serial number; None when the number cannot tell two devices apart."""
    serial = identity.serial.strip()
    if len(serial) < MIN_SERIAL_CHARS or len(set(serial)) < 2 or any(serial.lower() in plain for plain in _PLAIN):
        return None
    text = f"{identity.manufacturer.strip()}\0{identity.model.strip()}\0{serial}"
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:12]
