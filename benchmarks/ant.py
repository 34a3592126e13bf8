"""Cost of an ANT frame, from the stick's bytes to samples; beside openant's reader on the same bytes, which are those of a virtual room.

`frame_us` is framing alone (what openant's `read_message` does), `page_us` the whole conversation (framing, meaning, channel), `sample_us`
all up to the samples of the profile. `delivered_share` is of the whole frames, with one corrupt byte in every 100 frames; openant's reader
ends with the first: `openant_frames_until_its_end`. Times are CPU of one process; `percent_of_core_40_devices` is for 160 pages a second.
"""

from __future__ import annotations

import array
import json
from collections.abc import Iterator, Sequence

from benchmarks.machine import cpu_s, machine
from device_profiles.catalogue import catalogue
from device_profiles.samples import Sample
from gateway.ant_control import AntControl
from gateway.ant_devices import AntDevices
from gateway.ant_framing import Framer
from gateway.ant_stick import Page, Stick, StickSettings
from gateway.controllable import Controllable
from gateway.sightings import Sightings
from simulators.ant_room import room
from simulators.ant_stick import StickFaults, VirtualStick

KEY = bytes(range(8))
PLAN = "hr:30,trainer:4,treadmill:2,power:2,speed,cadence"
PAGES_PER_S = 160
PACKET_BYTES = 64  # of full-speed USB


class _Nowhere:
    """Takes samples and forgets them."""

    samples = 0

    def take(self, _device: str, samples: Sequence[Sample], _arrival_us: int) -> None:
        self.samples += len(samples)

    def lost(self, _device: str) -> None:
        """Nothing to close."""


def session(seconds: float, corrupt_every: int = 0) -> tuple[list[bytes], list[bytes], int]:
    """(chunks of the start-up, chunks of pages, pages sent whole) of one stick in the room."""
    whole = 0

    def told(_sensor: object, _page: bytes, undamaged: bool) -> None:
        nonlocal whole
        whole += undamaged

    virtual = VirtualStick(room(PLAN), KEY, faults=StickFaults(corrupt_every=corrupt_every), on_page=told)
    stick = Stick(StickSettings(KEY, ()), 0.0)
    start: list[bytes] = []
    pages: list[bytes] = []
    for step in range(1, round(seconds * 100)):
        virtual.advance(step * 10_000)
        data = virtual.take()
        if stick.phase.name != "LISTENING":
            start.append(data)
            stick.feed(data, step / 100)
            virtual.feed(stick.outgoing())
            whole = 0 if stick.phase.name == "LISTENING" else whole
        elif data:
            pages.append(data)
    packets = b"".join(pages)
    return start, [packets[at : at + PACKET_BYTES] for at in range(0, len(packets), PACKET_BYTES)], whole


def started(start: list[bytes]) -> Stick:
    """A conversation that listens."""
    stick = Stick(StickSettings(KEY, ()), 0.0)
    for i, data in enumerate(start):
        stick.feed(data, i / 100)
        stick.outgoing()
    return stick


def framing_us(chunks: list[bytes], frames: int) -> float:
    """CPU microseconds of a frame."""
    framer, before = Framer(), cpu_s()
    count = sum(len(framer.feed(chunk)) for chunk in chunks)
    assert count == frames
    return (cpu_s() - before) / frames * 1e6


def page_us(start: list[bytes], chunks: list[bytes]) -> float:
    """CPU microseconds of a page through the conversation."""
    stick, before = started(start), cpu_s()
    count = sum(len(stick.feed(chunk, 10.0)) for chunk in chunks)
    return (cpu_s() - before) / count * 1e6


def sample_us(start: list[bytes], chunks: list[bytes]) -> float:
    """CPU microseconds of a page through the conversation, the devices and the profiles."""
    sink = _Nowhere()
    profiles = catalogue()
    devices = AntDevices(profiles, sink, Sightings(), Controllable(), lambda _stick, _who: AntControl(_refuse))
    stick, before, count = started(start), cpu_s(), 0
    for chunk in chunks:
        for out in stick.feed(chunk, 10.0):
            if isinstance(out, Page):
                count += 1
                devices.take(out, "stick", count * 1_000_000 // PAGES_PER_S)
    assert sink.samples
    return (cpu_s() - before) / count * 1e6


async def _refuse(_payload: bytes) -> None:
    raise OSError("nothing is sent in a benchmark")


class _Driver:
    """Gives openant's reader the same packets."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)

    def read(self) -> array.array[int]:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise EOFError
        return array.array("B", chunk)


def openant_frames(chunks: list[bytes]) -> tuple[int, float]:
    """(frames openant's own reader took until the bytes or itself ended, CPU microseconds of each)."""
    from openant.base.ant import Ant

    reader = Ant.__new__(Ant)  # its constructor looks for a stick and starts threads
    reader._driver, reader._running, reader._buffer = _Driver(chunks), True, array.array("B")  # noqa: SLF001
    count, before = 0, cpu_s()
    try:
        while True:
            reader.read_message()
            count += 1
    except (EOFError, AssertionError):
        return count, (cpu_s() - before) / max(count, 1) * 1e6


def run(quick: bool) -> dict[str, object]:
    """Figures of the best of three rounds."""
    seconds = 60 if quick else 600
    start, chunks, pages = session(seconds)
    _, damaged, whole = session(seconds, corrupt_every=100)
    framer = Framer()
    delivered = sum(len(framer.feed(chunk)) for chunk in damaged)
    ours = min(framing_us(chunks, pages) for _ in range(3))
    theirs = min(openant_frames(chunks)[1] for _ in range(3))
    total = min(sample_us(start, chunks) for _ in range(3))
    return {
        "name": "ant",
        "figures": {
            "frames": pages,
            "frame_us": round(ours, 2),
            "page_us": round(min(page_us(start, chunks) for _ in range(3)), 2),
            "sample_us": round(total, 2),
            "percent_of_core_40_devices": round(total * PAGES_PER_S / 1e4, 2),
            "delivered_share": round(delivered / whole, 6),
            "ratio_to_openant": round(theirs / ours, 2),
        },
        "baseline": {"openant_frame_us": round(theirs, 2), "openant_frames_until_its_end": openant_frames(damaged)[0]},
        "machine": machine(),
    }


if __name__ == "__main__":
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=2))
