"""ROMFS images (the read-only file system of MicroPython 1.25): what a device imports from its slot without copying files.

A record is kind and length as base-128 numbers (most significant group first), then the payload; an image is one record with an even
number of bytes. Pure: the same files give the same bytes, in the order of their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.errors import BadInputError

HEADER: Final = b"\xd2\xcd\x31"  # the kind 0x149981 as a base-128 number
_VERBATIM, _DIRECTORY, _FILE = 2, 4, 5


def romfs(files: Mapping[str, bytes]) -> bytes:
    """The image of files by path (`kit/ring.mpy`). BadInputError for a path that is no plain ASCII path below the root."""
    body = _directory({tuple(_parts(path)): content for path, content in files.items()})
    length = _number(len(body))
    if (len(HEADER) + len(length) + len(body)) % 2:
        length = b"\x80" + length
    return HEADER + length + body


def _directory(files: Mapping[tuple[str, ...], bytes]) -> bytes:
    body = b""
    for name in sorted({parts[0] for parts in files}):
        label = _number(len(name)) + name.encode("ascii")
        if (name,) in files:
            body += _record(_FILE, label + _record(_VERBATIM, files[(name,)]))
        else:
            inside = {parts[1:]: content for parts, content in files.items() if parts[0] == name}
            body += _record(_DIRECTORY, label + _directory(inside))
    return body


def _record(kind: int, payload: bytes) -> bytes:
    return _number(kind) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if not path.isascii() or any(part in ("", ".", "..") for part in parts):
        raise BadInputError(f"{path!r} cannot stand in an image", cure="name files relative to the root, in ASCII, such as kit/ring.mpy")
    return parts
