"""The embedded broker as a process: bounds, hostile clients, clean end; and the settings it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.embedded import EmbeddedSettings, serve
from broker.errors import ConfigError, LinkError
from tests.mqtt_client import PahoClient
from tests.servers import PROJECT, ServedBroker, free_port, start_amqtt

USERS = tuple(f"gym/box{i}" for i in range(60))
PLATFORM = "platform/ingest"


def connect_packet(user: str, secret: str, *, client_id: str | None = None, keepalive_s: int = 0, flags: int = 0xC2) -> bytes:
    """A CONNECT as bytes: for what no honest client sends."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", keepalive_s) + text(client_id or user) + text(user) + text(secret)
    return bytes([0x10]) + bytes([len(body)] if len(body) < 128 else [len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def open_socket(broker: ServedBroker) -> socket.socket:
    return socket.create_connection((broker.host, broker.port), timeout=60)


def login(broker: ServedBroker, user: str) -> socket.socket:
    sock = open_socket(broker)
    sock.sendall(connect_packet(user, broker.password(user)))
    assert sock.recv(4) == b"\x20\x02\x00\x00"
    return sock


def login_once_there_is_room(broker: ServedBroker, user: str) -> socket.socket:
    """Like `login`, tried again while the broker still lets go of those it closed."""
    deadline = time.monotonic() + 60
    while True:
        sock = open_socket(broker)
        with contextlib.suppress(ConnectionError):
            sock.sendall(connect_packet(user, broker.password(user)))
            if sock.recv(4) == b"\x20\x02\x00\x00":
                return sock
        sock.close()
        assert time.monotonic() < deadline, f"{user} is not let in"
        time.sleep(0.05)


def is_closed(sock: socket.socket, within_s: float = 60.0) -> bool:
    """Whether the broker ends the connection, whatever it sends before."""
    sock.settimeout(within_s)
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.10", "::", "box.example"])
async def test_only_loopback_is_served(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loopback") as caught:
        await serve(EmbeddedSettings(host=host, password_file=tmp_path / "p"))
    assert "mosquitto" in caught.value.cure


async def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LinkError, match=str(port)) as caught:
            await serve(EmbeddedSettings(port=port, password_file=tmp_path / "p"))
    assert "broker.port" in caught.value.cure


async def test_unreadable_password_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("rubbish\n")
    with pytest.raises(ConfigError, match="line 1"):
        await serve(EmbeddedSettings(port=0, password_file=tmp_path / "p"))


async def test_serve_tells_its_port_and_ends_cleanly_when_cancelled(tmp_path: Path) -> None:
    for _ in range(3):
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(EmbeddedSettings(port=0, password_file=tmp_path / "p"), ready=ready.set_result))
        port = await asyncio.wait_for(ready, 60)
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_process_ends_on_sigterm_with_clients_connected(tmp_path: Path) -> None:
    async with start_amqtt(tmp_path, users=USERS[:3]) as broker:
        clients = [PahoClient(broker, user, clean=False).connect() for user in USERS[:3]]
        assert await broker.stop() == 0
        assert all(client.wait_disconnected() for client in clients)
        assert "Traceback" not in broker.log()
        for client in clients:
            client.close()


async def test_process_restarts_on_its_port_after_kill(tmp_path: Path) -> None:
    async with start_amqtt(tmp_path, users=USERS[:1]) as broker:
        for _ in range(2):
            with PahoClient(broker, USERS[0]) as client:
                client.publish("pl/1/gym/box0/up")
                await broker.kill()
                assert client.wait_disconnected()
            await broker.start()


def test_process_without_a_free_port_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = json.dumps({"port": taken.getsockname()[1], "password_file": str(tmp_path / "p")})
        script = "import sys; from broker.embedded import EmbeddedSettings, run; sys.exit(run(EmbeddedSettings.model_validate_json(sys.argv[1])))"
        done = subprocess.run(
            [sys.executable, "-c", script, settings], capture_output=True, text=True, timeout=240, cwd=PROJECT, check=False
        )
    assert done.returncode == 1
    assert "is in use" in done.stderr
    assert "cure:" in done.stderr
    assert "Traceback" not in done.stderr


def test_embedded_settings_import_no_amqtt() -> None:
    code = "import sys, broker.embedded; sys.exit('amqtt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=240, cwd=PROJECT, check=False).returncode == 0


HOSTILE = {
    "not_mqtt": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no_connect_first": b"\xc0\x00",
    "huge_length": b"\x10\xff\xff\xff\x7f",
    "endless_length": b"\x10\xff\xff\xff\xff\xff",
    "empty_connect": b"\x10\x00",
    "wrong_protocol": b"\x10\x0c\x00\x04MQXX\x04\x02\x00\x00\x00\x00",
    "mqtt_5": b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
    "short_connect": b"\x10\x06\x00\x04MQTT",
}
HOSTILE_AFTER_LOGIN = {
    "qos_2": b"\x34\x09\x00\x05a/b/c\x00\x01",
    "qos_3": b"\x36\x09\x00\x05a/b/c\x00\x01",
    "second_connect": connect_packet("gym/box0", "x"),
    "topic_longer_than_packet": b"\x30\x04\xff\xffab",
    "reserved_type": b"\xf0\x00",
    "subscribe_without_filter_end": b"\x82\x06\x00\x01\x00\xffab",
    "one_mebibyte": b"\x30\x80\x80\x40",
}


async def test_hostile_clients_are_cut_and_the_others_do_not_notice(tmp_path: Path) -> None:
    async with start_amqtt(tmp_path, users=(*USERS[:3], PLATFORM)) as broker:
        with PahoClient(broker, PLATFORM) as platform, PahoClient(broker, USERS[1]) as honest:
            platform.subscribe("pl/1/gym/box1/up")
            for name, raw in HOSTILE.items():
                with open_socket(broker) as sock:
                    sock.sendall(raw)
                    assert is_closed(sock), name
            for name, raw in HOSTILE_AFTER_LOGIN.items():
                with login(broker, USERS[0]) as sock:
                    sock.sendall(raw)
                    assert is_closed(sock), name
                honest.publish("pl/1/gym/box1/up", name.encode())
            got = [m.payload.decode() for m in platform.wait_messages(len(HOSTILE_AFTER_LOGIN))]
            assert got == list(HOSTILE_AFTER_LOGIN)
            assert honest.stays_connected(0.1)
        assert "Traceback" not in broker.log(), broker.log()


async def test_connections_are_bounded_and_come_free_again(tmp_path: Path) -> None:
    async with start_amqtt(tmp_path, users=USERS, max_connections=10, connect_timeout_s=1.0) as broker:
        silent = [open_socket(broker) for _ in range(6)]  # never say CONNECT
        held = [login(broker, user) for user in USERS[:4]]
        with open_socket(broker) as one_too_many:
            assert is_closed(one_too_many)
        assert all(is_closed(sock) for sock in silent)  # after connect_timeout_s
        more = [login_once_there_is_room(broker, user) for user in USERS[4:10]]
        for sock in (*silent, *held, *more):
            sock.close()


async def test_keepalive_zero_is_never_cut_and_keepalive_one_is(tmp_path: Path) -> None:
    async with start_amqtt(tmp_path, users=USERS[:2]) as broker:
        forever = login(broker, USERS[0])
        with open_socket(broker) as short:
            short.sendall(connect_packet(USERS[1], broker.password(USERS[1]), keepalive_s=1))
            assert is_closed(short)
        forever.sendall(b"\xc0\x00")
        assert forever.recv(2) == b"\xd0\x00"
        forever.close()


async def test_a_subscriber_that_never_reads_bounds_the_memory_and_harms_nobody(tmp_path: Path) -> None:
    """64 MB for a stuck session of which 1 MB may wait: the rest is dropped, and others are served."""
    async with start_amqtt(tmp_path, users=(*USERS[:2], PLATFORM, "platform/stuck"), max_queued_bytes=1 << 20, max_inflight=20) as broker:
        stuck = login(broker, "platform/stuck")
        stuck.sendall(b"\x82\x10\x00\x01\x00\x0bpl/1/+/+/up\x01")
        with PahoClient(broker, USERS[0]) as box, PahoClient(broker, PLATFORM) as platform:
            platform.subscribe("pl/1/gym/box0/up")
            box.publish("pl/1/gym/box0/up", bytes(64_000))
            before = broker.rss_bytes()
            for round_ in range(1, 101):  # 10 at a time: who reads keeps below the 1 MB that may wait, however slow this machine is
                box.publish_all([("pl/1/gym/box0/up", bytes(64_000))] * 10)
                platform.wait_messages(1 + 10 * round_)
            assert len(platform.messages) == 1001
            assert broker.rss_bytes() - before < 25 << 20
        stuck.close()


async def test_a_subscriber_that_acknowledges_late_gets_everything(tmp_path: Path) -> None:
    """amqtt alone gives a message up after 5 s; here it comes again."""
    async with start_amqtt(tmp_path, users=(*USERS[:1], PLATFORM), max_inflight=5) as broker:
        slow = login(broker, PLATFORM)
        slow.sendall(b"\x82\x10\x00\x01\x00\x0bpl/1/+/+/up\x01")
        assert slow.recv(5)[:1] == b"\x90"
        with PahoClient(broker, USERS[0]) as box:
            box.publish_all([("pl/1/gym/box0/up", b"%03d" % i) for i in range(20)])
        await asyncio.sleep(6.5)
        seen: set[bytes] = set()
        slow.settimeout(60)
        pending, deadline = b"", time.monotonic() + 60
        while len(seen) < 20 and time.monotonic() < deadline:
            pending += slow.recv(4096)
            while len(pending) >= 2 and len(pending) >= 2 + pending[1]:
                packet, pending = pending[: 2 + pending[1]], pending[2 + pending[1] :]
                size = packet[3]
                seen.add(packet[6 + size :])
                slow.sendall(b"\x40\x02" + packet[4 + size : 6 + size])
        assert seen == {b"%03d" % i for i in range(20)}
        slow.close()


async def test_a_new_credential_works_without_a_restart(tmp_path: Path) -> None:
    async with start_amqtt(tmp_path, users=USERS[:1]) as broker:
        await broker.add_user("late/box")
        with PahoClient(broker, "late/box") as client:
            client.publish("pl/1/late/box/up")
        assert free_port() != broker.port
