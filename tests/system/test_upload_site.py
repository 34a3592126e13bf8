"""Files uploaded to a whole site in which a gym streams live: finished, exactly once, and whole or not at all when the platform is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from broker.logrecord import Kind
from broker.reference import UploadRef, decode_reference
from device_profiles.files import Point, Points, Recording, write_fit
from paceline.site import publish_site
from processors.log import SqliteLog
from processors.results_db import finals
from processors.state_db import connect
from processors.upload_file import read_upload
from tests.system.stack import TENANT, Stack, frame_of, gym_of, undisturbed
from tests.system.test_upload_reader import readers_of

START_US = 1_780_000_000_000_000


def ride(path: Path, seconds: int, *, start_us: int = START_US) -> Path:
    """A file of a ride along a straight line."""
    points = [
        Point(start_us + s * 1_000_000, 46.5 + s * 5e-5, 7.25, altitude_m=500.0, speed_mps=5.5, hr_bpm=float(120 + s % 30))
        for s in range(seconds)
    ]
    write_fit(Recording(Points.of(points), sport="cycling", device="bike computer"), path)
    return path


async def upload(stack: Stack, path: Path, athlete: str) -> asyncio.subprocess.Process:
    """`paceline upload` under way."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}
    command = ["-m", "paceline", "upload", str(path), "--athlete", athlete, "--data", str(stack.site.data), "--json"]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=pipe, env=environment)


async def taken(stack: Stack, path: Path, athlete: str = "ann") -> dict[str, Any]:
    """What `paceline upload` says of a file that is taken."""
    process = await upload(stack, path, athlete)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    (said,) = json.loads(out)
    return said


async def answered_by_nobody(process: asyncio.subprocess.Process) -> None:
    """The platform died: the command says so, and the file is the user's to send again."""
    _, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 1
    assert b"no answer from" in err


def uploads_in(stack: Stack) -> list[tuple[str, int]]:
    """(id, frames) of every upload in the log."""
    found: dict[str, int] = {}
    with SqliteLog.open(stack.site.log_db) as log:
        _, records = log.read(0, 1 << 30)
    for record in records:
        if record.kind == Kind.REFERENCE:
            ref = decode_reference(record.body)
            assert isinstance(ref, UploadRef)
            assert ref.id not in found, "the file was appended twice"
            found[ref.id] = 0
        elif record.node == "upload":
            found[next(reversed(found))] += 1
    return list(found.items())


def listed(stack: Stack, athlete: str) -> dict[str, Any]:
    """`GET /activities` of an athlete."""
    api = stack.site.settings.api
    url = f"http://{api.host}:{api.port}/api/v1/activities?athlete={athlete}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api.token.get_secret_value()}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


async def finished(stack: Stack, athlete: str, count: int = 1) -> list[dict[str, Any]]:
    """The finished activities of an athlete, from the API, once there are `count`."""
    deadline = time.monotonic() + 90
    while True:
        page = await asyncio.to_thread(listed, stack, athlete)
        if len(page["activities"]) >= count:
            return page["activities"]
        assert time.monotonic() < deadline, (page, stack.tail("platform"))
        await asyncio.sleep(0.2)


async def test_files_uploaded_while_a_gym_streams(tmp_path: Path) -> None:
    first, second = ride(tmp_path / "first ride.fit", 2_000), ride(tmp_path / "second.fit", 4_000, start_us=START_US + 10**11)
    async with Stack(tmp_path / "site", gym_of(7, 3, 120)) as stack:
        publish_site(stack.site)
        gym = stack.gym()
        await gym.start()
        try:
            said = await taken(stack, first)
            assert (said["format"], said["sport"], said["samples"], said["repeated"], said["damage"]) == (
                "fit",
                "cycling",
                2_000,
                False,
                None,
            )
            (activity,) = await finished(stack, "ann")
            assert (activity["start_us"], activity["end_us"]) == (START_US, START_US + 1_999_000_000)
            assert (activity["sport"], activity["hr_max_bpm"]) == ("ride", 149)
            assert (await taken(stack, first))["repeated"]
            await killed_in_the_middle(stack, second)
            assert await gym.wait_drained(120), "devices still owe frames"
        finally:
            report = await gym.stop()
        assert (await taken(stack, first))["repeated"]
        assert (await taken(stack, second))["repeated"]
        await finished(stack, "ann", 2)
        owed = [frame_of(made) for made in report.truth]
        files = [read_upload(TENANT, "ann", path.name, path.read_bytes(), START_US + 10**13) for path in (first, second)]
        owed += [("upload", frame) for file in files for frame in file.frames]
        assert uploads_in(stack) == [(file.ref.id, len(file.frames)) for file in files]
        await stack.settled(len(owed))
        await stack.end("platform")
        assert stack.fingerprint() == undisturbed(tmp_path / "undisturbed", owed)
    db = connect(stack.state, write=False)
    rows = [row.summary for row in finals(db, f"{TENANT}/ann")]
    db.close()
    assert sorted((row.start_us, row.samples) for row in rows) == [(START_US, 2_000), (START_US + 10**11, 4_000)]


async def killed_in_the_middle(stack: Stack, path: Path) -> None:
    """kill -9 of the platform while it reads, before and after it appends: the log has nothing of the file, or all of it."""
    before = uploads_in(stack)
    process = await upload(stack, path, "ann")
    deadline = time.monotonic() + 60
    while not (readers := readers_of(stack.pid("platform"))):
        assert time.monotonic() < deadline, stack.tail("platform")
        await asyncio.sleep(0.01)
    await stack.kill("platform")
    await answered_by_nobody(process)
    assert uploads_in(stack) == before
    await ended(readers)
    for point, whole in (("upload.before_append", False), ("upload.after_append", True)):
        await stack.start("platform", kill_at=f"{point}:1")
        process = await upload(stack, path, "ann")
        assert await stack.died("platform", 120)
        await answered_by_nobody(process)
        found = uploads_in(stack)
        assert found[: len(before)] == before
        assert [frames for _, frames in found[len(before) :]] == ([134] if whole else [])
    await stack.start("platform")


async def ended(pids: list[int]) -> None:
    """Readers do not outlive their platform."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a reader outlived its platform"
        await asyncio.sleep(0.05)


async def test_a_file_that_kills_its_readers_ends_neither_platform_nor_live(tmp_path: Path) -> None:
    """The readers are killed from outside at work, as a parser that crashes would be; live frames go on meanwhile."""
    path = ride(tmp_path / "bomb.fit", 6_000)
    async with Stack(tmp_path / "site", gym_of(8, 2, 30)) as stack:
        publish_site(stack.site)
        gym = stack.gym()
        await gym.start()
        process = await upload(stack, path, "ann")
        killed: set[int] = set()
        while process.returncode is None:
            for pid in readers_of(stack.pid("platform")):
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):  # it is dead already
                    os.kill(pid, 9)
            await asyncio.sleep(0.01)
        out, _ = await process.communicate()
        (said,) = json.loads(out)
        assert said["error"].startswith("bomb.fit: reading it ended the reader 2 times")
        assert len(killed) == 2
        assert stack.runs("platform")
        assert (await taken(stack, path, "bob"))["samples"] == 6_000
        assert await gym.wait_drained(120)
        report = await gym.stop()
        assert report.frames_refused == 0
        assert [frames for _, frames in uploads_in(stack)] == [200]
