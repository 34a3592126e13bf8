"""The memory of a device of the kit, measured on MicroPython's unix port, whose words are of 8 bytes where a device's are of 4.

A device runs in a heap no larger than a small one has: of its limit, what are plain bytes on both (buffers, and the fake flash that no device has in memory)
counts once, the rest twice. On the unix port TLS has its memory outside this heap, as on an ESP32.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware_site import Device, Site

SECTORS, SECTOR_BYTES = 8, 4096
BUFFERS = 2 * 4096 + 2048 + 2048 + 1024 + 500  # out_bytes twice, in_bytes, bundle_bytes, a frame, and what stands in front of it
FAKE = SECTORS * SECTOR_BYTES
STEADY_LIMIT, PEAK_LIMIT = 64 * 1024, 96 * 1024


def on_device(heap_bytes: int) -> int:
    """What so much of the unix port's heap is on a machine with words of 4 bytes."""
    return (heap_bytes - FAKE - BUFFERS) // 2 + BUFFERS


def on_unix(device_bytes: int) -> int:
    """The other way round."""
    return (device_bytes - BUFFERS) * 2 + BUFFERS + FAKE


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_device_fits_a_small_heap(tmp_path: Path, tls: bool) -> None:
    devices = (Device("bridge-1", "strap-1", "strap", 150), Device("bike-1", "bike-1", "bike", 150))
    async with Site(tmp_path, devices, 7, tls=tls, heap=str(on_unix(PEAK_LIMIT)), period_ms=8, report_ms=200, sectors=SECTORS) as site:
        await site.run(link_cuts=2)
        print(site.judge())
        for device, told in site.told.items():
            steady = max(on_device(heap) for heap in told.heap)
            said = f"steady {steady} bytes on a device ({max(told.heap)} here), peak within {PEAK_LIMIT}"
            print(f"{device.node}, {'TLS' if tls else 'plain'}: {said}")
            assert len(told.heap) >= 3
            assert steady <= STEADY_LIMIT
