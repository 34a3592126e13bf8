"""The fleet's bundle mill: blocks of packets that decode to exactly the frames its arithmetic says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.bundles import decode_bundle
from broker.errors import BadInputError
from broker.frames import decode_frame
from broker.layouts import layout_named
from broker.mqtt_codec import PacketParser
from simulators.mill import BundleMill, FleetSettings

START = 1_700_000_000_000_000


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 40), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_blocks_are_the_frames_of_the_arithmetic(per_bundle, per_frame, devices, blocks):
    load = FleetSettings("h", 1, "gym", "x", devices=devices, frames_per_bundle=per_bundle, samples_per_frame=per_frame, window=1000)
    mill, stream = BundleMill(load, 2, START), b""
    for messages in blocks:
        stream += mill.block(messages)
    assert len(stream) == sum(blocks) * mill.message_bytes
    n = 0
    for pid, event in enumerate(PacketParser().feed(stream), 1):
        assert (event.topic, event.qos, event.pid) == ("pl/1/gym/load002/up", 1, pid)
        bundle = decode_bundle(event.payload)
        assert bundle.complete
        assert (bundle.epoch, bundle.first_n, bundle.count) == (mill.epoch, n, per_bundle)
        for raw in bundle.rows:
            frame = decode_frame(raw)
            assert mill.frame_key(n) == (f"gym/{frame.device}", frame.boot, frame.seq)
            assert frame.self_numbered
            first = frame.seq * per_frame
            assert frame.t0_us + frame.utc_offset_us == START + n * per_frame * 1_000_000 // devices
            assert frame.subject == f"gym/{frame.device}"
            rows = layout_named("motion.1").unpack(frame.records)
            assert [row["distance_m"] for row in rows] == pytest.approx([3.0 * (first + k) for k in range(per_frame)])
            assert [row["tick_ms"] for row in rows] == [1000 * k for k in range(per_frame)]
            n += 1
    assert n == mill.next_n == sum(blocks) * per_bundle


def test_far_rows_keep_position_on_earth_and_packet_ids_valid():
    mill = BundleMill(FleetSettings("h", 1, "gym", "x", devices=1, frames_per_bundle=1, samples_per_frame=1), 0, START)
    mill.next_n = (1 << 32) + 5
    events = PacketParser().feed(b"".join(mill.block(30_000) for _ in range(3)))
    assert len(events) == 90_000
    assert [e.pid for e in events[65_533:65_537]] == [65_534, 65_535, 1, 2]
    bundle = decode_bundle(events[-1].payload)
    assert bundle.first_n == (1 << 32) + 5 + 89_999
    (row,) = layout_named("motion.1").unpack(decode_frame(bundle.rows[0]).records)
    assert 45.0 <= row["lat"] <= 45.06


@pytest.mark.parametrize(
    "bad", [{"connections": 0}, {"samples_per_frame": 40}, {"frames_per_bundle": 256}, {"window": 1}, {"frames_per_bundle": 100}]
)
def test_loads_that_do_not_fit_are_refused_by_field(bad):
    with pytest.raises(BadInputError, match=next(iter(bad))) as caught:
        FleetSettings("h", 1, "gym", "x", **bad)
    assert caught.value.cure
