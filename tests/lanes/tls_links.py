"""Tries links over TLS on MicroPython or CPython, a line of standard input each: `port user password name ca cert key` (- for none). Prints `up` or why not."""

import asyncio
import sys

from kit.mqtt import Client, Settings
from kit.stream import tls_context
from kit.ticks import sleep_ms

MICROPYTHON = sys.implementation.name == "micropython"


def given(name):
    if name == "-":
        return None
    if not MICROPYTHON:
        return name
    with open(name, "rb") as file:
        return file.read()


async def tried(port, user, password, name, ca, cert, key):
    context = tls_context(given(ca), given(cert), given(key))
    client = Client(
        Settings("127.0.0.1", int(port), user, user, password, context=context, server_name=name, topics=["pl/1/%s/ack" % user])
    )
    serving = asyncio.create_task(client.run())
    while not client.up and client.last_error is None:
        await sleep_ms(10)
    print("up" if client.up else "no: %r" % client.last_error)
    client.stop()
    await serving


async def main():
    for line in sys.stdin:
        await tried(*line.split())


asyncio.run(main())
