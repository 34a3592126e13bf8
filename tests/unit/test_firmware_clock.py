"""The kit's clock: microseconds that never jump over wrapping ticks, UTC with a quality, drift, deep sleep; and SNTP answers."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import clock as kit_clock
from kit.clock import GNSS, NETWORK, SET, UNKNOWN, Clock
from kit.sntp import answer, ask, request, synchronise

WRAP = 1 << 30
UTC_US = 1_800_000_000_000_000
S_US = 1_000_000


class Ticks:
    """A wrapping counter that a test moves."""

    def __init__(self, start: int = 0) -> None:
        self.us = start

    def __call__(self) -> int:
        return self.us % WRAP


def clock_at(start: int = 0) -> tuple[Clock, Ticks]:
    ticks = Ticks(start)
    return Clock(7, ticks), ticks


@given(st.integers(0, WRAP - 1), st.lists(st.integers(0, WRAP // 2 - 1), max_size=30))
def test_time_goes_on_over_wraps(start: int, steps: list[int]) -> None:
    clock, ticks = clock_at(start)
    for step in steps:
        ticks.us += step
        assert clock.monotonic_us() == ticks.us - start


def test_an_unset_clock_has_no_date() -> None:
    clock, _ = clock_at()
    assert clock.quality == UNKNOWN
    assert clock.utc_offset_us(5) is None
    assert clock.utc_us() is None


def test_a_date_before_2020_is_none() -> None:
    clock, _ = clock_at()
    assert not clock.set_utc(1_500_000_000 * S_US, SET)
    assert clock.quality == UNKNOWN


def test_a_worse_source_does_not_replace_a_better_one_that_is_fresh() -> None:
    clock, ticks = clock_at()
    assert clock.set_utc(UTC_US, GNSS)
    ticks.us += 400 * S_US
    clock.monotonic_us()
    assert not clock.set_utc(UTC_US, NETWORK)
    for _ in range(10):
        ticks.us += 400 * S_US
        clock.monotonic_us()
    assert clock.set_utc(UTC_US + 4400 * S_US, NETWORK)
    assert clock.quality == NETWORK


@pytest.mark.parametrize("ppm", [-60, -3, 0, 40, 150])
def test_drift_is_measured_and_carried_on(ppm: int) -> None:
    clock, ticks = clock_at()

    def true_us() -> int:
        return UTC_US + ticks.us + ticks.us * ppm // 1_000_000

    for _ in range(8):
        assert clock.set_utc(true_us(), NETWORK)
        for _ in range(3):
            ticks.us += 300 * S_US
            clock.monotonic_us()
    assert abs(clock.drift_ppm - ppm) <= 1
    for _ in range(3):
        ticks.us += 300 * S_US
        clock.monotonic_us()
    assert abs(clock.utc_us() - true_us()) < 4000


def test_a_source_that_jumps_is_not_taken_for_drift() -> None:
    clock, ticks = clock_at()
    clock.set_utc(UTC_US, NETWORK)
    for _ in range(3):
        ticks.us += 300 * S_US
        clock.monotonic_us()
    clock.set_utc(UTC_US + 3600 * S_US, NETWORK)
    assert clock.drift_ppm == 0
    assert clock.utc_us() == UTC_US + 3600 * S_US


def test_a_boot_goes_on_after_deep_sleep_and_its_date_is_worth_less() -> None:
    clock, ticks = clock_at()
    clock.set_utc(UTC_US, NETWORK)
    ticks.us += 5 * S_US
    saved = clock.save()
    woken = Clock(99, Ticks(123))
    assert woken.resume(saved, 60 * S_US)
    assert (woken.boot, woken.quality) == (7, SET)
    assert woken.monotonic_us() == 65 * S_US
    assert woken.utc_us() == UTC_US + 65 * S_US


@given(st.binary(max_size=60))
def test_bytes_that_were_not_saved_are_not_resumed(raw: bytes) -> None:
    clock, _ = clock_at()
    assert not clock.resume(raw, 0)
    assert clock.boot == 7


def test_the_epoch_of_a_port_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kit_clock.port_epoch_s() == 0
    assert abs(kit_clock.port_utc_us() - time.time_ns() // 1000) < 60 * S_US
    monkeypatch.setattr(kit_clock.time, "gmtime", lambda _: (2000, 1, 1))
    assert kit_clock.port_epoch_s() == 946_684_800
    monkeypatch.setattr(kit_clock.time, "time", lambda: 100.0)
    assert kit_clock.port_utc_us() is None


def said(cookie: bytes, received_us: int, left_us: int, **changes: int) -> bytes:
    """An answer of a server at these times (UTC)."""

    def stamp(utc_us: int) -> bytes:
        seconds, us = divmod(utc_us + 2_208_988_800 * S_US, S_US)
        return struct.pack(">II", seconds & 0xFFFFFFFF, (us << 32) // S_US + 1)

    first = changes.get("first", 0x24)
    return bytes((first, changes.get("stratum", 2), 0, 0)) + bytes(20) + cookie + stamp(received_us) + stamp(left_us)


COOKIE = b"12345678"


@pytest.mark.parametrize(
    "utc_us", [UTC_US, 2_085_978_495 * S_US, 2_085_978_497 * S_US, 4_000_000_000 * S_US], ids=["2027", "2036", "next era", "2096"]
)
def test_an_answer_gives_the_time_of_its_arrival(utc_us: int) -> None:
    got = answer(said(COOKIE, utc_us, utc_us + 100), COOKIE, 5_000, 45_100)
    assert got is not None
    assert abs(got[0] - (utc_us + 100 + 20_000)) <= 2
    assert got[1] == 20_000


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        said(b"87654321", UTC_US, UTC_US),
        said(COOKIE, UTC_US, UTC_US, first=0xE4),
        said(COOKIE, UTC_US, UTC_US, first=0x23),
        said(COOKIE, UTC_US, UTC_US, stratum=0),
        said(COOKIE, UTC_US, UTC_US, stratum=16),
        said(COOKIE, UTC_US, UTC_US - 5),
        said(COOKIE, UTC_US, UTC_US + 2 * S_US),
    ],
    ids=["nothing", "not ours", "not in time", "a question", "kiss of death", "unsynchronised", "backwards", "slower than the trip"],
)
def test_what_is_no_good_answer_is_none(packet: bytes) -> None:
    assert answer(packet, COOKIE, 0, 10_000) is None


@given(st.binary(max_size=80))
def test_any_packet_is_an_answer_or_none(packet: bytes) -> None:
    answer(packet, COOKIE, 0, 10_000)


class Server(asyncio.DatagramProtocol):
    """A time server that is silent for the first `silent` questions."""

    def __init__(self, silent: int) -> None:
        self.silent = silent

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert len(data) == 48
        assert data[:1] == request(bytes(8))[:1]
        if self.silent:
            self.silent -= 1
            return
        now_us = time.time_ns() // 1000
        self.transport.sendto(said(data[40:48], now_us, now_us), address)


@pytest.mark.parametrize("silent", [0, 1])
async def test_a_server_sets_the_clock(silent: int) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(silent), ("127.0.0.1", 0))
    try:
        clock = Clock(1)
        assert await synchronise(clock, lambda count: bytes(range(count)), "127.0.0.1", transport.get_extra_info("sockname")[1])
        assert clock.quality == NETWORK
        assert abs(clock.utc_us() - time.time_ns() // 1000) < S_US
    finally:
        transport.close()


async def test_a_silent_server_costs_its_time_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert await ask(Clock(1), bytes, "127.0.0.1", silent.getsockname()[1], timeout_s=0.05) is None
