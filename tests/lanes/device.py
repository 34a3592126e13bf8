"""A simulated device on MicroPython or CPython: device.py CONFIG.json, with the kit's ring on a NOR image in a file, its outbox and its MQTT client over TLS.

It makes `frames` frames, one every `period_ms`, and says `A boot seq crc` once each is durable, `R first last reason` when rows are refused, `U resumed` when the link is up,
`M bytes` (heap in use after a collection) every `report_ms`. With `cut_bytes` its own network cuts every link after up to so many bytes (`C cuts`). With `cut_at` the process is killed within that flash operation. At the end, when
nothing is owed any more, `D taken stored owed`.
"""

import asyncio
import gc
import json
import os
import sys
from binascii import crc32

from fakes.flash import Nor
from fakes.link import Network
from kit.frame import FrameWriter
from kit.layouts import beats_1, machine_1
from kit.node import Node, settings_of
from kit.ring import Ring
from kit.stream import tls_context
from kit.ticks import sleep_ms

MICROPYTHON = sys.implementation.name == "micropython"


def say(*words):
    print(*words)
    if not MICROPYTHON:
        sys.stdout.flush()


def die():
    if MICROPYTHON:
        os.system("kill -9 $PPID")
    else:
        os.kill(os.getpid(), 9)


def random64():
    return int.from_bytes(os.urandom(8), "little")


def context_of(config):
    if "ca" not in config:
        return None
    names = [config[name] for name in ("ca", "cert", "key")]
    if not MICROPYTHON:
        return tls_context(*names)
    held = []
    for name in names:
        with open(name, "rb") as file:
            held.append(file.read())
    return tls_context(*held)


def beat(writer, i):
    writer.put(beats_1.RR_MS, 600 + i % 400)
    writer.put(beats_1.HR_BPM, 60 + i % 100)


def turn(writer, i):
    writer.put(machine_1.KIND, 6)
    writer.put(machine_1.SPEED_MPS, 700 + i % 300)
    writer.put(machine_1.CADENCE_RPM, 160 + i % 40)
    writer.put(machine_1.POWER_W, 150 + i % 200)


async def measure(config, node):
    """The sensor: samples into frames, frames into the ring."""
    layout, put = (beats_1, beat) if config["kind"] == "strap" else (machine_1, turn)
    boot = random64()
    writer = FrameWriter(
        layout, config["device"], boot, config.get("subject", ""), config["device"] == config["node"], config.get("frame_bytes", 1024)
    )
    samples = config.get("samples", 10)
    step_ms = max(1, config["period_ms"] // samples)
    t0_us = 1_000_000
    for seq in range(config["frames"]):
        writer.open(t0_us)
        for i in range(samples):
            writer.start(i * step_ms)
            put(writer, seq * samples + i)
        frame = writer.close(seq, config["utc_us"] - 1_000_000, 2)
        while not node.append(frame):
            await sleep_ms(50)
        say("A", boot, seq, crc32(frame) & 0xFFFFFFFF)
        t0_us += samples * step_ms * 1000
        await sleep_ms(config["period_ms"])


async def report(every_ms):
    while True:
        await sleep_ms(every_ms)
        gc.collect()
        say("M", gc.mem_alloc() if MICROPYTHON else 0)


async def cut(network, most_bytes):
    """Cut the link after up to so many bytes, again and again."""
    while True:
        network.cut_in_bytes = 1 + random64() % most_bytes
        cuts = network.cuts
        while network.cuts == cuts:
            await sleep_ms(5)
        say("C", network.cuts)


async def main(config):
    network = Network()
    nor = Nor(config["sectors"], config.get("sector_bytes", 4096), config["image"], config.get("seed", 1))
    ring = Ring(nor, random64)
    nor.cut_at = config.get("cut_at", 0)
    nor.on_cut = die
    settings = settings_of(
        config["host"],
        config["port"],
        config["tenant"],
        config["node"],
        config["password"],
        context=context_of(config),
        server_name="localhost",
        backoff_ms=config.get("backoff_ms", 1000),
        max_backoff_ms=config.get("max_backoff_ms", 30000),
        connect=network.open,
        clean=config.get("clean", True),
    )
    node = Node(ring, settings, on_refused=lambda first, last, reason: say("R", first, last, reason), retry_ms=config.get("retry_ms", 2000))
    serving = asyncio.create_task(node.run())
    cutting = asyncio.create_task(cut(network, config["cut_bytes"])) if config.get("cut_bytes") else None
    reporting = asyncio.create_task(report(config["report_ms"])) if config.get("report_ms") else None
    await measure(config, node)
    links = 0
    while ring.owed:
        if node.client.counters["links"] != links:
            links = node.client.counters["links"]
            say("U", links)
        await sleep_ms(20)
    say("D", node.outbox.taken, node.outbox.stored, ring.owed)
    node.stop()
    await serving
    for task in (reporting, cutting):
        if task is not None:
            task.cancel()


with open(sys.argv[1]) as file:
    read = json.load(file)
asyncio.run(main(read))
