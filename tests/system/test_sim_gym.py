"""The simulators against a real mosquitto with our access rules: faults on, everything owed arrives and every outbox drains."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import LinkError
from simulators.faults import parse_faults
from simulators.fleet import FleetSettings, fleet_usernames, run_fleet
from simulators.gym import Gym, GymSettings, gym_usernames, run_gym
from simulators.outbox import OutboxSettings
from simulators.truth import Truth, compare
from tests.servers import start_mosquitto
from tests.sim_peer import Peer, acking_peer

PROJECT = Path(__file__).resolve().parents[2]
START = 1_700_000_000_000_000
INGEST = "platform/ingest"
QUICK = OutboxSettings(retry_us=300_000, max_retry_us=1_000_000)
FAULTS = (
    "drop:0.2,duplicate:0.2,reorder:0.2,delay:0.5,cut@5-10,half_open@14-18%60,one_way:0@20-24%50,one_way:1@22-25%30,clock_1970@2-8%30,"
    "clock_skew:40@3-9%30,gps_jumps:300%30,dead_battery:0@26-31%30,dead_battery:1@33-36%20,re_imaged_box@38%20,two_boxes_one_strap:0.1%20"
)


def finite_gym(plan="", members=30, samples=40, **changes):
    settings = GymSettings("127.0.0.1", 1, "gym", members, "", samples=samples, start_us=START, speed=10, outbox=QUICK, seconds=60)
    return replace(settings, faults=parse_faults(plan), **changes)


async def play(tmp_path, settings, peer):
    """Run the gym on a fresh broker with `peer` at the other end."""
    async with start_mosquitto(tmp_path, users=[*gym_usernames(settings), INGEST]) as broker:
        settings = replace(settings, host=broker.host, port=broker.port, passwords=broker.secrets)
        async with acking_peer(broker.host, broker.port, INGEST, broker.password(INGEST), peer):
            return await run_gym(settings)


async def test_gym_with_every_fault_delivers_all_it_owes(tmp_path):
    peer = Peer()
    report = await play(tmp_path, finite_gym(FAULTS), peer)
    outcome = compare(report.truth, peer.once())
    assert report.drained
    assert outcome.clean, outcome
    assert report.frames_made == len(report.truth) > 1000
    assert len(peer.rows) > outcome.frames_stored, "there were repeats to remove"
    assert report.connects > 40, "links broke and came back"
    assert outcome.optional_missing <= report.frames_died
    assert all(len(raws) == 1 for raws in peer.bytes_of.values()), "a re-send is byte-identical"


async def test_same_seed_makes_the_same_truth_whatever_the_link_does(tmp_path):
    documents = []
    for turn, plan in enumerate(("", "drop:0.4,cut@3-6")):
        report = await play(tmp_path / str(turn), finite_gym(plan, members=5, samples=15), Peer())
        assert report.drained
        documents.append(sorted(json.loads(report.truth.to_json())["frames"]))
    assert documents[0] == documents[1]


async def test_a_box_of_members_needs_one_connection(tmp_path):
    peer = Peer()
    report = await play(tmp_path, finite_gym(members=50, samples=10, box="box1"), peer)
    assert report.connects == 1
    assert compare(Truth.from_json(report.truth.to_json()), peer.rows).clean
    assert json.loads(report.to_json())["frames_stored"] == 500


async def test_gym_over_tls(tmp_path):
    peer, settings = Peer(), finite_gym(members=3, samples=5)
    users = [*gym_usernames(settings), INGEST]
    async with start_mosquitto(tmp_path, users=users, tls=True) as broker:
        context = broker.tls_context()
        settings = replace(settings, host="localhost", port=broker.port, passwords=broker.secrets, tls=context)
        async with acking_peer("localhost", broker.port, INGEST, broker.password(INGEST), peer, tls=context):
            report = await run_gym(settings)
    assert report.drained
    assert compare(report.truth, peer.rows).clean


async def test_wearables_roam_between_two_brokers(tmp_path):
    peer, settings = Peer(), finite_gym("roaming@4,drop:0.3", members=6, samples=15)
    users = [*gym_usernames(settings), INGEST]
    async with start_mosquitto(tmp_path / "a", users=users) as one, start_mosquitto(tmp_path / "b", users=users) as two:
        two_peer = Peer()
        two.password_file.write_bytes(one.password_file.read_bytes())  # a wearable's credential works at both boxes
        await two.stop()
        await two.start()
        settings = replace(settings, host=one.host, port=one.port, passwords=one.secrets, second_broker=(two.host, two.port))
        async with (
            acking_peer(one.host, one.port, INGEST, one.password(INGEST), peer),
            acking_peer(two.host, two.port, INGEST, one.password(INGEST), two_peer),
        ):
            report = await run_gym(settings)
    assert report.drained
    assert peer.rows
    assert two_peer.rows
    everything = {row[:3]: row for row in [*peer.rows, *two_peer.rows]}
    assert compare(report.truth, everything.values()).clean


async def test_broker_killed_in_mid_stream_loses_nothing(tmp_path):
    peer, settings = Peer(), finite_gym(members=20, samples=30)
    async with start_mosquitto(tmp_path, users=[*gym_usernames(settings), INGEST]) as broker:
        gym = Gym(replace(settings, host=broker.host, port=broker.port, passwords=broker.secrets))
        async with acking_peer(broker.host, broker.port, INGEST, broker.password(INGEST), peer):
            await gym.start()
            await asyncio.sleep(1)
            await broker.kill()
            await asyncio.sleep(0.3)
            await broker.start()
        async with acking_peer(broker.host, broker.port, INGEST, broker.password(INGEST), peer):
            drained = await gym.wait_drained(120)
        report = await gym.stop()
    assert drained
    assert compare(report.truth, peer.once()).clean
    assert report.frames_made == 600


async def test_wrong_password_is_told_with_a_cure_and_leaves_nothing_running(tmp_path):
    settings = finite_gym(members=2)
    async with start_mosquitto(tmp_path, users=gym_usernames(settings)) as broker:
        tasks = asyncio.all_tasks()
        with pytest.raises(LinkError, match="no password for"):
            await Gym(replace(settings, port=broker.port, passwords={})).start()
        gym = Gym(replace(settings, port=broker.port, passwords="wrong"))
        with pytest.raises(LinkError, match="code 5"):
            await gym.start(timeout_s=5.0)
        assert asyncio.all_tasks() == tasks


async def test_thousand_wearables_in_one_process(tmp_path):
    peer = Peer()
    settings = replace(finite_gym(members=1000, samples=5), speed=1.0, outbox=OutboxSettings(), noisy_gps=False)
    cpu_s, wall_s = time.process_time(), time.monotonic()
    report = await play(tmp_path, settings, peer)
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    assert report.drained
    assert report.frames_made == 5000
    assert compare(report.truth, peer.once()).clean
    assert report.connects >= 1000
    logging.getLogger(__name__).info("1,000 wearables: %.1f CPU-s, %.1f s, peer included", cpu_s, wall_s)


@pytest.mark.parametrize(("per_frame", "per_bundle", "rate"), [(30, 4, None), (1, 60, None), (1, 10, 4000.0)])
async def test_fleet_sends_what_it_says_and_all_is_acked(tmp_path, per_frame, per_bundle, rate):
    peer = Peer()
    load = FleetSettings(
        "127.0.0.1",
        1,
        "gym",
        "",
        connections=3,
        devices=20,
        frames_per_bundle=per_bundle,
        samples_per_frame=per_frame,
        frames=1200,
        rate=rate,
    )
    async with start_mosquitto(tmp_path, users=[*fleet_usernames(load), INGEST]) as broker:
        load = replace(load, port=broker.port, passwords=broker.secrets)
        async with acking_peer(broker.host, broker.port, INGEST, broker.password(INGEST), peer):
            report = await run_fleet(load)
    assert report.drained
    assert (report.sent_frames, report.acked_frames, report.sent_samples) == (3600, 3600, 3600 * per_frame)
    assert len({row[:3] for row in peer.rows}) == len(peer.rows) == 3600
    assert report.ack_ms["p50"] > 0
    if rate:
        assert report.seconds > 0.8 * 3600 / rate


async def test_fleet_runs_in_a_process_of_its_own(tmp_path):
    peer = Peer()
    async with (
        start_mosquitto(tmp_path, users=["gym/load000", INGEST]) as broker,
        acking_peer(broker.host, broker.port, INGEST, broker.password(INGEST), peer),
    ):
        arguments = [f"host={broker.host}", f"port={broker.port}", "tenant=gym", "connections=1", "devices=5", "frames=100", "rate=1e4"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulators.fleet",
            *arguments,
            cwd=PROJECT,
            env={**os.environ, "PACELINE_FLEET_PASSWORD": broker.password("gym/load000")},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["acked_frames"] == len(peer.rows) == 100


async def test_fleet_that_is_not_let_in_says_why(tmp_path):
    async with start_mosquitto(tmp_path, users=["gym/load000"]) as broker:
        load = FleetSettings(broker.host, broker.port, "gym", "wrong", connections=1)
        with pytest.raises(LinkError, match="code=5") as caught:
            await run_fleet(load)
        assert caught.value.cure
    with pytest.raises(LinkError, match="cannot be reached"):
        await run_fleet(load)
