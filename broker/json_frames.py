"""The JSON form of frames on `up/json`, for makers who start simple. Converted to the same frame bytes, checked by the same rules.

A message is one frame object or a list of them (consecutive rows), at most 64 KB and 255 frames, strict JSON in UTF-8 without NaN:

| key | type | rule |
|---|---|---|
| `device` | string | required; an id (1-32 of `a-z 0-9 . _ -`). The device numbers its own frames, so it is the origin |
| `boot` | "hex" of 1-16 digits, or integer | required; a random number drawn whenever numbering starts again |
| `seq` | integer >= 0 | required; +1 a frame. The same (device, boot, seq) counts once, however often it is sent |
| `samples` | list of objects | required, 1 or more. SI values by field name; absent = left out or null; enums by name or number |
| `layout` | string | default `motion.1` |
| `subject` | string | `tenant/athlete` it counts for; default: the device itself |
| `t0_us`, `utc_us` | integers | microseconds on the device's own clock, and the UTC time of that same instant |
| `clock` | string | `set` (default), `network`, `gnss` or `recorded`: how far `utc_us` can be trusted |
| `epoch`, `n` | "hex" of 16 digits, integer | both or neither: row `n` of the sender's spool `epoch`. Only then an ack is sent |

`boot` and `seq` are required because without them nothing could tell a repeat. In a list, `epoch` and `n` stand in the first frame and
row i is `n + i`. `tick_ms` of a sample is milliseconds after t0; it may be left out of a frame with one sample (0). Time: `utc_us` alone
dates the frame; `t0_us` alone leaves it undated; neither dates it at its arrival. A value that does not fit is refused, not dropped.
The least message:
`mosquitto_pub ... -q 1 -t pl/1/gym/ann/up/json -m '{"device":"ann","boot":1,"seq":'$(date +%s)',"samples":[{"hr_bpm":140}]}'`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, NoReturn, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.bundles import MAX_N, MAX_ROWS
from broker.errors import BadInputError, Reason, Rejected
from broker.frames import MAX_FRAME_BYTES, MAX_TIME_US, MAX_U64, SELF_NUMBERED, Clock, Frame, encode_frame
from broker.ids import is_id, subject_tenant
from broker.layouts import Field as LayoutField
from broker.layouts import Layout, all_layouts, layout_named

MAX_JSON_BYTES: Final = 64 * 1024
_CLOCKS: Final = {"set": Clock.SET, "network": Clock.NETWORK, "gnss": Clock.GNSS, "recorded": Clock.RECORDED}

Value = float | int | str | None
_Time = Annotated[int, Field(ge=0, le=MAX_TIME_US)]


class _FrameModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    device: str
    boot: Annotated[str, Field(pattern=r"^[0-9a-f]{1,16}$")] | Annotated[int, Field(ge=0, le=MAX_U64)]
    seq: int = Field(ge=0, le=MAX_U64)
    samples: list[dict[str, Value]] = Field(min_length=1, max_length=MAX_FRAME_BYTES)
    layout: str = "motion.1"
    subject: str = ""
    t0_us: _Time | None = None
    utc_us: _Time | None = None
    clock: Literal["set", "network", "gnss", "recorded"] = "set"
    epoch: str | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class JsonMessage:
    """The rows of one message: the bytes and the decoded form of a frame, or why it was refused. `epoch` is None when no ack is wanted."""

    epoch: int | None
    first_n: int
    rows: tuple[tuple[bytes, Frame] | Rejected, ...]


def decode_json_message(raw: bytes, now_us: int) -> JsonMessage | Rejected:
    """Check and convert one message that arrived at `now_us` (UTC).

    Only a message that is no JSON or whose rows cannot be numbered is Rejected whole.
    """
    if len(raw) > MAX_JSON_BYTES:
        return Rejected(Reason.OVERSIZED, f"message of {len(raw)} bytes, at most {MAX_JSON_BYTES}", raw)
    try:
        parsed: object = json.loads(raw.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Rejected(Reason.BAD_JSON, f"not JSON: {str(error)[:120]}", raw)
    items: list[object] = parsed if isinstance(parsed, list) else [parsed]  # pyright: ignore[reportUnknownVariableType]
    if not 1 <= len(items) <= MAX_ROWS:
        return Rejected(Reason.BAD_JSON, f"{len(items)} frames in a message, 1 to {MAX_ROWS} are allowed", raw)
    numbering = _numbering(items)
    if isinstance(numbering, str):
        return Rejected(Reason.BAD_JSON, numbering, raw)
    epoch, first_n = numbering
    return JsonMessage(epoch, first_n, tuple(_row(item, now_us) for item in items))


def encode_json_message(frames: Sequence[Frame], epoch: int | None = None, first_n: int = 0) -> bytes:
    """The message of frames of known layouts that numbered themselves. ValueError for one that did not, or with clock UNKNOWN and no t0."""
    items = [_item(frame) for frame in frames]
    if epoch is not None:
        items[0] |= {"epoch": f"{epoch:016x}", "n": first_n}
    return json.dumps(items if len(items) > 1 else items[0], separators=(",", ":"), allow_nan=False).encode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _numbering(items: Sequence[object]) -> tuple[int | None, int] | str:
    """Epoch and first row of a message, or what is wrong with them. Later frames may repeat them, consistently."""
    epoch: int | None = None
    first_n = 0
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            continue  # refused as a row
        known = cast("dict[str, object]", item)
        text, n = known.get("epoch"), known.get("n")
        if text is None and n is None:
            continue
        if not isinstance(text, str) or len(text) != 16 or not set(text) <= set("0123456789abcdef"):
            return f"frame {i}: epoch: 16 hex digits are needed beside n"
        if type(n) is not int or not 0 <= n <= MAX_N - MAX_ROWS:
            return f"frame {i}: n: a row number is needed beside epoch"
        if i == 0:
            epoch, first_n = int(text, 16), n
        elif (int(text, 16), n) != (epoch, first_n + i):
            return f"frame {i}: epoch and n must stand in the first frame and go on from there"
    return epoch, first_n


def _row(item: object, now_us: int) -> tuple[bytes, Frame] | Rejected:
    try:
        return _convert(_FrameModel.model_validate(item), now_us)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "frame"
        return _refused(Reason.BAD_JSON, f"{where}: {first['msg']}"[:200], item)
    except BadInputError as error:
        return _refused(Reason.BAD_JSON, error.message[:200], item)
    except _RefusedError as error:
        return _refused(error.reason, str(error), item)


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _refused(reason: Reason, detail: str, item: object) -> Rejected:
    try:
        raw = json.dumps(item, separators=(",", ":")).encode()
    except RecursionError:
        raw = b""
    return Rejected(reason, detail.encode("utf-8", "backslashreplace").decode(), raw)


def _convert(model: _FrameModel, now_us: int) -> tuple[bytes, Frame]:
    layout = layout_named(model.layout)
    if not is_id(model.device):
        raise _RefusedError(Reason.BAD_ID, f"device {model.device[:40]!r}: use 1-32 of a-z 0-9 . _ -")
    if model.subject and subject_tenant(model.subject) is None:
        raise _RefusedError(Reason.BAD_ID, f"subject {model.subject[:80]!r}: give tenant/athlete or leave it out")
    if len(model.samples) * layout.size > MAX_FRAME_BYTES - 100:
        most = (MAX_FRAME_BYTES - 100) // layout.size
        raise _RefusedError(Reason.OVERSIZED, f"{len(model.samples)} samples, at most {most} of {layout.name} fit a frame")
    records = b"".join(_record(layout, sample, i, alone=len(model.samples) == 1) for i, sample in enumerate(model.samples))
    t0_us, offset_us, clock = _dated(model, now_us)
    boot = int(model.boot, 16) if isinstance(model.boot, str) else model.boot
    frame = Frame(layout.id, SELF_NUMBERED, model.device, boot, model.seq, t0_us, offset_us, clock, model.subject, records)
    try:
        return encode_frame(frame), frame
    except ValueError as error:
        raise _RefusedError(Reason.BAD_FRAME, str(error)[:200]) from error


def _dated(model: _FrameModel, now_us: int) -> tuple[int, int | None, int]:
    """t0_us, utc_offset_us and clock quality of a frame."""
    if model.utc_us is not None:
        t0_us = model.utc_us if model.t0_us is None else model.t0_us
        return t0_us, model.utc_us - t0_us, int(_CLOCKS[model.clock])
    if model.t0_us is not None:
        return model.t0_us, None, int(Clock.UNKNOWN)
    return now_us, 0, int(Clock.SET)


def _record(layout: Layout, sample: Mapping[str, Value], index: int, *, alone: bool) -> bytes:
    names = {field.name for field in layout.fields}
    unknown = sample.keys() - names
    if unknown:
        raise _RefusedError(Reason.BAD_JSON, f"samples.{index}: layout {layout.name} has no field {min(unknown)[:40]!r}")
    values = {"tick_ms": 0, **sample} if alone else sample
    return layout.record.pack(*(_raw(field, values.get(field.name), f"samples.{index}.{field.name}") for field in layout.fields))


def _raw(field: LayoutField, value: Value, where: str) -> int:
    """The raw value, exact for 64-bit integers. Refuses what does not fit, because a maker should hear of it."""
    if value is None:
        if field.absent is None:
            raise _RefusedError(Reason.BAD_JSON, f"{where}: is needed")
        return field.absent
    if isinstance(value, str):
        named = [raw for raw, name in (field.values or {}).items() if name == value]
        if not named:
            raise _RefusedError(Reason.BAD_JSON, f"{where}: {value[:40]!r} is not a value of this field")
        return named[0]
    exact = isinstance(value, int) and field.scale == 1 and field.offset == 0
    low, high = field.limits
    if not exact and abs(value) > 1e18:
        raise _RefusedError(Reason.BAD_JSON, f"{where}: does not fit the field")
    raw = int(value) if exact else round((value - field.offset) / field.scale)
    if not low <= raw <= high or raw == field.absent:
        text = f"{value!r}"[:40]
        raise _RefusedError(
            Reason.BAD_JSON, f"{where}: {text} is outside {low * field.scale + field.offset:g}..{high * field.scale + field.offset:g}"
        )
    return raw


def _item(frame: Frame) -> dict[str, object]:
    layout = all_layouts().get(frame.layout)
    if layout is None or not frame.self_numbered:
        raise ValueError(f"frame of {frame.device!r} has no JSON form: it needs a known layout and its own numbering")
    samples: list[dict[str, float | int]] = []
    for row in layout.record.iter_unpack(frame.records):
        present = ((f, raw) for f, raw in zip(layout.fields, row, strict=True) if raw != f.absent)
        samples.append({f.name: raw if f.scale == 1 and f.offset == 0 else raw * f.scale + f.offset for f, raw in present})
    item: dict[str, object] = {
        "device": frame.device,
        "boot": f"{frame.boot:016x}",
        "seq": frame.seq,
        "t0_us": frame.t0_us,
        "layout": layout.name,
        "samples": samples,
    }
    if frame.subject:
        item["subject"] = frame.subject
    if frame.utc_offset_us is not None:
        item |= {"utc_us": frame.t0_us + frame.utc_offset_us, "clock": Clock(frame.clock).name.lower()}
    return item
