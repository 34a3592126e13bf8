"""Simulated devices without sockets: numbering, clocks, faults, and nothing owed ever forgotten."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.acks import Ack, encode_ack
from broker.bundles import decode_bundle
from broker.errors import BadInputError
from broker.frames import Clock, Frame, decode_frame
from simulators.course import synthetic_loop
from simulators.device import NodeSettings, SimDevice, SimNode
from simulators.faults import KNOWN, FaultPlan, parse_faults
from simulators.gym import GymSettings, build_nodes, gym_bindings, gym_usernames, member_names
from simulators.numbering import ClockPlan, FrameMaker, MakerSettings
from simulators.outbox import OutboxSettings
from simulators.truth import Truth, compare
from tests.sim_peer import Peer, run_virtual

START = 1_700_000_000_000_000
QUICK = OutboxSettings(retry_us=500_000, max_retry_us=2_000_000)
LOOP = synthetic_loop()


def counter(limit=None):
    """Heart rate counts up from 60 and wraps."""
    state = {"k": 0}

    def take():
        if limit is not None and state["k"] == limit:
            return None
        state["k"] += 1
        return {"hr_bpm": 60 + state["k"] % 100, "lat": 45.0, "lon": -30.0}

    return take


def maker(plan="", limit=None, **changes):
    base = {"tenant": "gym", "node": "w1", "device": "w1", "seed": 3, "start_us": START}
    return FrameMaker(MakerSettings(**{**base, **changes}), counter(limit), parse_faults(plan))


def gym(plan="", members=6, samples=30, **changes):
    return GymSettings(
        "127.0.0.1", 1, "gym", members, "x", samples=samples, start_us=START, faults=parse_faults(plan), outbox=QUICK, **changes
    )


def run_gym_virtual(settings, limit_s=300.0, peer=None):
    truth, peer = Truth(), peer or Peer()
    nodes = build_nodes(settings, LOOP, START, truth)
    took_s = run_virtual(nodes, peer, start_us=START, limit_s=limit_s, seed=settings.seed)
    return nodes, truth, peer, took_s


def digest_of(settings):
    """A hash of all frames of a gym, in order."""
    total = hashlib.sha256()
    for node, _ in build_nodes(settings, LOOP, START, Truth()):
        node.tick(START + 40_000_000)
        for _, raw in node.outbox.unacked:
            total.update(raw)
    return total.hexdigest()


def test_frames_are_numbered_from_0_and_dated():
    frames = [decode_frame(raw) for raw, _ in maker(limit=5).make(START + 10_000_000)]
    assert [f.seq for f in frames] == [0, 1, 2, 3, 4]
    assert len({f.boot for f in frames}) == 1
    assert frames[0].self_numbered
    assert [f.t0_us + f.utc_offset_us for f in frames] == [START + k * 1_000_000 for k in range(5)]


@given(st.lists(st.integers(1, 3_000_000), max_size=40), st.integers(1, 5))
def test_frames_do_not_depend_on_when_one_looks(cuts, per_frame):
    plan = "clock_skew:7@5-9,gps_jumps:50@3-12"
    whole = maker(plan, 20, samples_per_frame=per_frame, period_us=250_000).make(START + 200_000_000)
    stepped, parts, now = maker(plan, 20, samples_per_frame=per_frame, period_us=250_000), [], START
    for cut in [*cuts, 200_000_000]:
        now += cut
        parts += stepped.make(now)
    assert parts == whole


def test_device_is_undated_at_first_then_dated_then_drifts():
    clock = ClockPlan(Clock.GNSS, dated_after_us=5_000_000, skew_us=1500, drift_ppm=100.0)
    frames = [decode_frame(raw) for raw, _ in maker(limit=1000, clock=clock).make(START + 1000_000_000)]
    assert [(f.clock, f.utc_offset_us) for f in frames[:5]] == [(Clock.UNKNOWN, None)] * 5
    assert all(f.clock == Clock.GNSS for f in frames[5:])
    assert frames[5].t0_us + frames[5].utc_offset_us - (START + 5_000_000) == 1500
    late = frames[999].t0_us + frames[999].utc_offset_us - (START + 999_000_000)
    assert late == pytest.approx(1500 + 994 * 100, abs=2), "100 ppm of 994 s"


def test_clock_of_1970_and_skew_pass_while_the_fault_lasts():
    frames = [decode_frame(raw) for raw, _ in maker("clock_1970@2-5,clock_skew:60@7-9", limit=12).make(START + 20_000_000)]
    errors = [f.t0_us + f.utc_offset_us - (START + k * 1_000_000) for k, f in enumerate(frames)]
    assert all(frames[k].t0_us + frames[k].utc_offset_us < 60_000_000 for k in (2, 3, 4))
    assert [errors[k] for k in (0, 1, 5, 6, 7, 8, 9, 11)] == [0, 0, 0, 0, 60_000_000, 60_000_000, 0, 0]


def test_gps_jumps_move_some_positions_and_truth_has_them_as_sent():
    frames = maker("gps_jumps:200", limit=200).make(START + 300_000_000)
    places = [made.records[2:10] for _, made in frames]  # lat and lon
    usual = max(set(places), key=places.count)
    assert 20 < sum(place != usual for place in places) < 65, "a fifth of 200 jumps"
    assert all(decode_frame(raw).records == made.records for raw, made in frames)


def test_settings_that_cannot_be_sent_are_refused():
    with pytest.raises(BadInputError, match="samples_per_frame 40"):
        maker(samples_per_frame=40)
    with pytest.raises(ValueError, match="own node"):
        SimDevice(MakerSettings("gym", "box", "w1", 1, START), counter(), Truth())


def test_same_seed_same_bytes_in_two_processes():
    plan = "dead_battery:1@5-9,re_imaged_box@20,gps_jumps:99%50,clock_1970@2-3"
    here = digest_of(gym(plan))
    code = f"from tests.unit.test_sim_device import *; print(digest_of(gym({plan!r})))"
    project = Path(__file__).resolve().parents[2]
    there = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60, check=True)
    assert there.stdout.strip() == here
    assert digest_of(gym(plan, seed=2)) != here


def test_undisturbed_gym_arrives_once_and_exactly():
    nodes, truth, peer, took_s = run_gym_virtual(gym(members=8))
    assert compare(truth, peer.rows).clean
    assert len(truth) == 8 * 30
    assert took_s < 32
    assert {made.subject for made in truth} == {f"gym/{name}" for name in member_names(gym(members=8))}
    assert sum(node.counts.stored for node, _ in nodes) == 240


def test_unbound_devices_send_no_subject_but_truth_knows_whom_they_count_for():
    settings_ = gym(stamped=False, members=2)
    _, truth, peer, _ = run_gym_virtual(settings_)
    assert {row[3] for row in peer.rows} == {""}
    report = compare(truth, peer.rows)
    assert report.wrong == report.frames_sent == 60
    bound = [(*row[:3], "gym/" + row[0].removeprefix("gym/"), row[4]) for row in peer.rows]
    assert compare(truth, bound).clean
    assert [b.device for b in gym_bindings(settings_)] == member_names(settings_)


LOSSLESS = [
    "drop:0.3",
    "duplicate:0.4",
    "reorder:0.4",
    "delay:3",
    "cut@5-15",
    "half_open@5-15",
    "one_way:0@5-15",
    "one_way:1@5-15",
    "clock_skew:100@5-15",
    "clock_1970@0-9",
    "gps_jumps:500",
    "dead_battery:0@8-14",
    "roaming@9",
    "drop:0.3,duplicate:0.3,reorder:0.3,cut@4-6,half_open@9-12,one_way@14-16",
]


@pytest.mark.parametrize("plan", LOSSLESS)
@pytest.mark.parametrize("box", ["", "box"])
def test_every_frame_arrives_and_the_outbox_drains(plan, box):
    _, truth, peer, took_s = run_gym_virtual(gym(plan, box=box))
    report = compare(truth, peer.once())
    assert took_s < 300
    assert report.clean, report
    assert report.optional_missing == 0
    assert all(len(raws) == 1 for raws in peer.bytes_of.values()), "a re-send is byte-identical"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(set(KNOWN) - {"two_boxes_one_strap"})), st.integers(0, 20), st.integers(1, 10)), max_size=5),
    st.integers(0, 1 << 30),
)
def test_any_faults_together_lose_only_what_devices_lost_themselves(faults, seed):
    text = ",".join(f"{name}@{start}-{start + length}" for name, start, length in faults)
    nodes, truth, peer, took_s = run_gym_virtual(gym(text, members=3, samples=25, seed=seed))
    report = compare(truth, peer.once())
    assert took_s < 300, text
    assert report.clean, (text, report)
    assert report.optional_missing <= sum(node.counts.died for node, _ in nodes)


def test_dead_battery_with_lost_outbox_owes_nothing_of_it_and_starts_a_new_boot():
    nodes, truth, peer, _ = run_gym_virtual(gym("cut@4-30,dead_battery:1@10-15", members=1))
    node = nodes[0][0]
    report = compare(truth, peer.once())
    assert report.clean
    assert report.optional_missing == node.counts.died > 3
    assert len({frame.boot for frame in peer.frames}) == 2
    second = [f.seq for f in peer.frames if f.boot != peer.frames[0].boot]
    assert min(second) == 0


def test_re_imaged_box_numbers_anew_and_nothing_looks_like_a_repeat():
    _, truth, peer, _ = run_gym_virtual(gym("re_imaged_box@10,re_imaged_box@20", members=1))
    assert compare(truth, peer.once()).clean
    assert len({frame.boot for frame in peer.frames}) == 3
    assert len({row[:3] for row in peer.rows}) == len(peer.rows)


def test_refused_rows_are_no_longer_owed():
    nodes, truth, peer, _ = run_gym_virtual(gym(members=1), peer=Peer(refuse=[3, 4]))
    report = compare(truth, peer.once())
    assert report.clean
    assert report.optional_missing == 2
    assert nodes[0][0].counts.refused == 2


def test_strap_heard_by_two_boxes_is_two_origins_that_each_miss_some():
    settings_ = gym("two_boxes_one_strap:0.2@5-6", members=2, samples=100)
    assert gym_usernames(settings_) == ["gym/sim-box-a", "gym/sim-box-b"]
    _, truth, peer, _ = run_gym_virtual(settings_)
    assert compare(truth, peer.once()).clean
    frames = {origin: len(seqs) for (origin, _), seqs in truth.numbers().items()}
    assert len(frames) == 4
    assert all(60 < count < 95 for count in frames.values())
    assert not any(frame.self_numbered for frame in peer.frames)
    for origin in frames:
        seqs = sorted(row[2] for row in peer.rows if row[0] == origin)
        assert seqs == list(range(len(seqs))), "the box numbers what it hears: no gaps"


def test_wearable_roams_between_boxes_and_what_was_owed_comes_again_there():
    truth, peer = Truth(), Peer()
    wearable = maker(limit=20, node="box-a", device="w1", subject="gym/w1")
    boxes = [SimNode(NodeSettings("gym", name, 1, START, QUICK), makers, truth) for name, makers in (("box-a", [wearable]), ("box-b", []))]
    boxes[0].tick(START + 9_000_000)  # never linked: all still owed
    assert boxes[0].hand_over("w1", boxes[1]) == 10
    assert run_virtual([(box, FaultPlan()) for box in boxes], peer, start_us=START, limit_s=60) < 60
    assert compare(truth, peer.once()).clean
    assert len(truth) == 20
    assert len(peer.rows) == 30, "ten came through both boxes"
    assert {row[0] for row in peer.rows} == {"gym/w1"}
    assert all(len(raws) == 1 for raws in peer.bytes_of.values())
    with pytest.raises(ValueError, match="not a wearable"):
        boxes[0].hand_over("w1", boxes[1])


def test_acks_of_another_node_or_broken_ones_change_nothing():
    node = SimDevice(MakerSettings("gym", "w1", "w1", 3, START), counter(), Truth(), outbox=QUICK)
    node.on_link(up=True)
    ((name, payload),) = node.tick(START)
    assert name == "pl/1/gym/w1/up"
    bundle = decode_bundle(payload)
    assert isinstance(decode_frame(bundle.rows[0]), Frame)
    good = encode_ack(Ack(bundle.epoch, ((0, 0),)))
    node.on_message("pl/1/gym/w2/ack", good)
    node.on_message("pl/1/gym/w1/cfg", b"{}")
    node.on_message("pl/1/gym/w1/ack", good[:-1])
    assert len(node.outbox) == 1
    assert node.counts.bad_acks == 1
    node.on_message("pl/1/gym/w1/ack", good)
    assert len(node.outbox) == 0
    assert node.counts.stored == 1


def test_finish_stops_measuring_and_keeps_sending():
    node = SimDevice(MakerSettings("gym", "w1", "w1", 3, START), counter(), Truth(), outbox=QUICK)
    node.tick(START + 3_000_000)
    node.finish()
    assert node.exhausted
    assert not node.done
    assert len(node.owed()) == 4
    assert run_virtual([(node, FaultPlan())], Peer(), start_us=START + 4_000_000, limit_s=5) < 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4_000_000), max_size=30), st.integers(1, 3))
def test_faulty_devices_make_the_same_frames_however_often_they_are_ticked(cuts, per_frame):
    plan = "dead_battery:0@4-9,re_imaged_box@15,dead_battery:1@20-22,clock_skew:3@10-12"
    whole, cut = (build_nodes(gym(plan, 2, samples_per_frame=per_frame), LOOP, START, Truth()) for _ in range(2))
    for (one, _), (other, _) in zip(whole, cut, strict=True):
        one.tick(START + 40_000_000)
        now = START
        for step_us in [*cuts, 40_000_000]:
            now = min(now + step_us, START + 40_000_000)
            other.tick(now)
        assert one.outbox.unacked == other.outbox.unacked
        assert list(one.truth) == list(other.truth)
        assert one.outbox.epoch == other.outbox.epoch
