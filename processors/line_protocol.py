"""Line protocol from columns: many points of one measurement as the bytes that InfluxDB takes. Pure.

A measurement has a fixed set of tags and fields with fixed types, so no field is ever written with two: whole numbers end in `i`, floats
always have a point and a fixed number of decimals (they come as integers scaled by a power of ten), texts stand in quotes. A point without
a value leaves its field out; the first field of a measurement is never absent. Equal columns give equal bytes, whether compiled
(`line_kernel`) or not, so a batch that is made again overwrites itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from processors.kernels.compiled import COMPILED
from processors.line_kernel import FLOAT, INT, TEXT, write_lines

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

ABSENT: Final = -(1 << 63)
MOST_DECIMALS: Final = 9
_MOST_KEYS: Final = 1 << 18  # of series that are remembered
_KINDS: Final = {"float": FLOAT, "int": INT, "text": TEXT}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a measurement. A `float` comes as integers of 10^-decimals, a `text` as indices into texts."""

    name: str
    kind: Literal["float", "int", "text"]
    decimals: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.decimals <= MOST_DECIMALS if self.kind == "float" else self.decimals == 0):
            raise ValueError(f"field {self.name}: a float has 1-{MOST_DECIMALS} decimals, others none")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What points of one name are made of. Tags in the order of their names, as the server sorts them. `unit` is that of times."""

    name: str
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    unit: Literal["us", "ns"] = "ns"

    def __post_init__(self) -> None:
        names = [*self.tags, *(f.name for f in self.fields)]
        if list(self.tags) != sorted(self.tags) or len(set(names)) != len(names) or not self.fields:
            raise ValueError(f"measurement {self.name}: tags in order, no name twice, at least one field")


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one measurement: `series` are its tag values, `series_of` says per point which; a column a field; times in `unit`.

    `texts` holds per text field what its indices mean. ABSENT in a column: no value.
    """

    measurement: Measurement
    series: Sequence[tuple[str, ...]]
    series_of: I64
    columns: tuple[I64, ...]
    times: I64
    texts: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.times)

    def chosen(self, which: npt.NDArray[np.bool_] | slice) -> Points:
        """Only the points of a mask or of a stretch."""
        columns = tuple(column[which] for column in self.columns)
        return Points(self.measurement, self.series, self.series_of[which], columns, self.times[which], self.texts)


def encode_lines(points: Points, keys: Sequence[bytes] | None = None, *, compiled: bool = COMPILED) -> bytes:
    """The lines of points, in their order, each with its end. `keys`: what `series_keys` gave. ValueError when the first field of one is
    absent."""
    if not len(points):
        return b""
    if (points.columns[0] == ABSENT).any():
        raise ValueError(f"{points.measurement.name}: the first field, {points.measurement.fields[0].name}, is never absent")
    keys = series_keys(points) if keys is None else keys
    return _compiled(points, keys) if compiled else _plain(points, keys)


def series_keys(points: Points) -> list[bytes]:
    """Measurement and tags of each of `series`, as lines begin with them."""
    m = points.measurement
    return [_series_key(m.name, m.tags, values) for values in points.series]


@lru_cache(maxsize=_MOST_KEYS)
def _series_key(name: str, tags: tuple[str, ...], values: tuple[str, ...]) -> bytes:
    pairs = (f"{escape_tag(tag)}={escape_tag(value)}" for tag, value in zip(tags, values, strict=True))
    return ",".join([escape_name(name), *pairs]).encode()


_PLAIN: Final = re.compile(r"[A-Za-z0-9_.@/-]+").fullmatch  # what needs no escape
_CONTROL: Final = dict.fromkeys((*range(32), 127), "_")
_TAG: Final = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_NAME: Final = str.maketrans({",": "\\,", " ": "\\ "})
_TEXT: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


def tag_text(text: str) -> str:
    """A text as a tag can hold it: no control characters, no backslash at the end (`_` in their place), not empty (`none`)."""
    made = text.translate(_CONTROL)
    return (made[:-1] + "_" if made.endswith("\\") else made) or "none"


def escape_tag(text: str) -> str:
    """A tag's name or value, or a field's name, as it stands in a line."""
    return text if _PLAIN(text) else tag_text(text).translate(_TAG)


def escape_name(text: str) -> str:
    """A measurement's name as it stands in a line."""
    return tag_text(text).translate(_NAME)


def field_text(text: str) -> str:
    """A text as a field holds it: without control characters."""
    return text.translate(_CONTROL)


def escape_text(text: str) -> str:
    """A field's text with its quotes."""
    return f'"{field_text(text).translate(_TEXT)}"'


def _field_starts(m: Measurement) -> list[bytes]:
    """What stands before the value of each field."""
    return [(" " if i == 0 else ",").encode() + escape_tag(f.name).encode() + b"=" for i, f in enumerate(m.fields)]


def _joined(parts: Sequence[bytes]) -> tuple[U8, I64]:
    """Byte strings back to back, and where each begins; one more for the end."""
    bounds = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=bounds[1:])
    return np.frombuffer(b"".join(parts) or b"\0", np.uint8), bounds


def _texts(points: Points) -> list[list[bytes]]:
    """Per field the escaped texts; none for numbers."""
    found = points.measurement.fields
    return [[escape_text(text).encode() for text in points.texts[f.name]] if f.kind == "text" else [] for f in found]


# compiled


def _compiled(points: Points, series: Sequence[bytes]) -> bytes:
    m = points.measurement
    fields = len(m.fields)
    texts = _texts(points)
    text_bytes, text_at = _joined([one for of in texts for one in of])
    text_base = np.cumsum([0, *(len(of) for of in texts)])[:fields]
    keys, key_at = _joined(series)
    starts, start_at = _joined(_field_starts(m))
    columns = np.stack(points.columns) if fields > 1 else points.columns[0].reshape(1, -1)
    longest_text = max((len(one) for of in texts for one in of), default=0)
    room = int(np.diff(key_at).max()) + len(starts) + fields * max(32, longest_text + 2) + 24
    out = np.empty(len(points) * room, np.uint8)
    length = write_lines(
        out, keys, key_at, points.series_of, starts, start_at,
        np.array([_KINDS[f.kind] for f in m.fields], np.int64), np.array([f.decimals for f in m.fields], np.int64),
        columns, text_bytes, text_at, text_base, points.times,
    )  # fmt: skip
    return out[:length].tobytes()


# plain: a matrix of bytes, a row a line, in which zeros are left out at the end

_QUADS: Final = np.array([f"{n:04d}".encode() for n in range(10_000)]).view(np.uint32)  # 0042
_NUMBERS: Final = np.concatenate(
    [
        _QUADS,
        np.frombuffer(b"".join(str(n).rjust(4, "\0").encode() for n in range(10_000)), np.uint32),  # the last four digits of a small one
        np.frombuffer(b"".join((str(n) if n else "").rjust(4, "\0").encode() for n in range(10_000)), np.uint32),  # others of its digits
    ]
)
_FULL, _LAST, _FIRST = 0, 10_000, 20_000


def _plain(points: Points, series: Sequence[bytes]) -> bytes:
    m = points.measurement
    blocks = [_table(series)[points.series_of]]
    for field, start, column, texts in zip(m.fields, _field_starts(m), points.columns, _texts(points), strict=True):
        blocks.append(_block(field, start, column, texts))
    blocks.append(_with(b" ", _whole(points.times), b"\n"))
    made = np.concatenate(blocks, axis=1)
    return made.tobytes().translate(None, b"\0")


def _table(parts: Sequence[bytes]) -> U8:
    """Byte strings as rows, filled up with zeros."""
    width = max((len(part) for part in parts), default=0)
    return np.frombuffer(b"".join(part.ljust(width, b"\0") for part in parts), np.uint8).reshape(len(parts), width)


def _block(field: Field, start: bytes, column: I64, texts: Sequence[bytes]) -> U8:
    absent = column == ABSENT
    any_absent = bool(absent.any())
    values = np.where(absent, 0, column) if any_absent else column
    if field.kind == "text":
        made = _with(start, _table(texts)[values], b"") if texts else np.zeros((len(column), 0), np.uint8)
    elif field.kind == "int":
        made = _with(start, _whole(values), b"i")
    else:
        made = _decimal(start, values, field.decimals)
    if any_absent:
        made[absent] = 0
    return made


def _with(start: bytes, middle: U8, end: bytes) -> U8:
    """Each row of `middle` between two constants."""
    n, width = middle.shape
    made = np.empty((n, len(start) + width + len(end)), np.uint8)
    made[:, : len(start)] = np.frombuffer(start, np.uint8)
    made[:, len(start) : len(start) + width] = middle
    made[:, len(start) + width :] = np.frombuffer(end, np.uint8)
    return made


def _decimal(start: bytes, values: I64, decimals: int) -> U8:
    size = np.abs(values).astype(np.uint64)
    whole, part = np.divmod(size, np.uint64(10**decimals))
    digits = _digits(whole, leading=True)
    fraction = _digits(part, leading=False, quads=-(-decimals // 4))[:, -decimals:]
    made = np.empty((len(values), len(start) + 1 + digits.shape[1] + 1 + decimals), np.uint8)
    at = len(start)
    made[:, :at] = np.frombuffer(start, np.uint8)
    made[:, at] = np.where(values < 0, ord("-"), 0)
    made[:, at + 1 : at + 1 + digits.shape[1]] = digits
    made[:, -decimals - 1] = ord(".")
    made[:, -decimals:] = fraction
    return made


def _whole(values: I64) -> U8:
    digits = _digits(np.abs(values).astype(np.uint64), leading=True)
    negative = values < 0
    if not negative.any():
        return digits
    return np.concatenate([np.where(negative, ord("-"), 0).astype(np.uint8).reshape(-1, 1), digits], axis=1)


def _digits(values: npt.NDArray[np.uint64], *, leading: bool, quads: int = 0) -> U8:
    """Decimal digits in rows of a multiple of four; `leading`: zeros in front are left out (as zero bytes), else they stand there."""
    quads = quads or max(1, -(-len(str(int(values.max()))) // 4))
    made = np.empty((len(values), quads), np.uint32)
    rest = values
    for place in range(quads - 1, -1, -1):
        if place:
            higher = rest // np.uint64(10_000)
            quad = (rest - higher * np.uint64(10_000)).astype(np.int64)
            rest = higher
            small = _LAST if place == quads - 1 else _FIRST
            made[:, place] = _NUMBERS[quad + np.where(higher > 0, _FULL, small)] if leading else _NUMBERS[quad]
        else:
            quad = rest.astype(np.int64)
            made[:, place] = _NUMBERS[quad + ((_LAST if quads == 1 else _FIRST) if leading else _FULL)]
    return made.view(np.uint8).reshape(len(values), quads * 4)
