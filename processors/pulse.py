"""What a platform process knows only while it runs, left in a small file for others every few seconds: its nodes and its latency.

The file is replaced whole. A reader takes one that is missing or damaged for nothing known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from broker.nodeconfig import NodeState
from broker.replace_file import replace_file
from processors.influx_points import NodeHealth

EVERY_S: Final = 10.0
NAME: Final = "pulse.json"


@dataclass(frozen=True, slots=True)
class Pulse:
    """When it was written, every node that reported itself, p99 from a sample to its board change."""

    t_us: int
    nodes: Sequence[NodeHealth]
    p99_ms: int


def write_pulse(path: Path, t_us: int, nodes: Mapping[tuple[str, str], NodeState], latency_ms: Mapping[str, float]) -> None:
    """Leave it in a file. OSError as the file system gives it."""
    said = [[tenant, node, s.online, s.spool_rows, s.hours_left] for (tenant, node), s in sorted(nodes.items())]
    replace_file(path, json.dumps({"t_us": t_us, "nodes": said, "p99_ms": int(latency_ms.get("p99", 0))}).encode())


def read_pulse(path: Path) -> Pulse | None:
    """What was left; None when there is nothing to read."""
    try:
        found = cast("dict[str, Any]", json.loads(path.read_bytes()))
        nodes = [
            NodeHealth(str(tenant), str(node), bool(online), int(rows), None if left is None else float(left))
            for tenant, node, online, rows, left in found["nodes"]
        ]
        return Pulse(int(found["t_us"]), nodes, int(found["p99_ms"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
