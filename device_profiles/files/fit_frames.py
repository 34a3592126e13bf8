"""The framing of a FIT file: headers, CRCs, chained parts, definitions and where each data message lies. No field is decoded here.

Pure and total: any bytes give messages and, when the file is not whole, a sentence on what is wrong with it; nothing is raised.
A stored CRC of 0 means "not computed" (FIT protocol) and is no damage. Times are resolved here, those of compressed headers too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final, Literal

MAGIC: Final = b".FIT"
MIN_HEADER_BYTES: Final = 12
TIMESTAMP_FIELD: Final = 253
_NO_TIME: Final = 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc16(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """CRC-16/ARC (reflected 0x8005, start 0), the one of FIT headers and files."""
    table = _CRC_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a definition: number, size and offset in bytes, base type as on the wire."""

    number: int
    size: int
    base_type: int
    at: int


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """The shape of the data messages of a local type. `size` covers the developer fields that follow the native ones."""

    global_number: int
    order: Literal["little", "big"]
    fields: tuple[FieldSpec, ...]
    size: int
    time_at: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """One data message: its shape, where its payload starts, and its time in FIT seconds (None when it has none)."""

    definition: Definition
    at: int
    t_s: int | None


class FitFrames:
    """Iterate once to get the data messages of all parts in order; `damage` and `trailing_bytes` are complete after that."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._reference_s: int | None = None
        self._part_damage: str | None = None
        self.damage: str | None = None
        self.trailing_bytes = 0

    def __iter__(self) -> Iterator[Message]:
        at = 0
        while at < len(self._data):
            if not is_header(self._data, at):
                self.trailing_bytes = len(self._data) - at
                if not at:
                    self._note("no FIT header")
                return
            start, end, next_at = self._part(at)
            if not (yield from self._messages(start, end)):
                return
            at = next_at

    def _note(self, damage: str) -> None:
        self.damage = self.damage or damage

    def _part(self, at: int) -> tuple[int, int, int]:
        """First and last byte (exclusive) of the messages of the part at `at`, and where the next part starts."""
        data = self._data
        header_bytes = data[at]
        data_bytes = int.from_bytes(data[at + 4 : at + 8], "little")
        start = at + header_bytes
        end = start + data_bytes
        if data_bytes == 0 and len(data) > start + 2 and not is_header(data, start + 2):
            self._part_damage = "its header says that it is empty: the device did not finish it"
            return start, len(data), len(data)
        if end + 2 > len(data):
            self._part_damage = f"cut off: {len(data)} bytes of {end + 2}"
            return start, min(end, len(data)), len(data)
        stored = int.from_bytes(data[end : end + 2], "little")
        self._part_damage = None
        if stored and stored != crc16(memoryview(data)[at:end]):
            self._part_damage = "its CRC does not match its bytes"
        if header_bytes >= MIN_HEADER_BYTES + 2:
            stored = int.from_bytes(data[at + 12 : at + 14], "little")
            if stored and stored != crc16(data[at : at + 12]):
                self._part_damage = self._part_damage or "the CRC of its header does not match"
        return start, end, end + 2

    def _messages(self, at: int, end: int) -> Generator[Message, None, bool]:
        """The messages of one part. The first thing that cannot be framed ends the file (False): nothing after it can be trusted."""
        data = self._data
        definitions: dict[int, Definition] = {}
        self._reference_s = None
        while at < end:
            header = data[at]
            if header & 0xC0 == 0x40:
                definition = _definition(data, at, end, has_developer_fields=bool(header & 0x20))
                if definition is None:
                    self._note(self._part_damage or f"the definition at byte {at} is cut off")
                    return False
                definitions[header & 0x0F], at = definition
                continue
            shape = definitions.get(header >> 5 & 0x03 if header & 0x80 else header & 0x0F)
            if shape is None:
                self._note(f"the message at byte {at} has a local type that was never defined")
                return False
            if at + 1 + shape.size > end:
                self._note(self._part_damage or f"the message at byte {at} is cut off")
                return False
            yield Message(shape, at + 1, self._time(shape, at, header))
            at += 1 + shape.size
        if self._part_damage:
            self._note(self._part_damage)
        return True

    def _time(self, shape: Definition, at: int, header: int) -> int | None:
        if shape.time_at is not None:
            start = at + 1 + shape.time_at
            t_s = int.from_bytes(self._data[start : start + 4], shape.order)
            if t_s == _NO_TIME:
                return None
            self._reference_s = t_s
            return t_s
        if header & 0x80 and self._reference_s is not None:
            self._reference_s += (header - self._reference_s) & 0x1F
            return self._reference_s
        return None


def is_header(data: bytes, at: int = 0) -> bool:
    """Whether a FIT header starts at `at`."""
    return len(data) >= at + MIN_HEADER_BYTES and data[at] >= MIN_HEADER_BYTES and data[at + 8 : at + 12] == MAGIC


def _definition(data: bytes, at: int, end: int, *, has_developer_fields: bool) -> tuple[Definition, int] | None:
    """The definition at `at` and the byte after it; None when it does not fit before `end`."""
    if at + 6 > end:
        return None
    order: Literal["little", "big"] = "big" if data[at + 2] else "little"
    count = data[at + 5]
    after = at + 6 + 3 * count
    if after + has_developer_fields > end:
        return None
    fields: list[FieldSpec] = []
    size = 0
    time_at: int | None = None
    for spec_at in range(at + 6, after, 3):
        number, field_bytes, base_type = data[spec_at : spec_at + 3]
        if number == TIMESTAMP_FIELD and field_bytes == 4:
            time_at = size
        fields.append(FieldSpec(number, field_bytes, base_type, size))
        size += field_bytes
    if has_developer_fields:
        developer_count = data[after]
        first, after = after + 1, after + 1 + 3 * developer_count
        if after > end:
            return None
        size += sum(data[first + 1 : after : 3])
    return Definition(int.from_bytes(data[at + 3 : at + 5], order), order, tuple(fields), size, time_at), after
