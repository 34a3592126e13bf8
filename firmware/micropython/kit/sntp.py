"""The time from the network, without blocking: SNTP (RFC 4330) into a Clock. Requests and answers are pure; `ask` is the shell.

An answer counts only if it repeats what was sent, comes from a server that is itself in time, and came within a second; of three the
quickest is taken.
"""

import asyncio
import socket

from kit import stream
from kit.clock import NETWORK
from kit.ticks import sleep_ms

PORT = 123
_ERA_US = 2_208_988_800_000_000  # from 1900 to 1970
_MAX_TRIP_US = 1_000_000
_AGAIN_MS = 3_600_000
_FIRST_WAIT_MS = 4000


def request(cookie):
    """A request that carries 8 bytes, which the answer must repeat."""
    packet = bytearray(48)
    packet[0] = 0x23  # version 4, client
    packet[40:48] = cookie
    return packet


def answer(packet, cookie, sent_us, got_us):
    """UTC at the moment `got_us` of the answer, and how far off it can be; None when it is no good answer.

    Times are of the monotonic clock.
    """
    if len(packet) < 48 or packet[0] & 7 != 4 or packet[0] >> 6 == 3 or not 1 <= packet[1] <= 15 or bytes(packet[24:32]) != bytes(cookie):
        return None
    received_us, left_us = _stamp(packet, 32), _stamp(packet, 40)
    trip_us = (got_us - sent_us) - (left_us - received_us)
    if not 0 <= trip_us <= _MAX_TRIP_US or left_us < received_us:
        return None
    return left_us + trip_us // 2, (trip_us + 1) // 2


def _stamp(packet, at):
    """A timestamp of NTP as microseconds since 1970; seconds below 2^31 belong to the era after 2036."""
    seconds = int.from_bytes(packet[at : at + 4], "big")
    if seconds < 1 << 31:
        seconds += 1 << 32
    return seconds * 1_000_000 + (int.from_bytes(packet[at + 4 : at + 8], "big") * 1_000_000 >> 32) - _ERA_US


async def ask(clock, random, host, port=PORT, timeout_s=2):
    """One question: (UTC at `at_us`, how far off, at_us) or None. `random(count)` gives bytes. OSError when the host cannot be found."""
    where = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)[0][-1]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        cookie = random(8)
        sent_us = clock.monotonic_us()
        sock.sendto(request(cookie), where)
        await asyncio.wait_for(stream.readable(sock), timeout_s)
        packet, _ = sock.recvfrom(128)
        got_us = clock.monotonic_us()
        said = answer(packet, cookie, sent_us, got_us)
        return None if said is None else (said[0], said[1], got_us)
    except asyncio.TimeoutError:
        return None
    finally:
        sock.close()


async def synchronise(clock, random, host, port=PORT):
    """Ask three times and set the clock by the quickest answer; whether there was one."""
    best = None
    for _ in range(3):
        said = await ask(clock, random, host, port)
        if said is not None and (best is None or said[1] < best[1]):
            best = said
    return best is not None and clock.set_utc(best[0], NETWORK, best[2])


async def run(clock, random, hosts, port=PORT, beat=None):
    """Keep the clock in time for ever: every hour, and after failures with doubling waits.

    `beat()` is called once a second: the task lives.
    """
    wait_ms = _FIRST_WAIT_MS
    while True:
        done = False
        for host in hosts:
            try:
                done = await synchronise(clock, random, host, port)
            except OSError:
                done = False
            if done:
                break
        left_ms = _AGAIN_MS if done else wait_ms
        wait_ms = _FIRST_WAIT_MS if done else min(2 * wait_ms, _AGAIN_MS)
        while left_ms > 0:
            if beat is not None:
                beat()
            clock.monotonic_us()
            await sleep_ms(min(left_ms, 1000))
            left_ms -= 1000
