"""Every recording replays through gateway, brokers, ingest and stages into a track with the file's points, or is refused with its reason.

Reads the recordings beside the project when they are there; the project's own synthetic ones always.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from broker.frames import Clock
from broker.ids import subject_of
from broker.layouts import layout_named
from broker.recorded import frames_of, identity_of, span_of
from device_profiles.errors import FileError
from device_profiles.files import read_recording
from device_profiles.files.recording import Recording
from gateway.settings import FileReplay
from paceline.ride import write_ride
from processors.stores import ReadStore
from simulators.gym import GymSettings
from tests.system.stack import TENANT, Stack

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MOTION = layout_named("motion.1")
NOBODY = GymSettings("", 0, TENANT, 1, "", samples=1)


def recordings(folder: Path, max_bytes: int) -> list[Path]:
    """Synthetic rides of ours, and the real files up to `max_bytes` that lie beside the project."""
    made = []
    for seed in range(2):
        path = folder / f"ride{seed}.fit"
        write_ride(path, 400, seed)
        made.append(path)
    broken = folder / "broken.fit"
    broken.write_bytes(b"this is not a FIT file, whatever its name says")
    made.append(broken)
    real = [path for kind in ("fit", "gpx", "tcx", "pairs") for path in sorted((SHARED / kind).glob("*"))]
    return made + [path for path in real if path.suffix in {".fit", ".gpx", ".tcx"} and path.stat().st_size <= max_bytes]


def points_of(recording: Recording) -> np.ndarray:
    """What the track must hold: one row per point, as quantised by motion.1, in canonical order."""
    rows = [
        (p.t_us, *(p.lat, p.lon, p.altitude_m, p.speed_mps, p.distance_m, p.hr_bpm, p.cadence_rpm, p.power_w)) for p in recording.points
    ]
    table = np.array(rows, dtype=object)
    return table[np.argsort(table[:, 0].astype(np.int64), kind="stable")]


def assert_equal(recording: Recording, store: ReadStore, athlete: str) -> None:
    tracks = store.tracks(subject_of(TENANT, athlete))
    track = tracks[MOTION.id]
    want = points_of(recording)
    assert len(track) == len(want), recording.source
    assert np.abs(track.t_us - want[:, 0].astype(np.int64)).max() <= 500, recording.source  # ticks are milliseconds
    names = ("lat", "lon", "altitude_m", "speed_mps", "distance_m", "hr_bpm", "cadence_rpm", "power_w")
    for column, name in enumerate(names, 1):
        field = MOTION.field(name)
        raw = np.array([field.to_raw(value) for value in want[:, column]])
        order = np.lexsort((raw, want[:, 0].astype(np.int64)))
        got = track.records[name].astype(np.int64)
        assert (got[np.lexsort((got, track.t_us))] == raw[order]).all(), f"{recording.source}: {name}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("max_bytes", [90_000, pytest.param(1 << 30, marks=pytest.mark.nightly)])
async def test_every_file_becomes_its_track_or_is_refused_with_a_reason(tmp_path: Path, max_bytes: int) -> None:
    files = recordings(tmp_path, max_bytes)
    read: dict[str, Recording] = {}
    refused: dict[str, FileError] = {}
    frames = 0
    for i, path in enumerate(files):
        try:
            recording = read[f"a{i:03d}"] = read_recording(path)
        except FileError as error:
            refused[path.name] = error
            continue
        who = identity_of(path.read_bytes())
        frames += sum(1 for _ in frames_of(recording, who, utc_offset_us=span_of(recording)[0], clock=Clock.RECORDED))
    assert read
    assert "broken.fit" in refused
    replays = [FileReplay(path=path, athlete=f"a{i:03d}", device=f"d{i:03d}", speed=0) for i, path in enumerate(files)]
    async with Stack(tmp_path / "site", NOBODY, replays) as stack:
        await stack.settled(frames, timeout_s=600)
        deadline = time.monotonic() + 60
        while not all(name in stack.log("gateway") for name in refused):
            assert time.monotonic() < deadline, stack.tail("gateway")
            await asyncio.sleep(0.2)
        store = ReadStore(stack.state)
        try:
            for athlete, recording in read.items():
                assert_equal(recording, store, athlete)
        finally:
            store.close()


@pytest.mark.parametrize("speed", [60.0])
async def test_a_paced_replay_gives_the_same_track(tmp_path: Path, speed: float) -> None:
    path = tmp_path / "ride.fit"
    write_ride(path, 300, 3)
    recording = read_recording(path)
    async with Stack(tmp_path / "site", NOBODY, [FileReplay(path=path, athlete="rider", speed=speed)]) as stack:
        await stack.settled(10)
        store = ReadStore(stack.state)
        try:
            assert_equal(recording, store, "rider")
        finally:
            store.close()
