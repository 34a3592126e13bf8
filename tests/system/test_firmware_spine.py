"""Devices of the kit through the real spine: MicroPython, flash, TLS with client certificates, mosquitto, ingest, log; whatever is killed, 0 lost and 0 twice.

The normal run has a part of the faults; nightly all of them, and ten minutes of flat memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware_site import Device, Site

BRIDGE, BIKE = "bridge-1", "bike-1"


def strap_and_bike(frames: int, lane: str = "micropython") -> tuple[Device, Device]:
    return Device(BRIDGE, "strap-1", "strap", frames, lane), Device(BIKE, BIKE, "bike", frames, lane)


async def test_frames_of_an_undisturbed_device_are_logged_once_and_in_order(tmp_path: Path) -> None:
    async with Site(tmp_path, strap_and_bike(40), seed=1, retry_ms=120_000) as site:  # what is late on a busy machine is not sent again
        await site.run()
        print(site.judge())
        for frames in site.logged().values():
            assert [frame.seq for frame in frames] == list(range(40))
        assert site.logged_frames == 80


async def test_a_thousand_frames_through_killed_brokers_cut_links_and_killed_devices(tmp_path: Path) -> None:
    async with Site(tmp_path, strap_and_bike(500), seed=2, period_ms=8) as site:
        await site.run(broker_kills=2, link_cuts=4, device_kills=10)
        print(site.judge(), f"; {site.broker_kills} broker kills, {site.link_cuts} link cuts")
        assert sum(len(told.frames) for told in site.told.values()) >= 1000


async def test_links_cut_at_random_bytes_lose_nothing(tmp_path: Path) -> None:
    """The first bytes of a link are its handshake, so most cuts are in it; the bytes of some bundles reach the broker without an ack coming back."""
    async with Site(tmp_path, strap_and_bike(200), seed=6, period_ms=8, cut_bytes=9000, backoff_ms=40, max_backoff_ms=80) as site:
        await site.run()
        print(site.judge(), [told.cuts for told in site.told.values()], "cuts")
        assert min(told.cuts for told in site.told.values()) >= 2


async def test_the_same_kit_on_cpython(tmp_path: Path) -> None:
    async with Site(tmp_path, strap_and_bike(60, "cpython"), seed=3, period_ms=8) as site:
        await site.run(link_cuts=2, device_kills=2)
        print(site.judge())


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_two_hundred_kills_of_devices_and_ten_of_the_broker(tmp_path: Path) -> None:
    async with Site(tmp_path, strap_and_bike(2000), seed=4) as site:
        await site.run(broker_kills=10, link_cuts=40, device_kills=200)
        print(site.judge(), f"; {site.broker_kills} broker kills, {site.link_cuts} link cuts")
        assert sum(told.killed for told in site.told.values()) == 200


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_memory_is_flat_over_ten_minutes(tmp_path: Path) -> None:
    async with Site(tmp_path, strap_and_bike(12_000), seed=5, period_ms=50, report_ms=5000) as site:
        await site.run(patience_s=1500)
        print(site.judge())
        for told in site.told.values():
            heap = told.heap[6:]
            print(f"heap in use over {len(heap) * 5} s: {min(heap)}-{max(heap)} bytes")
            assert len(heap) > 100
            assert max(heap) - min(heap) <= 2048
