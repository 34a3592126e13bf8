"""Advertising data: what a device says of itself before anybody connects (Core Specification Supplement, part A). Pure; no bytes raise."""

_UUIDS_16 = (0x02, 0x03)
_SERVICE_DATA_16 = 0x16
_NAMES = (0x08, 0x09)
MAX_BYTES = 31


def services_of(data):
    """The 16-bit UUIDs of services in it, in a list."""
    found = []
    for kind, at, end in _fields(data):
        if kind in _UUIDS_16:
            for i in range(at, end - 1, 2):
                found.append(data[i] | data[i + 1] << 8)
        elif kind == _SERVICE_DATA_16 and end - at >= 2:
            found.append(data[at] | data[at + 1] << 8)
    return found


def name_of(data):
    """The name in it, "" if there is none; "?" for what is no printable ASCII."""
    for kind, at, end in _fields(data):
        if kind in _NAMES:
            return "".join([chr(c) if 32 <= c < 127 else "?" for c in bytes(data[at:end])])
    return ""


def advert(services, name, appearance=None):
    """Advertising data of a connectable device that offers these 16-bit services. ValueError if it is more than 31 bytes."""
    data = bytearray(b"\x02\x01\x06")
    raw = b"".join([uuid.to_bytes(2, "little") for uuid in services])
    data += bytes((1 + len(raw), 0x03)) + raw
    if appearance is not None:
        data += b"\x03\x19" + appearance.to_bytes(2, "little")
    data += bytes((1 + len(name), 0x09)) + name.encode()
    if len(data) > MAX_BYTES:
        raise ValueError("advert of %d bytes, at most %d: give a shorter name than %s" % (len(data), MAX_BYTES, name))
    return bytes(data)


def _fields(data):
    """(type, first byte, after the last) of each structure that is whole."""
    at = 0
    while at + 1 < len(data):
        length = data[at]
        if not length or at + 1 + length > len(data):
            return
        yield data[at + 1], at + 2, at + 1 + length
        at += 1 + length
