"""The gateway process between real brokers: two-hop acks under kill -9, configuration with its trial, replay of files, ordered end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack

import pytest

from broker.frames import SELF_NUMBERED, Clock, Frame, encode_frame
from broker.layouts import layout_named
from broker.recorded import frames_of, span_of
from device_profiles.files import Point, Points, Recording, write_gpx
from gateway.file_source import read_file
from tests.servers import PROJECT, free_port, start_amqtt, start_mosquitto
from tests.system.gateway_process import BOX, NEAR, PLATFORM, Collector, GatewayProcess
from tests.system.ingest_node import ResendingNode

MOTION = layout_named("motion.1")
DEVICES = ("w-1", "w-2", "w-3")


def frame_of(device: str, seq: int, *, flags: int = SELF_NUMBERED, subject: str = "") -> Frame:
    """A dated frame that carries its number."""
    record = MOTION.pack({"tick_ms": 0, "distance_m": seq / 100, "hr_bpm": 140})
    return Frame(MOTION.id, flags, device, 0xB007, seq, seq * 1000, 1_790_000_000_000_000, Clock.GNSS, subject, record)


@pytest.fixture
async def central(tmp_path):
    async with start_mosquitto(tmp_path / "central", users=(BOX, PLATFORM)) as broker:
        yield broker


async def near_broker(stack: AsyncExitStack, folder, kind: str):
    users = (NEAR, *(f"gym/{device}" for device in DEVICES))
    start = start_mosquitto if kind == "mosquitto" else start_amqtt
    (folder / "near").mkdir()
    return await stack.enter_async_context(start(folder / "near", users=users))


async def all_acknowledged(nodes: list[ResendingNode], timeout_s: float = 60) -> None:
    await asyncio.gather(*(asyncio.to_thread(node.join_done, timeout_s) for node in nodes))


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
async def test_devices_resend_through_kills_until_every_frame_is_at_the_platform(tmp_path, central, kind):
    points = ["near.before_spool:4", "near.after_spool:4", "near.after_ack:4"]
    async with AsyncExitStack() as stack:
        near = await near_broker(stack, tmp_path, kind)
        platform = await stack.enter_async_context(Collector(central))
        box = GatewayProcess(tmp_path, central, near)
        nodes = [
            ResendingNode(
                near, f"gym/{device}", [], epoch=i, pause_s=0.02, more=lambda seq, device=device: encode_frame(frame_of(device, seq))
            )
            for i, device in enumerate(DEVICES)
        ]
        box.start(points[0])
        for node in nodes:
            node.start()
        for point in [*points[1:], ""]:
            assert await box.ended() == -signal.SIGKILL, box.log()
            box.start(point)
        await all_acknowledged(nodes)
        counts = {device: len(node.rows) for device, node in zip(DEVICES, nodes, strict=True)}
        await platform.until(lambda p: len(p.frames) == sum(counts.values()))
        await platform.until(lambda p: p.state["online"] and p.state["spool_rows"] == 0)
        assert await box.end() == 0, box.log()
        assert platform.conflicts == []
        for device, count in counts.items():
            got = [platform.frames[device, 0xB007, seq] for seq in range(count)]
            assert got == [frame_of(device, seq) for seq in range(count)]
        await platform.until(lambda p: not p.state["online"])
        assert platform.state["counters"]["near_refused"] == 0


async def test_refused_rows_are_answered_kept_and_never_sent_up(tmp_path, central):
    async with AsyncExitStack() as stack:
        near = await near_broker(stack, tmp_path, "mosquitto")
        platform = await stack.enter_async_context(Collector(central))
        box = GatewayProcess(tmp_path, central, near)
        box.start()
        rows = [
            encode_frame(frame_of("w-1", 0)),
            b"\x01\x02\x03",
            encode_frame(frame_of("w-1", 1, flags=0)),
            encode_frame(frame_of("w-1", 2, subject="other/ann")),
            encode_frame(frame_of("w-1", 3, subject="gym/ann")),
        ]
        node = ResendingNode(near, "gym/w-1", rows)
        node.start()
        await all_acknowledged([node])
        assert node.refused == {2: "bad_frame", 3: "not_self_numbered", 4: "wrong_tenant"}
        await platform.until(lambda p: len(p.frames) == 2)
        assert platform.frames["w-1", 0xB007, 3].subject == "gym/ann"
        await platform.until(lambda p: p.state["counters"].get("near_refused_wrong_tenant", 0) >= 1)
        assert await box.end() == 0
        with sqlite3.connect(box.data_dir / "refused.db") as db:
            kept = set(db.execute("SELECT topic, reason, raw FROM refused"))
        db.close()
        assert kept == {
            ("pl/1/gym/w-1/up", reason, raw)
            for reason, raw in zip(["bad_frame", "not_self_numbered", "wrong_tenant"], rows[1:4], strict=True)
        }


async def test_binding_holds_for_what_is_spooled_after_it_and_bad_documents_are_reported(tmp_path, central):
    async with AsyncExitStack() as stack:
        near = await near_broker(stack, tmp_path, "mosquitto")
        platform = await stack.enter_async_context(Collector(central))
        box = GatewayProcess(tmp_path, central, near)
        box.start()
        await platform.until(lambda p: p.state.get("online"))
        for seq, athlete in enumerate(["ann", "bob"]):
            await platform.configure(version=seq + 1, bindings=[{"device": "w-1", "athlete": athlete}])
            await platform.until(lambda p, version=seq + 1: p.state["cfg_version"] == version)
            node = ResendingNode(near, "gym/w-1", [encode_frame(frame_of("w-1", seq))], epoch=seq)
            node.start()
            await all_acknowledged([node])
        await platform.until(lambda p: len(p.frames) == 2)
        assert [platform.frames["w-1", 0xB007, seq].subject for seq in (0, 1)] == ["gym/ann", "gym/bob"]
        await platform.configure(version=3, bindings=[], colour="red")
        await platform.until(lambda p: "colour" in p.state["cfg_error"])
        assert platform.state["cfg_version"] == 2
        assert await box.end() == 0


@pytest.mark.parametrize("killed", [False, True])
async def test_uplink_that_does_not_come_up_is_reverted_and_reported(tmp_path, central, killed):
    async with Collector(central) as platform:
        box = GatewayProcess(tmp_path, central, trial_s=60 if killed else 2)
        box.start()
        await platform.until(lambda p: p.state.get("online"))
        await platform.configure(version=4, uplink={"host": "127.0.0.1", "port": free_port()})
        await platform.until(lambda p: not p.state["online"])  # it left us for the new broker
        if killed:
            await box.kill()
            box.start()
        await platform.until(lambda p: p.state["online"] and "version 4 reverted" in p.state["cfg_error"])
        assert platform.state["cfg_version"] == 0
        assert await box.end() == 0
        await platform.until(lambda p: not p.state["online"])


async def test_uplink_moves_to_a_broker_that_answers(tmp_path, central):
    async with start_mosquitto(tmp_path / "other", users=(BOX, PLATFORM)) as other, Collector(central) as platform:
        passwords = other.password_file
        passwords.write_text(central.password_file.read_text())  # one credential for both
        await asyncio.to_thread(other.reload)
        other.secrets = central.secrets
        async with Collector(other) as moved:
            box = GatewayProcess(tmp_path, central, trial_s=20)
            box.start()
            await platform.until(lambda p: p.state.get("online"))
            await platform.configure(version=4, uplink={"host": other.host, "port": other.port})
            await moved.until(lambda p: p.state.get("online") and p.state["cfg_version"] == 4)
            await moved.until(lambda _: not (box.data_dir / "cfg.trial.json").exists())
            await box.kill()
            box.start()
            await platform.until(lambda p: not p.state["online"])
            moved.state = {}
            await moved.until(lambda p: p.state.get("online") and p.state["cfg_version"] == 4)
            assert await box.end() == 0


def write_walk(path, seed: int, points: int) -> Recording:
    """A recording of a point a second."""
    start = 1_780_000_000_000_000 + seed * 10**10
    recording = Recording(
        Points.of([Point(start + i * 1_000_000, lat=48 + i * 1e-5, lon=11 + seed, altitude_m=500.0, hr_bpm=120) for i in range(points)])
    )
    write_gpx(recording, path)
    return recording


async def test_files_killed_in_the_middle_and_imported_again_send_identical_frames(tmp_path, central):
    paths = [tmp_path / f"walk{i}.gpx" for i in range(2)]
    for i, path in enumerate(paths):
        write_walk(path, i, 900)
    (tmp_path / "bad.fit").write_bytes(b"this is no FIT file")
    files = [{"path": str(path), "athlete": f"a{i}", "speed": 200} for i, path in enumerate(paths)]
    expected = {}
    for i, path in enumerate(paths):
        recording, who = read_file(path, None)
        for frame in frames_of(recording, who, subject=f"gym/a{i}", utc_offset_us=span_of(recording)[0]):
            expected[frame.device, frame.boot, frame.seq] = frame
    async with Collector(central) as platform:
        box = GatewayProcess(tmp_path, central, files=[*files, {"path": str(tmp_path / "bad.fit")}])
        box.start()
        await platform.until(lambda p: p.frames)
        await box.kill()
        assert len(platform.frames) < len(expected)
        box.start()
        await platform.until(lambda p: p.state.get("counters", {}).get("files_done") == 2 and p.state["spool_rows"] == 0)
        await platform.until(lambda p: p.frames == expected)
        await platform.until(lambda p: p.state["counters"].get("files_refused") == 1)
        assert len(platform.raw) > len(expected)  # the kill made it send some again
        assert set(platform.raw) == {encode_frame(frame) for frame in expected.values()}
        assert await box.end() == 0
        assert "bad.fit" in box.log()


async def test_full_spool_leaves_the_rows_with_the_device_until_there_is_room(tmp_path, central):
    async with AsyncExitStack() as stack:
        near = await near_broker(stack, tmp_path, "mosquitto")
        box = GatewayProcess(tmp_path, central, near, spool={"cap_bytes": 1_000_000})
        await central.kill()
        box.start()
        record = MOTION.pack({"tick_ms": 0, "hr_bpm": 140})
        big = [Frame(MOTION.id, SELF_NUMBERED, "w-1", 1, seq, seq, 10**15, Clock.GNSS, "", record * 33) for seq in range(1500)]
        node = ResendingNode(near, "gym/w-1", [encode_frame(frame) for frame in big], per_bundle=25)
        node.start()
        deadline = asyncio.get_running_loop().time() + 60
        while "rows stay with their devices" not in box.log() or not node.stored:
            assert asyncio.get_running_loop().time() < deadline, box.log()
            await asyncio.sleep(0.05)
        assert 0 < len(node.stored) < 1500
        await central.start()
        async with Collector(central) as platform:
            await all_acknowledged([node])
            await platform.until(lambda p: len(p.frames) == 1500 and p.state.get("spool_rows") == 0)
            assert platform.state["counters"]["near_left"] > 0
            assert [platform.frames["w-1", 1, seq] for seq in range(1500)] == big
            assert await box.end() == 0


async def test_second_gateway_on_the_same_directory_is_refused(tmp_path, central):
    async with Collector(central) as platform:
        box = GatewayProcess(tmp_path, central)
        box.start()
        await platform.until(lambda p: p.state.get("online"))
        assert box.process is not None
        second = GatewayProcess(tmp_path, central)
        second.start()
        assert await second.ended() == 2
        assert f"in use by another gateway (process {box.process.pid})" in second.log()
        assert await box.end() == 0
        await platform.until(lambda p: p.state["online"] is False)


async def test_gateway_survives_both_brokers_restarting(tmp_path, central):
    async with AsyncExitStack() as stack:
        near = await near_broker(stack, tmp_path, "mosquitto")
        box = GatewayProcess(tmp_path, central, near)
        box.start()
        rows = [encode_frame(frame_of("w-1", seq)) for seq in range(60)]
        node = ResendingNode(near, "gym/w-1", rows)
        node.start()
        await near.kill()
        await central.kill()
        await near.start()
        await all_acknowledged([node])  # the box owes them now, the central broker is still away
        await central.start()
        async with Collector(central) as platform:
            await platform.until(lambda p: len(p.frames) == 60 and p.state.get("spool_rows") == 0)
        assert await box.end() == 0


def test_gateway_imports_nothing_heavy():
    code = "import sys, gateway.app; print([m for m in ('numpy', 'numba', 'scipy', 'pandas', 'fastapi', 'fitparse', 'amqtt') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "red"}, "colour"),
        ({"tenant": "No Id"}, "tenant"),
        ({"tenant": "platform"}, "reserved"),
        ({"files": [{"path": "x.fit", "speed": 0.5}]}, "speed must be"),
        ({"near": {"host": "x", "port": 1, "username": "gym/box", "password": "x"}}, "platform side"),
        ({"spool": {"cap_bytes": 5}}, "spool.cap_bytes"),
        ({"uplink": {"host": "localhost", "port": 1, "tls": True, "ca_file": "/does/not/exist.pem"}}, "ca_file"),
    ],
)
def test_wrong_setting_ends_with_exit_2_and_names_the_field(tmp_path, change, told):
    settings = {
        "data_dir": str(tmp_path / "data"), "tenant": "gym", "node": "box", "password": "secret-word", "uplink": {"host": "localhost", "port": 1},
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(settings | change))
    done = subprocess.run(
        [sys.executable, "-m", "gateway", str(tmp_path / "s.json")], cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "secret-word" not in done.stderr
    assert "Traceback" not in done.stderr
