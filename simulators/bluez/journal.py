"""The truth of what went out: one JSON line for each report that a linked, subscribed device handed to D-Bus, written before it is sent.

A line is `{"t_us": monotonic, "device": address, "adapter": name, "uuid": short or full, "n": number, "hex": bytes, "values": {...}}`. The
file is written without a buffer, so a kill -9 of the daemon costs at most a last line that was cut; `read_journal` leaves that one out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simulators.sensors.sensor import Report


@dataclass(frozen=True, slots=True)
class Entry:
    """One report that went out. `t_us` is the monotonic clock of the machine."""

    t_us: int
    device: str
    adapter: str
    uuid: str
    number: int
    payload: bytes
    values: dict[str, float | list[float]]


class Journal:
    """Appends to a file; None keeps only the count."""

    def __init__(self, path: Path | None) -> None:
        self.written = 0
        self._fd = -1 if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, device: str, adapter: str, report: Report) -> None:
        """Note one report before it is sent."""
        self.written += 1
        if self._fd < 0:
            return
        line = {
            "t_us": time.monotonic_ns() // 1000,
            "device": device,
            "adapter": adapter,
            "uuid": report.uuid,
            "n": report.number,
            "hex": report.payload.hex(),
            "values": dict(report.values),
        }
        os.write(self._fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_journal(path: Path) -> Iterator[Entry]:
    """The entries in the order they went out."""
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            one = json.loads(line)
            payload = bytes.fromhex(one["hex"])
            yield Entry(one["t_us"], one["device"], one["adapter"], one["uuid"], one["n"], payload, one["values"])
