"""Bad input through the real processes: each kind has its stated outcome, and the good frames beside it are counted once."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgpack
import pytest

from broker.frames import SELF_NUMBERED, Clock, Frame, encode_frame
from broker.layouts import layout_named
from broker.topics import topic
from gateway.settings import FileReplay
from paceline.site import add_nodes
from tests.mqtt_client import PahoClient
from tests.servers import PROJECT, ServedBroker
from tests.system.ingest_node import ResendingNode
from tests.system.stack import START_US, TENANT, Stack

MOTION = layout_named("motion.1")
USER = f"{TENANT}/raw"
HOUR_US = 3_600_000_000
UNKNOWN_LAYOUT = 60_000


def frame(seq: int, *, layout: int = MOTION.id, records: bytes = b"", at_us: int | None = None, subject: str = f"{TENANT}/raw") -> Frame:
    """A frame a second apart from its neighbours."""
    records = records or MOTION.pack({"tick_ms": 0, "hr_bpm": 120 + seq % 50, "distance_m": seq % 1000})
    at_us = START_US + (seq % 1000) * 1_000_000 if at_us is None else at_us
    return Frame(layout, SELF_NUMBERED, "raw", 0xABCD, seq, 0, at_us, Clock.NETWORK, subject, records)


def unchecked(f: Frame) -> bytes:
    """The bytes of a frame that `encode_frame` would not make."""
    return msgpack.packb((f.layout, f.flags, f.device, f.boot, f.seq, f.t0_us, f.utc_offset_us, int(f.clock), f.subject, f.records))


def near_broker(stack: Stack) -> ServedBroker:
    """The running near broker, as the clients of the tests know brokers."""
    near = stack.site.settings.near
    secrets = add_nodes(stack.site, "near", [USER])
    where = stack.site.password_file("near")
    return ServedBroker("amqtt", lambda _port: (), {}, where, stack.site.logs / "x", near.port, near.host, secrets=secrets)


def dead_letters(stack: Stack) -> dict[str, int]:
    db = sqlite3.connect(f"file:{stack.site.log_db}?mode=ro", uri=True)
    try:
        return dict(db.execute("SELECT reason, count(*) FROM dead GROUP BY reason"))
    finally:
        db.close()


async def test_each_bad_row_has_its_outcome_and_costs_no_good_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gpx"
    empty.write_text('<?xml version="1.0"?><gpx version="1.1" creator="x"><trk><trkseg></trkseg></trk></gpx>')
    good = [frame(seq) for seq in (0, 1, 2)]
    jumped = [frame(seq) for seq in (5000, 2**40 + 7, 2**64 - 1)]
    sentinels = [frame(3, records=MOTION.pack({"tick_ms": 0}))]
    future = frame(4, at_us=time.time_ns() // 1000 + HOUR_US)
    unknown = [frame(6, layout=UNKNOWN_LAYOUT, records=b"anything at all")]
    refused = {
        unchecked(frame(7, records=b"short")): "bad_records",
        unchecked(frame(8, records=bytes(MOTION.size + 1))): "bad_records",
        unchecked(frame(10, subject="other/athlete")): "wrong_tenant",
        b"no frame": "bad_frame",
    }
    rows = [*map(encode_frame, [*good, *jumped, *sentinels, future]), *map(unchecked, unknown), *refused]
    async with Stack(tmp_path / "site", files=[FileReplay(path=empty, athlete="nobody")]) as stack:
        broker = near_broker(stack)
        node = ResendingNode(broker, USER, rows)
        node.start()
        await asyncio.to_thread(node.join_done, 60)
        first_bad = len(rows) - len(refused) + 1
        assert node.refused == dict(enumerate(refused.values(), first_bad))
        await json_with_nan(broker)
        kept = [*good, *jumped, *sentinels, *unknown, json_frame()]
        await stack.check([("box", f) for f in kept])
        assert stack.counter("unknown_layouts") == 1
        assert dead_letters(stack) == {"future_time": 1}
        assert refused_by_the_box(stack) == {**Counter(refused.values()), "bad_json": 1}
        assert "empty.gpx: no point" in stack.log("gateway")


def json_frame() -> Frame:
    records = MOTION.pack({"tick_ms": 0, "hr_bpm": 99})
    return Frame(MOTION.id, SELF_NUMBERED, "raw", 0xBEEF, 1, 0, START_US + HOUR_US, Clock.SET, f"{TENANT}/raw", records)


async def json_with_nan(broker: ServedBroker) -> None:
    """NaN is no JSON: that message is refused whole, without an answer; the next one is taken."""
    row = {"device": "raw", "boot": "beef", "t0_us": 0, "utc_us": START_US + HOUR_US, "subject": USER, "epoch": f"{77:016x}"}
    bad = json.dumps({**row, "seq": 0, "n": 1, "samples": [{"hr_bpm": float("nan")}]}).encode()
    good = json.dumps({**row, "seq": 1, "n": 2, "samples": [{"hr_bpm": 99}]}).encode()
    assert b"NaN" in bad
    with PahoClient(broker, USER) as client:
        await asyncio.to_thread(client.subscribe, topic(TENANT, "raw", "ack/json"))
        for message in (bad, good):
            await asyncio.to_thread(client.publish, topic(TENANT, "raw", "up/json"), message)
        (answer,) = await asyncio.to_thread(client.wait_messages, 1)
    assert json.loads(answer.payload) == {"epoch": f"{77:016x}", "stored": [[2, 2]], "refused": []}


def refused_by_the_box(stack: Stack) -> dict[str, int]:
    db = sqlite3.connect(f"file:{stack.site.gateway_dir / 'refused.db'}?mode=ro", uri=True)
    try:
        return dict(db.execute("SELECT reason, rows FROM counts"))
    finally:
        db.close()


def paceline(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}, **environ}
    command = [sys.executable, "-m", "paceline", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(
    ("option", "arguments", "environ"),
    [
        ("--port", ("--port", "{port}"), {}),
        ("central.port", ("--port", "0"), {"PACELINE_CENTRAL__PORT": "{port}"}),
        ("near.port", ("--port", "0"), {"PACELINE_NEAR__PORT": "{port}"}),
    ],
)
def test_port_in_use_is_named_with_its_option(tmp_path: Path, option: str, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
    """Whoever listens there must not be taken for our broker."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        given = {name: value.format(port=port) for name, value in environ.items()}
        done = paceline("run", "--data", str(tmp_path / "data"), *(a.format(port=port) for a in arguments), **given)
    assert done.returncode == 2, done.stderr
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert option in done.stderr


@pytest.mark.parametrize("command", [("run", "--port", "0"), ("gateway",), ("process",), ("config", "show")])
def test_config_with_an_unknown_key_is_refused_with_file_key_and_cure(tmp_path: Path, command: tuple[str, ...]) -> None:
    toml = tmp_path / "site.toml"
    toml.write_text('tenant = "gym"\n[central]\nprot = 1883\n')
    done = paceline(*command, "--config", str(toml), "--data", str(tmp_path / "data"))
    assert done.returncode == 2, done.stderr
    assert str(toml) in done.stderr
    assert "central.prot" in done.stderr
    assert "central.port" in done.stderr
