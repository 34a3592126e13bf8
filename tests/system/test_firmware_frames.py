"""The kit's frames: byte for byte those of `broker.frames`, on MicroPython and CPython, decoded by it, and no allocation per sample."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from broker.frames import MAX_FRAME_BYTES, Frame, decode_frame, encode_frame
from broker.layouts import Layout, all_layouts
from tests.firmware import LANES, run
from tests.wire_vectors import U64

SCRIPT = Path(__file__).parents[1] / "lanes" / "frame_bytes.py"
VECTORS = Path(__file__).parents[1] / "vectors" / "frames.json"


def line_of(frame: Frame) -> str:
    """A frame as the script on the lane reads it."""
    layout = all_layouts()[frame.layout]
    head = (layout.name.replace(".", "_"), frame.flags, frame.device, frame.boot, frame.seq, frame.t0_us)
    rest = ("-" if frame.utc_offset_us is None else frame.utc_offset_us, frame.clock, frame.subject or "-")
    records = (",".join(map(str, row)) for row in layout.record.iter_unpack(frame.records))
    return " ".join(map(str, (*head, *rest, *records)))


def golden() -> list[Frame]:
    """The good frames of the golden vectors whose layout is known."""
    decoded = [decode_frame(bytes.fromhex(one["hex"])) for one in json.loads(VECTORS.read_text())["good"]]
    return [frame for frame in decoded if isinstance(frame, Frame) and frame.layout in all_layouts()]


def edges(layout: Layout) -> list[Frame]:
    """One frame with every field at its smallest and its largest, and one as full as a frame gets."""
    low = layout.record.pack(*(field.limits[0] for field in layout.fields))
    high = layout.record.pack(*(field.limits[1] for field in layout.fields))
    small = Frame(layout.id, 1, "d", 0, 0, 0, None, 0, "", low + high)
    room = (MAX_FRAME_BYTES - len(encode_frame(small)) - 60 - len("gym/ann")) // layout.size
    return [small, Frame(layout.id, 1, "watch-7", U64, U64, 1 << 62, -(1 << 62), 3, "gym/ann", low * room)]


def drawn(dice: random.Random, count: int) -> list[Frame]:
    """Random frames: numbers of every size of msgpack, values of every field's whole range."""
    frames: list[Frame] = []
    for _ in range(count):
        layout = dice.choice([*all_layouts().values()])
        records = b"".join(
            layout.record.pack(*(dice.randint(*field.limits) for field in layout.fields)) for _ in range(dice.randint(1, 12))
        )
        boot, seq = (dice.getrandbits(dice.randint(1, 64)) for _ in range(2))
        t0_us, offset_us = dice.getrandbits(dice.randint(1, 62)), dice.choice((1, -1)) * dice.getrandbits(dice.randint(1, 62))
        clock = dice.randint(0, 3)
        device = "".join(dice.choice("abc019._-") for _ in range(dice.randint(0, 31)))
        subject = dice.choice(("", "gym/ann", "a" * 32 + "/" + "b" * 32))
        frames.append(
            Frame(layout.id, dice.randint(0, 1), "d" + device, boot, seq, t0_us, offset_us if clock else None, clock, subject, records)
        )
    return frames


@pytest.mark.parametrize("lane", LANES)
def test_frames_are_those_of_the_wire_to_the_byte(lane: str) -> None:
    wanted = [*golden(), *(frame for layout in all_layouts().values() for frame in edges(layout)), *drawn(random.Random(7), 400)]
    said = run(lane, SCRIPT, stdin="\n".join(map(line_of, wanted)).encode(), heap="16m").splitlines()
    assert [bytes.fromhex(text) for text in said] == [encode_frame(frame) for frame in wanted]
    assert [decode_frame(bytes.fromhex(text)) for text in said] == wanted


def test_a_sample_allocates_nothing() -> None:
    for line in run("micropython", SCRIPT, "heap").splitlines():
        name, samples, frame_bytes = line.split()
        print(f"{name}: {samples} samples a frame, 0 bytes each; closing it {frame_bytes} bytes")
        assert int(samples) > 30
        assert int(frame_bytes) <= 512
