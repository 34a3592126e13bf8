"""Whatever bytes come, the readers give sound points or a FileError, and never anything else."""

import math
import random

import pytest

from device_profiles.errors import FileError
from device_profiles.files import Beat, Point, Recording, decode_recording
from device_profiles.files.collector import is_time
from device_profiles.files.fit_writing import encode_fit
from device_profiles.files.gpx import encode_gpx
from device_profiles.files.recording import FIELDS
from device_profiles.files.tcx import encode_tcx

START_US = 1_700_000_000_000_000
RIDE = Recording(
    [Point(START_US + s * 1_000_000, 46.5 + s * 1e-5, 7.25, 500.0, 3.0, 5.0, 9.0, s * 5.0, 120.0, 80.5, 200.0) for s in range(25)],
    beats=tuple(Beat(START_US + i * 700_000, 700) for i in range(30)),
    sport="cycling",
    lap_starts_us=(START_US, START_US + 12_000_000),
    pauses_us=((START_US + 5_000_000, START_US + 6_000_000),),
)
FILES = {"fit": encode_fit(RIDE), "gpx": encode_gpx(RIDE), "tcx": encode_tcx(RIDE)}
SPICE = (
    b"",
    b"\xff" * 8,
    b"\0" * 8,
    b"<",
    b">",
    b"&",
    b"]]>",
    b"<!--",
    b"<![CDATA[",
    b"&#0;",
    b"\x40\0\0\x14\0\xff",
    b"1e999",
    b"-",
    b".FIT",
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(6):
            case 0 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at] = rng.randrange(256)
            case 2:
                del out[at : at + rng.randrange(1, 30)]
            case 3:
                out[at:at] = rng.choice(SPICE)
            case 4:
                other = rng.randrange(len(content))
                out[at:at] = content[other : other + rng.randrange(1, 200)]
            case _:
                if rng.random() < 0.2:
                    del out[at:]
    return bytes(out)


def read_or_refusal(content: bytes) -> Recording | FileError:
    try:
        return decode_recording(content, "fuzzed")
    except FileError as refusal:
        return refusal


def check(content: bytes) -> bool:
    got = read_or_refusal(content)
    if isinstance(got, FileError):
        assert got.cure
        return False
    assert len(got.points)
    before_us = 0
    for point in got.points:
        assert is_time(point.t_us)
        assert point.t_us >= before_us
        before_us = point.t_us
        values = [getattr(point, name) for name in FIELDS]
        assert all(value is None or math.isfinite(value) for value in values)
        assert (point.lat is None) == (point.lon is None)
    return True


def fuzz(kind: str, count: int, seed: int) -> None:
    rng = random.Random(f"{kind} {seed}")
    outcomes = {check(mutated(FILES[kind], rng)) for _ in range(count)}
    assert outcomes == {True, False}  # both ways were taken


@pytest.mark.parametrize("kind", FILES)
def test_mutated_files_are_read_or_refused(kind):
    fuzz(kind, 600, seed=1)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", FILES)
def test_many_mutated_files_are_read_or_refused(kind):
    fuzz(kind, 60_000, seed=2)


@pytest.mark.parametrize("kind", FILES)
def test_random_bytes_after_a_sound_start_are_read_or_refused(kind):
    rng = random.Random(3)
    content = FILES[kind]
    for _ in range(100):
        check(content[: rng.randrange(12, len(content))] + rng.randbytes(rng.randrange(400)))
