"""Frames, bundles, acks, log records and layouts: round trips, limits, and bad bytes that become counted values, never exceptions."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from itertools import pairwise

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.acks import Ack, Refusal, decode_ack, encode_ack, to_ranges
from broker.bundles import HEADER_BYTES, MAX_N, Bundle, decode_bundle, encode_bundle
from broker.columns import dtype_of, join_records, si_column
from broker.errors import BadInputError, Reason, Rejected
from broker.frames import MAX_FRAME_BYTES, MAX_TIME_US, MAX_U64, Clock, Frame, decode_frame, encode_frame, read_frame, restamp
from broker.ids import is_id, origin_of, route_of, subject_of, subject_tenant
from broker.layouts import all_layouts, layout_named, micropython_source, parse_layouts
from broker.logrecord import Kind, LogRecord, decode_records, encode_records

ids = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True)
u64 = st.integers(0, MAX_U64)
times = st.integers(0, MAX_TIME_US)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    layout = draw(st.sampled_from([*all_layouts().values()]))
    offset = draw(st.none() | st.integers(-MAX_TIME_US, MAX_TIME_US))
    clock = 0 if offset is None else draw(st.integers(1, 4))
    subject = draw(st.just("") | st.builds(lambda t, a: f"{t}/{a}", ids, ids))
    records = draw(st.binary(min_size=layout.size, max_size=layout.size)) * draw(st.integers(1, 20))
    return Frame(layout.id, draw(st.integers(0, 1)), draw(ids), draw(u64), draw(u64), draw(times), offset, clock, subject, records)


@given(frames())
def test_frame_round_trip(frame: Frame) -> None:
    raw = encode_frame(frame)
    assert decode_frame(raw) == frame == read_frame(raw)
    assert len(raw) <= MAX_FRAME_BYTES


@given(frames(), ids, ids)
def test_restamping_changes_only_whom_and_when(frame: Frame, tenant: str, athlete: str) -> None:
    stamped = restamp(frame, subject=subject_of(tenant, athlete), utc_offset_us=5, clock=Clock.NETWORK)
    assert replace(stamped, subject=frame.subject, utc_offset_us=frame.utc_offset_us, clock=frame.clock) == frame


@given(frames(), st.data())
def test_any_damage_to_a_frame_is_a_value(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode_frame(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    assert isinstance(decode_frame(bytes(raw)), Frame | Rejected)
    assert isinstance(read_frame(bytes(raw)), Frame | Rejected)


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_value(raw: bytes) -> None:
    for decoded in (decode_frame(raw), decode_bundle(raw), decode_ack(raw)):
        assert isinstance(decoded, Frame | Bundle | Ack | Rejected)


GOOD = Frame(1, 1, "watch", 7, 0, 0, 0, 2, "gym/anna", bytes(26))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"layout": 0}, Reason.BAD_FRAME),
        ({"layout": 70_000}, Reason.BAD_FRAME),
        ({"flags": 2}, Reason.RESERVED_FLAG),
        ({"flags": True}, Reason.BAD_FRAME),
        ({"device": "Watch"}, Reason.BAD_ID),
        ({"device": "a/b"}, Reason.BAD_ID),
        ({"device": "a" * 33}, Reason.BAD_ID),
        ({"boot": -1}, Reason.BAD_FRAME),
        ({"seq": 1.5}, Reason.BAD_FRAME),
        ({"t0_us": -1}, Reason.BAD_FRAME),
        ({"t0_us": MAX_TIME_US + 1}, Reason.BAD_FRAME),
        ({"utc_offset_us": None}, Reason.BAD_FRAME),
        ({"clock": 0}, Reason.BAD_FRAME),
        ({"clock": 5}, Reason.BAD_FRAME),
        ({"subject": "anna"}, Reason.BAD_ID),
        ({"subject": "gym/@watch"}, Reason.BAD_ID),
        ({"records": b""}, Reason.BAD_RECORDS),
        ({"records": bytes(25)}, Reason.BAD_RECORDS),
        ({"records": bytes(27)}, Reason.BAD_RECORDS),
        ({"records": bytes(26 * 40)}, Reason.OVERSIZED),
    ],
)
def test_each_bad_field_has_its_reason(changed: dict[str, object], reason: Reason) -> None:
    fields = {name: getattr(GOOD, name) for name in Frame.__slots__} | changed
    decoded = decode_frame(msgpack.packb(tuple(fields.values())))
    assert isinstance(decoded, Rejected)
    assert decoded.reason is reason
    with pytest.raises(ValueError, match=reason):
        encode_frame(Frame(**fields))


def test_unknown_layout_is_a_frame() -> None:
    frame = replace(GOOD, layout=999, records=b"whatever")
    assert decode_frame(encode_frame(frame)) == frame
    assert frame.samples is None


def test_bombs_are_refused_by_size_before_they_unfold() -> None:
    deep = b"\x91" * 500 + b"\xc0"
    wide = b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100
    big = b"\xc6\xff\xff\xff\xff"
    for raw in (deep, wide, big, b"\x9a" + big * 10):
        assert isinstance(decode_frame(raw), Rejected)


@given(u64, st.integers(0, MAX_N - 300), st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=60))
def test_bundle_round_trip(epoch: int, first_n: int, rows: list[bytes]) -> None:
    bundle = decode_bundle(encode_bundle(epoch, first_n, rows))
    assert bundle == Bundle(epoch, first_n, len(rows), tuple(rows))


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=10), st.data())
def test_a_damaged_body_keeps_the_header_and_never_invents_rows(rows: list[bytes], data: st.DataObject) -> None:
    message = bytearray(encode_bundle(9, 100, rows))
    at = data.draw(st.integers(HEADER_BYTES, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(HEADER_BYTES, len(message)))
    bundle = decode_bundle(bytes(message[:cut]))
    assert isinstance(bundle, Bundle)
    assert (bundle.epoch, bundle.first_n, bundle.count) == (9, 100, len(rows))
    assert len(bundle.rows) <= bundle.count


@given(st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_damaged_header_is_refused(at: int, flip: int) -> None:
    message = bytearray(encode_bundle(9, 100, [b"row"]))
    message[at] ^= flip
    assert isinstance(decode_bundle(bytes(message)), Rejected)


def test_bundle_limits_are_errors_of_the_sender() -> None:
    for rows in ([], [b"x"] * 256, [b""], [bytes(MAX_FRAME_BYTES + 1)], [bytes(1000)] * 100):
        with pytest.raises(ValueError, match="bundle"):
            encode_bundle(1, 0, rows)


ranges = st.lists(st.tuples(st.integers(0, MAX_N), st.integers(0, MAX_N)).map(lambda r: (min(r), max(r))), max_size=20).map(tuple)


@given(u64, ranges, st.lists(st.tuples(st.integers(0, MAX_N), st.sampled_from(list(Reason))), max_size=5))
def test_ack_round_trip(epoch: int, stored: tuple[tuple[int, int], ...], refused: list[tuple[int, Reason]]) -> None:
    ack = Ack(epoch, stored, tuple(Refusal(n, n, str(reason)) for n, reason in refused))
    assert decode_ack(encode_ack(ack)) == ack


@given(st.lists(st.integers(0, 300), max_size=100))
def test_ranges_cover_exactly_the_numbers(numbers: list[int]) -> None:
    made = to_ranges(numbers)
    assert {n for first, last in made for n in range(first, last + 1)} == set(numbers)
    assert all(b[0] > a[1] + 1 for a, b in pairwise(made))


records = st.builds(
    LogRecord,
    st.sampled_from([Kind.FRAME, Kind.WAKE]),
    st.text(max_size=30),
    ids,
    ids,
    st.integers(0, 1 << 60),
    st.binary(max_size=300),
    st.integers(0, 0xFFFF),
)


@given(st.lists(records, max_size=20))
def test_log_records_round_trip(batch: list[LogRecord]) -> None:
    assert decode_records(encode_records(batch)) == batch


@given(st.lists(records, min_size=1, max_size=5), st.data())
def test_torn_log_records_are_an_error(batch: list[LogRecord], data: st.DataObject) -> None:
    raw = encode_records(batch)
    cut = data.draw(st.integers(1, len(raw) - 1))
    try:
        assert decode_records(raw[:cut]) == batch[: len(decode_records(raw[:cut]))]
    except ValueError:
        return


@given(ids, ids, ids)
def test_routes_of_bound_and_unbound_devices_never_meet(tenant: str, node: str, device: str) -> None:
    bound = route_of(tenant, node, device, subject_of(tenant, device), self_numbered=True)
    own, dumb = (route_of(tenant, node, device, "", self_numbered=flag) for flag in (True, False))
    assert len({bound, own, dumb}) == 3
    assert subject_tenant(bound) == tenant
    assert subject_tenant(own) is None
    assert origin_of(tenant, node, device, self_numbered=True) != origin_of(tenant, node, device, self_numbered=False)


@pytest.mark.parametrize("text", ["", "A", "-a", "a b", "a/b", "a+", "a#", "é", "a" * 33, "@a", "a\n"])
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize("layout", all_layouts().values(), ids=lambda layout: layout.name)
def test_numpy_and_micropython_read_what_struct_writes(layout) -> None:
    rng = np.random.default_rng(layout.id)
    raw = rng.bytes(layout.size * 50)
    columns = join_records(layout.id, [raw[: layout.size * 20], raw[layout.size * 20 :]])
    rows = [tuple(int(v) for v in row) for row in columns.tolist()]
    assert rows == list(layout.record.iter_unpack(raw))
    namespace: dict[str, dict[int, tuple]] = {}
    exec(micropython_source(), namespace)
    name, form, size, fields = namespace["LAYOUTS"][layout.id]
    assert (name, struct.calcsize(form), size) == (layout.name, layout.size, dtype_of(layout.id).itemsize)
    for field_name, position, code, absent, scale, offset in fields:
        field = layout.field(field_name)
        assert (absent, scale, offset) == (field.absent, field.scale, field.offset)
        assert struct.unpack_from("<" + code, raw, position)[0] == rows[0][[f.name for f in layout.fields].index(field_name)]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_values_that_do_not_fit_are_absent(value: float) -> None:
    motion = layout_named("motion.1")
    [row] = motion.unpack(motion.pack({"tick_ms": 0, "speed_mps": value, "altitude_m": value, "lat": value}))
    for name, step in (("speed_mps", 0.01), ("altitude_m", 0.2), ("lat", 1e-7)):
        got = row[name]
        assert got is None or math.isclose(got, value, abs_tol=step)
    records_si = join_records(motion.id, [motion.pack({"tick_ms": 0, "speed_mps": value})])
    si = si_column(motion, records_si, "speed_mps")[0]
    assert math.isnan(si) if row["speed_mps"] is None else si == pytest.approx(row["speed_mps"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layouts: []\nextra: 1", "extra"),
        ("layouts:\n- {id: 1, name: a, about: b, fields: [{name: x, type: u16, unit: s}]}", "tick_ms"),
        ("layouts:\n- {id: 0, name: a, about: b, fields: [{name: tick_ms, type: u16, unit: ms}]}", "id 0"),
        ("layouts:\n- {id: 1, name: a, about: b, fields: [{name: tick_ms, type: u17, unit: ms}]}", "unknown type"),
        ("layouts:\n- {id: 1, name: a, about: b, fields: [{name: tick_ms, type: u16, unit: ms, scale: 0}]}", "scale"),
        ("layouts: {", "layouts.yaml"),
    ],
)
def test_a_bad_layout_file_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        parse_layouts(text, "layouts.yaml")
    assert "layouts.yaml" in str(caught.value)
    assert caught.value.cure
