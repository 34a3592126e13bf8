"""What a broker costs: memory at 200 connections and messages per CPU-second, the embedded one against mosquitto in the same run.

200 nodes publish 200-byte messages at QoS 1, at most 8 unacknowledged
each; one platform client subscribes to all of them and acknowledges. CPU is that of the broker process (user and system); a message
counts once for in and out.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from benchmarks.machine import machine
from tests.servers import ServedBroker, start_amqtt, start_mosquitto

NODES = 200
WINDOW = 8
USERS = tuple(f"gym/box{i}" for i in range(NODES))
SUBSCRIBER = "platform/ingest"
PAYLOAD = bytes(200)


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def _packet(kind: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        length += bytes([left & 0x7F | (0x80 if left > 0x7F else 0)])
        left >>= 7
        if not left:
            return bytes([kind]) + length + body


async def _login(broker: ServedBroker, user: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(broker.host, broker.port)
    body = _text("MQTT") + b"\x04\xc2" + struct.pack(">H", 60) + _text(user) + _text(user) + _text(broker.password(user))
    writer.write(_packet(0x10, body))
    answer = await reader.readexactly(4)
    assert answer[3] == 0, f"{user} refused with {answer[3]}"
    return reader, writer


async def _publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str, count: int) -> None:
    head = _text(f"pl/1/{user}/up")
    sent = acknowledged = 0
    while acknowledged < count:
        while sent < count and sent - acknowledged < WINDOW:
            writer.write(_packet(0x32, head + struct.pack(">H", sent % 65_535 + 1) + PAYLOAD))
            sent += 1
        await reader.readexactly(4)
        acknowledged += 1


async def _collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    for _ in range(count):
        head = await reader.readexactly(2)
        length = head[1] & 0x7F
        if head[1] & 0x80:
            length |= (await reader.readexactly(1))[0] << 7
        body = await reader.readexactly(length)
        size = body[0] << 8 | body[1]
        writer.write(b"\x40\x02" + body[2 + size : 4 + size])


async def measure(broker: ServedBroker, messages: int) -> dict[str, float]:
    """Figures of one running broker."""
    at_start = broker.rss_bytes()
    reader, writer = await _login(broker, SUBSCRIBER)
    writer.write(_packet(0x82, b"\0\1" + _text("pl/1/+/+/up") + b"\1"))
    await reader.readexactly(5)
    before_connects_s = broker.cpu_s()
    links = [await _login(broker, user) for user in USERS]
    connects_s = broker.cpu_s() - before_connects_s
    connected = broker.rss_bytes()
    each = messages // NODES
    before_s = broker.cpu_s()
    async with asyncio.TaskGroup() as group:
        group.create_task(_collect(reader, writer, each * NODES))
        for (r, w), user in zip(links, USERS, strict=True):
            group.create_task(_publish(r, w, user, each))
    used_s = broker.cpu_s() - before_s
    after = broker.rss_bytes()
    for _, w in [*links, (reader, writer)]:
        w.close()
    return {
        "rss_mb_at_start": round(at_start / 1e6, 1),
        "rss_mb_at_200_connections": round(connected / 1e6, 1),
        "rss_mb_after_load": round(after / 1e6, 1),
        "cpu_ms_per_connect": round(connects_s / NODES * 1e3, 2),
        "messages_per_cpu_s": round(each * NODES / max(used_s, 0.01)),
    }


async def _run(context: AbstractAsyncContextManager[ServedBroker], messages: int) -> dict[str, float]:
    async with context as broker:
        return await measure(broker, messages)


def run(quick: bool) -> dict[str, object]:
    """Both brokers; about 15 s when `quick`, else a minute."""
    messages = 4_000 if quick else 20_000
    with tempfile.TemporaryDirectory(prefix="paceline-brokers-") as name:
        folder, users = Path(name), (*USERS, SUBSCRIBER)
        embedded = asyncio.run(_run(start_amqtt(folder, users=users), messages))
        mosquitto = asyncio.run(_run(start_mosquitto(folder, users=users), messages))
    ratios = {f"{key}_ratio": round(value / max(mosquitto[key], 1e-9), 3) for key, value in embedded.items()}
    return {"name": "brokers", "figures": {**embedded, **ratios}, "baseline": mosquitto, "machine": machine()}


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=1))
