"""The kit's client at QoS 1, on MicroPython: kit_client.py CONFIG.json.

Publishes `messages` of `size` bytes and prints `RATE ms`; with `stay` prints `UP` whenever a publish was acknowledged after a link came.
"""

import asyncio
import json
import sys

from kit.mqtt import Client, Settings
from kit.stream import tls_context
from kit.ticks import sleep_ms, ticks_diff, ticks_ms


def context_of(config):
    if not config.get("ca"):
        return None
    held = []
    for name in ("ca", "cert", "key"):
        with open(config[name], "rb") as file:
            held.append(file.read())
    return tls_context(*held)


async def rate(client, config):
    topic, payload, count = config["topic"].encode(), bytes(config["size"]), config["messages"]
    while not client.up:
        await sleep_ms(5)
    start, sent = ticks_ms(), 0
    while client.counters["acked"] < count:
        while sent < count and client.send(topic, payload):
            sent += 1
        await client.moved()
    print("RATE", ticks_diff(ticks_ms(), start))


async def stay(client, config):
    seen = 0
    while True:
        if client.up and client.counters["links"] != seen:
            await client.publish(config["topic"], b"here")
            seen = client.counters["links"]
            print("UP")
        await sleep_ms(5)


async def main(config):
    user = config["user"]
    settings = Settings(
        config["host"],
        config["port"],
        user,
        user,
        config["password"],
        context=context_of(config),
        server_name="localhost",
        window=config["window"],
    )
    client = Client(settings)
    serving = asyncio.create_task(client.run())
    await (stay if config.get("stay") else rate)(client, config)
    client.stop()
    await serving


with open(sys.argv[1]) as read:
    asyncio.run(main(json.load(read)))
