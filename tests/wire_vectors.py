"""The golden vectors of the wire, good and bad, as the code makes them. Integers of 64 bits are strings: JSON numbers do not hold them."""

from __future__ import annotations

import json
from typing import Any

import msgpack

from broker.acks import Ack, Refusal, encode_ack, encode_ack_json
from broker.bundles import encode_bundle
from broker.frames import MAX_TIME_US, SELF_NUMBERED, Clock, Frame, decode_frame, encode_frame
from broker.json_frames import JsonMessage, decode_json_message
from broker.layouts import all_layouts, layout_named

JSON_NOW_US = 1_800_000_000_000_000
U64 = (1 << 64) - 1
MOTION = layout_named("motion.1")
FULL = MOTION.pack(
    {"tick_ms": 0, "lat": 46.5, "lon": 7.25, "altitude_m": 560.2, "altitude_source": 1, "accuracy_m": 3.5, "speed_mps": 8.33, "heading_deg": 271.5,
     "distance_m": 1234.56, "hr_bpm": 141, "cadence_rpm": 90, "power_w": 250}
)  # fmt: skip
EMPTY = MOTION.pack({"tick_ms": 250})


def frame(**changes: Any) -> Frame:
    fields: dict[str, Any] = {
        "layout": MOTION.id, "flags": SELF_NUMBERED, "device": "watch-7", "boot": 0x0123456789ABCDEF, "seq": 42, "t0_us": 5_000_000,
        "utc_offset_us": JSON_NOW_US - 5_000_000, "clock": int(Clock.NETWORK), "subject": "gym/ann", "records": FULL,
    }  # fmt: skip
    return Frame(**(fields | changes))


GOOD_FRAMES = {
    "one full sample": frame(),
    "two samples, the second with nothing but its tick": frame(records=FULL + EMPTY),
    "undated": frame(utc_offset_us=None, clock=int(Clock.UNKNOWN)),
    "numbered by its node, not bound to anybody": frame(flags=0, device="hr-1", subject=""),
    "largest numbers": frame(boot=U64, seq=U64, t0_us=MAX_TIME_US, utc_offset_us=-MAX_TIME_US, clock=int(Clock.RECORDED)),
    "smallest numbers": frame(boot=0, seq=0, t0_us=0, utc_offset_us=0),
    "unknown layout": frame(layout=999, records=b"\x01\x02\x03"),
    **{f"absent fields of {lay.name}": frame(layout=lay.id, records=lay.pack(dict.fromkeys((f.name for f in lay.fields if f.absent is None), 0)))
       for lay in all_layouts().values()},
}  # fmt: skip


def raw(**changes: Any) -> bytes:
    """A frame array that the codec would not write."""
    f = frame()
    fields: dict[str, Any] = {name: getattr(f, name) for name in f.__slots__}
    return msgpack.packb(tuple((fields | changes).values()))


BAD_FRAMES: dict[str, tuple[bytes, str]] = {
    "not msgpack": (b"\xc1\xc1", "bad_frame"),
    "nothing": (b"", "bad_frame"),
    "nine elements": (msgpack.packb(tuple(range(9))), "bad_frame"),
    "bytes after the array": (encode_frame(frame()) + b"\x00", "bad_frame"),
    "device is a number": (raw(device=7), "bad_frame"),
    "layout 0": (raw(layout=0), "bad_frame"),
    "negative seq": (raw(seq=-1), "bad_frame"),
    "clock 5": (raw(clock=5), "bad_frame"),
    "clock 0 with an offset": (raw(clock=0), "bad_frame"),
    "no offset with clock 2": (raw(utc_offset_us=None), "bad_frame"),
    "seq is true": (raw(seq=True), "bad_frame"),
    "flag bit 1": (raw(flags=2), "reserved_flag"),
    "device with a capital": (raw(device="Watch"), "bad_id"),
    "device of 33 characters": (raw(device="a" * 33), "bad_id"),
    "subject without a tenant": (raw(subject="ann"), "bad_id"),
    "no record": (raw(records=b""), "bad_records"),
    "half a record": (raw(records=FULL[:-1]), "bad_records"),
    "1,025 bytes": (raw(layout=999, records=b"\0" * (1025 - len(raw(layout=999, records=b"")) - 1)), "oversized"),
}


def _fields(f: Frame) -> dict[str, Any]:
    wide = {"boot": f"{f.boot:016x}", "seq": str(f.seq), "t0_us": str(f.t0_us), "records": f.records.hex()}
    offset = None if f.utc_offset_us is None else str(f.utc_offset_us)
    return {
        "layout": f.layout,
        "flags": f.flags,
        "device": f.device,
        "clock": f.clock,
        "subject": f.subject,
        "utc_offset_us": offset,
    } | wide


def frames() -> dict[str, Any]:
    good = [{"about": about, "hex": encode_frame(f).hex(), "fields": _fields(f), "samples": f.samples} for about, f in GOOD_FRAMES.items()]
    bad = [{"about": about, "hex": body.hex(), "reason": reason} for about, (body, reason) in BAD_FRAMES.items()]
    return {"good": good, "bad": bad}


def bundles() -> dict[str, Any]:
    rows = [encode_frame(frame(seq=seq)) for seq in range(3)]
    cases = {
        "one row": (1, 0, rows[:1]),
        "three rows": (0xFEDCBA9876543210, 0x0000_1234_5678, rows),
        "largest first row": (U64, (1 << 48) - 2, rows[:1]),
    }
    good = [
        {
            "about": about,
            "hex": encode_bundle(epoch, n, kept).hex(),
            "epoch": f"{epoch:016x}",
            "first_n": n,
            "count": len(kept),
            "rows": [r.hex() for r in kept],
        }
        for about, (epoch, n, kept) in cases.items()
    ]
    whole = encode_bundle(1, 0, rows)
    bad = {
        "magic": (b"\xb2" + whole[1:], "bad_bundle"),
        "header shorter than 20 bytes": (whole[:19], "bad_bundle"),
        "header CRC": (whole[:16] + bytes(4) + whole[20:], "bad_bundle"),
        "a byte of the epoch flipped": (whole[:8] + bytes([whole[8] ^ 1]) + whole[9:], "bad_bundle"),
        "65,537 bytes": (whole + bytes(65_537 - len(whole)), "oversized"),
        "last row cut": (whole[:-5], "damaged_body"),
        "a byte after the last row": (whole + b"\0", "damaged_body"),
    }
    return {
        "good": good,
        "bad": [{"about": a, "hex": body.hex(), "reason": reason} for a, (body, reason) in bad.items() if len(body) < 2000],
    }


def acks() -> dict[str, Any]:
    cases = {
        "three rows stored": Ack(1, ((0, 2),)),
        "two ranges and a refusal": Ack(0xFEDCBA9876543210, ((0, 2), (4, 9)), (Refusal(3, 3, "bad_records"),)),
        "nothing but a refusal": Ack(U64, (), (Refusal((1 << 48) - 1, (1 << 48) - 1, "oversized"),)),
    }
    good = [{"about": about, "hex": encode_ack(ack).hex(), "json": json.loads(encode_ack_json(ack))} for about, ack in cases.items()]
    bad = {
        "version 2": msgpack.packb((2, 1, (), ())),
        "range upside down": msgpack.packb((1, 1, ((3, 2),), ())),
        "negative epoch": msgpack.packb((1, -1, (), ())),
        "refusal without a reason": msgpack.packb((1, 1, (), ((1, 1),))),
        "row beyond 48 bits": msgpack.packb((1, 1, ((0, 1 << 48),), ())),
        "not msgpack": b"\xc1",
    }
    return {"good": good, "bad": [{"about": about, "hex": body.hex(), "reason": "bad_frame"} for about, body in bad.items()]}


LEAST = {"device": "ann", "boot": "1", "seq": 7, "samples": [{"hr_bpm": 140}]}
GOOD_JSON: dict[str, Any] = {
    "the least message": LEAST,
    "everything": {
        "device": "ann", "boot": "0123456789abcdef", "seq": 0, "layout": "motion.1", "subject": "gym/ann", "t0_us": 5_000_000,
        "utc_us": JSON_NOW_US, "clock": "gnss", "epoch": "fedcba9876543210", "n": 12,
        "samples": [{"tick_ms": 0, "lat": 46.5, "lon": 7.25, "speed_mps": 8.33}, {"tick_ms": 1000, "altitude_source": "barometer"}],
    },
    "a list": [LEAST | {"epoch": f"{1:016x}", "n": 0}, LEAST | {"seq": 8}],
    "undated": LEAST | {"t0_us": 1},
}  # fmt: skip
BAD_JSON: dict[str, tuple[Any, str]] = {
    "not an object": (7, "bad_json"),
    "unknown key": (LEAST | {"pulse": 1}, "bad_json"),
    "unknown field": (LEAST | {"samples": [{"pulse": 1}]}, "bad_json"),
    "no sample": (LEAST | {"samples": []}, "bad_json"),
    "value that does not fit": (LEAST | {"samples": [{"hr_bpm": 300}]}, "bad_json"),
    "unknown layout": (LEAST | {"layout": "motion.9"}, "bad_json"),
    "two samples without ticks": (LEAST | {"samples": [{"hr_bpm": 1}, {"hr_bpm": 2}]}, "bad_json"),
    "epoch without n": (LEAST | {"epoch": f"{1:016x}"}, "bad_json"),
    "device that is no id": (LEAST | {"device": "Ann"}, "bad_id"),
    "subject without a tenant": (LEAST | {"subject": "ann"}, "bad_id"),
}


def json_messages() -> dict[str, Any]:
    good: list[dict[str, Any]] = []
    for about, message in GOOD_JSON.items():
        text = json.dumps(message)
        decoded = decode_json_message(text.encode(), JSON_NOW_US)
        assert isinstance(decoded, JsonMessage), about
        rows = [row[0] for row in decoded.rows if isinstance(row, tuple)]
        assert len(rows) == len(decoded.rows), (about, decoded)
        assert all(isinstance(decode_frame(body), Frame) for body in rows)
        epoch = None if decoded.epoch is None else f"{decoded.epoch:016x}"
        good.append({"about": about, "text": text, "epoch": epoch, "first_n": decoded.first_n, "frames": [body.hex() for body in rows]})
    bad = [{"about": about, "text": json.dumps(message), "reason": reason} for about, (message, reason) in BAD_JSON.items()]
    bad.append({"about": "NaN", "text": '{"device":"ann","boot":1,"seq":1,"samples":[{"hr_bpm":NaN}]}', "reason": "bad_json"})
    return {"arrived_us": JSON_NOW_US, "good": good, "bad": bad}


def layouts() -> dict[str, Any]:
    """Each layout with one record of absent values and one of small raw values 1, 2, 3, ... and what they mean."""
    found: list[dict[str, Any]] = []
    for layout in all_layouts().values():
        counted = layout.record.pack(*range(1, len(layout.fields) + 1))
        absent = layout.record.pack(*(0 if f.absent is None else f.absent for f in layout.fields))
        found.append(
            {
                "id": layout.id,
                "name": layout.name,
                "size": layout.size,
                "records": [{"hex": body.hex(), "si": layout.unpack(body)[0]} for body in (counted, absent)],
            }
        )
    return {"good": found}


def all_vectors() -> dict[str, dict[str, Any]]:
    """File name to content."""
    return {"layouts": layouts(), "frames": frames(), "bundles": bundles(), "acks": acks(), "json": json_messages()}
