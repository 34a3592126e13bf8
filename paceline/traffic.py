"""What a message on the wire says, as one JSON-ready dict: for `paceline tap`.

Pure; a bad message is described with its reason, never an error.
"""

from __future__ import annotations

import json
from typing import Any

from broker.acks import Ack, decode_ack
from broker.bundles import Bundle, decode_bundle
from broker.errors import ConfigError, Rejected
from broker.frames import Clock, Frame, decode_frame
from broker.json_frames import decode_json_message
from broker.layouts import all_layouts
from broker.nodeconfig import parse_node_config
from broker.topics import parse_topic


def describe(name: str, payload: bytes, now_us: int) -> dict[str, Any]:
    """Topic, tenant, node, leaf and the decoded content of one message, or `bad` with the reason and `raw` in hex."""
    address = parse_topic(name)
    if address is None:
        return {"t_us": now_us, "topic": name, "bad": "not a topic of ours", "raw": payload[:64].hex()}
    seen: dict[str, Any] = {"t_us": now_us, "tenant": address.tenant, "node": address.node, "leaf": address.leaf, "bytes": len(payload)}
    match address.leaf:
        case "up":
            return seen | _bundle(decode_bundle(payload))
        case "up/json":
            decoded = decode_json_message(payload, now_us)
            if isinstance(decoded, Rejected):
                return seen | _bad(decoded)
            rows = [_bad(row) if isinstance(row, Rejected) else frame_dict(row[1]) for row in decoded.rows]
            return seen | {"epoch": None if decoded.epoch is None else f"{decoded.epoch:016x}", "first_n": decoded.first_n, "frames": rows}
        case "ack":
            return seen | _ack(decode_ack(payload))
        case "cfg":
            return seen | _config(payload, name)
        case _:
            return seen | _json(payload)


def frame_dict(frame: Frame) -> dict[str, Any]:
    """One frame with its last sample in SI units; absent fields are left out."""
    layout = all_layouts().get(frame.layout)
    shown: dict[str, Any] = {
        "device": frame.device,
        "layout": layout.name if layout else frame.layout,
        "boot": f"{frame.boot:016x}",
        "seq": frame.seq,
        "t0_us": frame.t0_us,
        "utc_us": None if frame.utc_offset_us is None else frame.t0_us + frame.utc_offset_us,
        "clock": Clock(frame.clock).name.lower(),
        "subject": frame.subject,
        "self_numbered": frame.self_numbered,
        "samples": frame.samples,
    }
    if layout is not None:
        last = layout.unpack(frame.records[-layout.size :])[0]
        shown["last"] = {key: round(value, 7) for key, value in last.items() if value is not None}
    return shown


def line(seen: dict[str, Any]) -> list[str]:
    """The message as lines for a person."""
    if "topic" in seen:
        return [f"BAD   {seen['topic']}: {seen['bad']}"]
    head = f"{seen['leaf']:<8} {seen['tenant']}/{seen['node']}"
    if "bad" in seen:
        return [f"{head}  BAD {seen['bad']}: {seen['detail']}  {seen['raw']}"]
    if "frames" in seen:
        epoch = seen["epoch"] or "-"
        rows = [f"    n={seen['first_n'] + i} {_frame_line(row)}" for i, row in enumerate(seen["frames"])]
        missing = seen.get("missing", 0)
        return [
            f"{head}  epoch {epoch} {len(rows)} frames, {seen['bytes']} bytes" + (f", {missing} rows damaged" if missing else ""),
            *rows,
        ]
    if "stored" in seen:
        refused = "".join(f", refused {first}-{last} {reason}" for first, last, reason in seen["refused"])
        return [f"{head}  epoch {seen['epoch']} stored " + (" ".join(f"{a}-{b}" for a, b in seen["stored"]) or "nothing") + refused]
    return [f"{head}  {json.dumps(seen['document'])}"]


def _frame_line(row: dict[str, Any]) -> str:
    if "bad" in row:
        return f"BAD {row['bad']}: {row['detail']}  {row['raw']}"
    last = " ".join(f"{key}={value:g}" for key, value in row.get("last", {}).items() if key != "tick_ms")
    return f"{row['device']} {row['layout']} seq {row['seq']} x{row['samples']} {row['subject'] or '(unbound)'} {row['clock']}  {last}"


def _bad(rejected: Rejected) -> dict[str, Any]:
    return {"bad": str(rejected.reason), "detail": rejected.detail, "raw": rejected.raw[:64].hex()}


def _bundle(decoded: Bundle | Rejected) -> dict[str, Any]:
    if isinstance(decoded, Rejected):
        return _bad(decoded)
    rows: list[dict[str, Any]] = []
    for raw in decoded.rows:
        frame = decode_frame(raw)
        rows.append(_bad(frame) if isinstance(frame, Rejected) else frame_dict(frame))
    return {
        "epoch": f"{decoded.epoch:016x}",
        "first_n": decoded.first_n,
        "count": decoded.count,
        "missing": decoded.count - len(rows),
        "frames": rows,
    }


def _ack(decoded: Ack | Rejected) -> dict[str, Any]:
    if isinstance(decoded, Rejected):
        return _bad(decoded)
    refused = [[r.first, r.last, r.reason] for r in decoded.refused]
    return {"epoch": f"{decoded.epoch:016x}", "stored": [list(pair) for pair in decoded.stored], "refused": refused}


def _config(payload: bytes, name: str) -> dict[str, Any]:
    if not payload:
        return {"document": None}
    try:
        parse_node_config(payload, name)
    except ConfigError as error:
        return {"bad": "bad_config", "detail": error.message, "raw": payload[:64].hex()}
    return _json(payload)


def _json(payload: bytes) -> dict[str, Any]:
    try:
        return {"document": json.loads(payload) if payload else None}
    except ValueError as error:
        return {"bad": "bad_json", "detail": str(error)[:120], "raw": payload[:64].hex()}
