"""Lines that InfluxDB refused: as requests once more, after what was in their way is gone, and which of them are of a person. Pure.

A letter keeps the unit of its line before what the server said (`ns: ...`), and a line that was cut to be kept has no end: it is not sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from processors.accept import DeadLetter
from processors.dead_store import StoredDead
from processors.influx_batch import Batch
from processors.influx_packing import pack
from processors.influx_schema import BUCKETS, TELE
from processors.line_protocol import Points, series_keys

_TO_US: Final = {"us": 1, "ns": 1000}
REASON: Final = "influx_refused"


def letter_of(now_us: int, bucket: str, unit: str, said: str, line: bytes) -> DeadLetter:
    """A line as it is kept aside with what the server said."""
    return DeadLetter(now_us, "", "influx", bucket, None, None, REASON, f"{unit}: {said}", line)


def said_of(letter: DeadLetter) -> tuple[str, str]:
    """The unit of the line's time, and the server's words."""
    unit, _, said = letter.detail.partition(": ")
    return unit, said


def again(letters: Iterable[StoredDead]) -> tuple[list[Batch], list[int]]:
    """Requests of these lines, a bucket and unit each, and which letters are in them. They are as new as they were when refused."""
    lines: dict[tuple[str, str], list[bytes]] = {}
    newest: dict[tuple[str, str], int] = {}
    ids: list[int] = []
    for stored in letters:
        letter, (unit, _) = stored.letter, said_of(stored.letter)
        if letter.topic not in BUCKETS or unit not in _TO_US or not letter.raw.endswith(b"\n"):
            continue
        key = letter.topic, unit
        lines.setdefault(key, []).append(letter.raw)
        newest[key] = max(newest.get(key, 0), _time_us(letter.raw, unit, letter.at_us))
        ids.append(stored.id)
    made = [Batch(bucket, "write", unit, len(rows), newest[bucket, unit], pack(b"".join(rows))) for (bucket, unit), rows in lines.items()]
    return made, ids


def _time_us(line: bytes, unit: str, refused_us: int) -> int:
    """When the point is of; of a line whose time cannot be read, when it was refused."""
    last = line.rpartition(b" ")[2].strip()
    return int(last) // _TO_US[unit] if last.isdigit() and len(last) < 20 else refused_us


def of_subject(subject: str, letters: Iterable[tuple[int, str, bytes]]) -> list[int]:
    """Which letters, as (id, bucket, line), hold samples of a subject (tenant/athlete)."""
    tenant, _, athlete = subject.partition("/")
    none = np.zeros(0, np.int64)
    (key,) = series_keys(Points(TELE, [(athlete, "smooth", tenant)], none, tuple(none for _ in TELE.fields), none, {}))
    return [number for number, bucket, line in letters if bucket == "live" and line.startswith(key + b" ")]


def numbered(letters: Sequence[StoredDead], numbers: Sequence[int]) -> list[StoredDead]:
    """Those of these numbers."""
    wanted = set(numbers)
    return [stored for stored in letters if stored.id in wanted]
