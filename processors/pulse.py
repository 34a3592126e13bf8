"""What a process that hears the nodes knows only while it runs, left in a small file for others every few seconds: its nodes, its latency.

The file is replaced whole. A reader takes one that is missing or damaged for nothing known.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from broker.nodeconfig import NodeState
from broker.replace_file import replace_file
from processors.influx_points import NodeHealth
from processors.wall import wall_us

_log = logging.getLogger(__name__)

EVERY_S: Final = 10.0
NAME: Final = "pulse.json"


@dataclass(frozen=True, slots=True)
class Pulse:
    """When it was written, every node that reported itself, p99 from a sample to its board change (None: not known to that process)."""

    t_us: int
    nodes: Sequence[NodeHealth]
    p99_ms: int | None


async def leave_pulse(
    path: Path, nodes: Callable[[], Mapping[tuple[str, str], NodeState]], latency_ms: Callable[[], Mapping[str, float]]
) -> None:
    """Write it again and again, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(write_pulse, path, wall_us(), dict(nodes()), latency_ms())
        except OSError as error:
            _log.warning("no pulse is left for others: %s", error)
        await asyncio.sleep(EVERY_S)


def write_pulse(path: Path, t_us: int, nodes: Mapping[tuple[str, str], NodeState], latency_ms: Mapping[str, float]) -> None:
    """Leave it in a file. OSError as the file system gives it."""
    said = [[tenant, node, s.online, s.spool_rows, s.hours_left] for (tenant, node), s in sorted(nodes.items())]
    p99_ms = int(latency_ms["p99"]) if "p99" in latency_ms else None
    replace_file(path, json.dumps({"t_us": t_us, "nodes": said, "p99_ms": p99_ms}).encode())


def read_pulse(path: Path) -> Pulse | None:
    """What was left; None when there is nothing to read."""
    try:
        found = cast("dict[str, Any]", json.loads(path.read_bytes()))
        nodes = [
            NodeHealth(str(tenant), str(node), bool(online), int(rows), None if left is None else float(left))
            for tenant, node, online, rows, left in found["nodes"]
        ]
        return Pulse(int(found["t_us"]), nodes, None if found["p99_ms"] is None else int(found["p99_ms"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
