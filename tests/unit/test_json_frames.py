"""The JSON form: what it means in frame bytes, and what it refuses, with the field named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import Reason, Rejected
from broker.frames import SELF_NUMBERED, Clock, Frame, decode_frame
from broker.json_frames import MAX_JSON_BYTES, JsonMessage, decode_json_message, encode_json_message
from broker.layouts import all_layouts, layout_named

NOW_US = 1_790_000_000_000_000
LEAST = {"device": "ann", "boot": 1, "seq": 7, "samples": [{"hr_bpm": 140}]}


def decoded(document):
    return decode_json_message(document if isinstance(document, bytes) else json.dumps(document).encode(), NOW_US)


def only(document):
    message = decoded(document)
    assert isinstance(message, JsonMessage), message
    [row] = message.rows
    return row


def test_least_message_is_one_frame_dated_at_its_arrival_without_ack():
    message = decoded(LEAST)
    assert message.epoch is None
    [(raw, frame)] = message.rows
    assert decode_frame(raw) == frame
    assert (frame.device, frame.boot, frame.seq, frame.flags) == ("ann", 1, 7, SELF_NUMBERED)
    assert (frame.t0_us, frame.utc_offset_us, frame.clock) == (NOW_US, 0, Clock.SET)
    [sample] = layout_named("motion.1").unpack(frame.records)
    assert {k: v for k, v in sample.items() if v is not None} == {"tick_ms": 0, "hr_bpm": 140}


@pytest.mark.parametrize(
    ("given_time", "t0_us", "offset_us", "clock"),
    [
        ({"utc_us": 5_000}, 5_000, 0, Clock.SET),
        ({"t0_us": 300}, 300, None, Clock.UNKNOWN),
        ({"t0_us": 300, "utc_us": 5_000, "clock": "gnss"}, 300, 4_700, Clock.GNSS),
        ({"t0_us": 300, "utc_us": 100, "clock": "recorded"}, 300, -200, Clock.RECORDED),
    ],
)
def test_time_keys_date_the_frame(given_time, t0_us, offset_us, clock):
    _, frame = only(LEAST | given_time)
    assert (frame.t0_us, frame.utc_offset_us, frame.clock) == (t0_us, offset_us, clock)


def test_list_numbers_its_rows_from_the_first_and_a_bad_row_costs_only_itself():
    rows = [LEAST | {"epoch": "00000000000000ff", "n": 40}, {"device": "ann"}, LEAST | {"seq": 9}]
    message = decoded(rows)
    assert (message.epoch, message.first_n) == (255, 40)
    assert [isinstance(row, Rejected) for row in message.rows] == [False, True, False]


def test_enums_are_given_by_name_or_number():
    machine = LEAST | {"layout": "machine.1", "samples": [{"tick_ms": 0, "kind": "rower"}, {"tick_ms": 5, "kind": 6}]}
    _, frame = only(machine)
    assert [s["kind"] for s in layout_named("machine.1").unpack(frame.records)] == [5, 6]


def test_credential_of_64_bits_is_exact():
    _, frame = only(LEAST | {"layout": "presence.1", "samples": [{"event": "gate", "credential": (1 << 64) - 3}]})
    assert layout_named("presence.1").record.unpack(frame.records)[3] == (1 << 64) - 3


@pytest.mark.parametrize(
    ("change", "reason", "named"),
    [
        ({"samples": [{"hr_bpm": 1400}]}, Reason.BAD_JSON, "samples.0.hr_bpm"),
        ({"samples": [{"hr_bpm": 255}]}, Reason.BAD_JSON, "hr_bpm"),
        ({"samples": [{"hr_bpm": "fast"}]}, Reason.BAD_JSON, "hr_bpm"),
        ({"samples": [{"hr_bpm": True}]}, Reason.BAD_JSON, "hr_bpm"),
        ({"samples": [{"heart": 1}]}, Reason.BAD_JSON, "heart"),
        ({"samples": [{"hr_bpm": 1}, {"hr_bpm": 2}]}, Reason.BAD_JSON, "tick_ms"),
        ({"samples": []}, Reason.BAD_JSON, "samples"),
        ({"samples": [{"speed_mps": 1e300}]}, Reason.BAD_JSON, "speed_mps"),
        ({"samples": [{"tick_ms": t, "hr_bpm": 99} for t in range(100)]}, Reason.OVERSIZED, "100 samples"),
        ({"layout": "motion.99"}, Reason.BAD_JSON, "motion.99"),
        ({"device": "Ann!"}, Reason.BAD_ID, "device"),
        ({"subject": "no-tenant"}, Reason.BAD_ID, "subject"),
        ({"boot": -1}, Reason.BAD_JSON, "boot"),
        ({"boot": "xyz"}, Reason.BAD_JSON, "boot"),
        ({"seq": None}, Reason.BAD_JSON, "seq"),
        ({"seq": 1 << 64}, Reason.BAD_JSON, "seq"),
        ({"utc_us": -1}, Reason.BAD_JSON, "utc_us"),
        ({"colour": "red"}, Reason.BAD_JSON, "colour"),
    ],
)
def test_bad_field_is_refused_and_named(change, reason, named):
    row = only(LEAST | change)
    assert isinstance(row, Rejected)
    assert row.reason == reason
    assert named in row.detail
    assert json.loads(row.raw) == LEAST | change


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_that_is_no_number_is_refused(text):
    raw = json.dumps(LEAST).replace("140", text).encode()
    message = decoded(raw)
    refused = message if isinstance(message, Rejected) else message.rows[0]
    assert refused.reason == Reason.BAD_JSON


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b"[]", b"[" * 60_000, b'{"a":' * 12_000, json.dumps([LEAST] * 256).encode(), b"1" * 5000],
    ids=["empty", "torn", "not-utf8", "no-frame", "deep-list", "deep-map", "256-frames", "huge-number"],
)
def test_message_that_is_no_list_of_frames_is_refused_whole(raw):
    assert decoded(raw).reason == Reason.BAD_JSON


def test_message_beyond_64_kb_is_oversized():
    assert decoded(b" " * (MAX_JSON_BYTES + 1)).reason == Reason.OVERSIZED


@pytest.mark.parametrize(
    "numbering",
    [
        [{"epoch": "ff", "n": 1}],
        [{"epoch": "00000000000000FF", "n": 1}],
        [{"n": 1}],
        [{"epoch": "00000000000000ff"}],
        [{"epoch": "00000000000000ff", "n": -1}],
        [{"epoch": "00000000000000ff", "n": True}],
        [{"epoch": "00000000000000ff", "n": 1}, {"epoch": "00000000000000ff", "n": 3}],
        [{}, {"epoch": "00000000000000ff", "n": 3}],
    ],
)
def test_rows_that_cannot_be_numbered_refuse_the_message(numbering):
    message = decoded([LEAST | keys for keys in numbering])
    assert isinstance(message, Rejected)
    assert message.reason == Reason.BAD_JSON


@st.composite
def frames(draw):
    layout = draw(st.sampled_from(list(all_layouts().values())))
    count = draw(st.integers(1, 5))
    values = [
        [
            draw(st.integers(*f.limits)) if f.values is None else draw(st.sampled_from([*f.values, *([f.absent] if f.absent else [])]))
            for f in layout.fields
        ]
        for _ in range(count)
    ]
    clock = draw(st.sampled_from(Clock))
    return Frame(
        layout.id,
        SELF_NUMBERED,
        draw(st.sampled_from(["a", "strap-7"])),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 2**50)),
        None if clock == Clock.UNKNOWN else draw(st.integers(0, 2**50)),
        int(clock),
        draw(st.sampled_from(["", "gym/ann"])),
        b"".join(layout.record.pack(*row) for row in values),
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(frames(), min_size=1, max_size=4), st.none() | st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_every_frame_of_a_known_layout_round_trips(sent, epoch, n):
    message = decode_json_message(encode_json_message(sent, epoch, n), NOW_US)
    assert isinstance(message, JsonMessage), message
    assert [row[1] if isinstance(row, tuple) else row for row in message.rows] == sent
    assert (message.epoch, message.first_n) == (epoch, n if epoch is not None else 0)
