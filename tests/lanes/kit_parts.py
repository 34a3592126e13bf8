"""Uses the smaller modules of the kit, and says what came of it: the same lines on MicroPython and CPython. kit_parts.py FOLDER"""

import asyncio
import sys

from kit import sntp
from kit.acks import read_ack
from kit.app import Supervisor
from kit.boots import Boots
from kit.clock import NETWORK, Clock, port_utc_us
from kit.config import Kept
from kit.desired import Desired
from kit.log import Log, blinks
from kit.metrics import Metrics
from kit.mqtt_codec import ProtocolError, Receiver, connect_packet, put_publish, subscribe_packet
from kit.power import Cell, Plan
from kit.ticks import sleep_ms

folder = sys.argv[1]
kept = Kept(folder + "/config")
for n in range(3):
    kept.save({"n": n, "name": "watch"})
with open(folder + "/config.b", "rb") as file:
    whole = file.read()
found = []
for cut in range(len(whole) + 1):
    with open(folder + "/config.b", "wb") as file:
        file.write(whole[:cut])
    found.append(Kept(folder + "/config").load()["n"])
print("config", found)

modes = []
for _ in range(9):
    boots = Boots(Kept(folder + "/boots"))
    modes.append(boots.begin(3))
boots.fault("x" * 2000)
print("boots", modes, len(Boots(Kept(folder + "/boots")).last_fault))

now = [0]  # ports wrap at different numbers: this stays below all
clock = Clock((1 << 64) - 1, lambda: now[0])
for _ in range(16):
    clock.set_utc(1_800_000_000_000_000 + now[0] + now[0] * 40 // 1_000_000, NETWORK)
    now[0] += 61_000_000
    clock.monotonic_us()
other = Clock(1, lambda: 5)
print("clock", clock.monotonic_us(), clock.utc_us(), clock.drift_ppm, other.resume(clock.save(), 1_000_000), other.utc_us(), other.boot)
print("port clock", port_utc_us() > 1_700_000_000_000_000)

cookie = b"12345678"
packet = bytearray(48)
packet[0], packet[1] = 0x24, 2
packet[24:32] = cookie
packet[32:40] = packet[40:48] = b"\xee\x00\x00\x00\x80\x00\x00\x00"
print("sntp", sntp.answer(packet, cookie, 100, 40_100), sntp.answer(packet, b"x" * 8, 100, 200))

desired = Desired("gym", {"version": 2, "bindings": [{"device": "watch", "athlete": "ann", "from_us": 5}], "frame_ms": 500})
print("desired", desired.subject("watch", 4), desired.subject("watch", 6), desired.take({"version": 3, "colour": 1}), desired.frame_ms)

cell, plan = Cell(), Plan(batch_ms=60000)
cell.measured(3500)
print("power", cell.pct, cell.low, plan.decide(0, 1, 1, True, cell), plan.decide(300000, 1, 1, True, cell))

log = Log(None, lambda: 1)
try:
    raise ValueError("a bad thing")
except ValueError as error:
    log.fault("sensor", error)
print("log", log.lines, "a bad thing" in log.last_exception, "kit_parts" in log.last_exception, blinks("future_time"))
metrics = Metrics()
metrics.add("x", 2)
print("metrics", metrics.counts, metrics.heap() != 0)

print("ack", read_ack(bytes([0x94, 1, 7, 0x91, 0x92, 0, 3, 0x91, 0x93, 4, 4, 0xA3]) + b"bad"), read_ack(b"\xc1"))
receiver = Receiver(256)
buf = bytearray(600)
end = put_publish(buf, 0, b"a/b", b"payload", 1, False, True, 5)
end = put_publish(buf, end, b"long", bytes(400), 1, False, False, 6)
at, said = 0, []
while at < end:
    space = receiver.space()
    piece = min(100, len(space), end - at)
    space[:piece] = buf[at : at + piece]
    receiver.took(piece)
    at += piece
    while receiver.next():
        said.append((bytes(receiver.topic), receiver.payload and bytes(receiver.payload), receiver.pid))
print("mqtt", said, bytes(connect_packet("c", "u", "p", 30, False, ("w", b"gone", 1, True))), bytes(subscribe_packet(1, ["a", "b"], 1)))
try:
    receiver.space()[:2] = b"\xff\xff"
    receiver.took(2)
    receiver.next()
except ProtocolError as error:
    print("mqtt", error)


async def supervised():
    started = []
    app = Supervisor(log, feed=lambda: None)

    async def broken():
        started.append("broken")
        raise OSError(5)

    async def good():
        started.append("good")
        while True:
            app.beat("good")
            await sleep_ms(50)

    app.add("broken", broken)
    app.add("good", good, beat_ms=1000)
    running = asyncio.create_task(app.run())
    while started.count("broken") < 2:
        await sleep_ms(20)
    app.stop()
    await running
    print("app", started, sorted(app.restarts.items()), app.fed >= 2)


asyncio.run(supervised())
