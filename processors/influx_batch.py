"""One owed request to InfluxDB, as the outbox keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Batch:
    """One owed request. `body`: compressed lines, or for `erase` the subject (tenant/athlete) to be deleted from the bucket."""

    bucket: str
    kind: Literal["write", "erase"]
    unit: str
    lines: int
    newest_us: int
    body: bytes
