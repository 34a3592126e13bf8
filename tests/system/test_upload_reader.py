"""The process that reads uploaded files: it finds what the pure reader finds, and neither its death nor its greed is the platform's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from broker.errors import BadInputError, StoreError
from device_profiles.files import Point, Points, Recording
from device_profiles.files.fit_writing import encode_fit
from processors import upload_reader
from processors.log import SqliteLog
from processors.upload_file import read_upload, records_of
from processors.upload_process import ReaderLimits, found_in, read_apart
from processors.upload_reader import answer, decode_message, encode_message
from processors.uploads import Uploads
from tests.unit.test_files_fuzz import FILES

T = TypeVar("T")
NOW_US = 1_790_000_000_000_000
START_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def long_file() -> bytes:
    """Two hours and more: seconds to read."""
    points = [Point(START_US + s * 1_000_000, 46.5 + s * 1e-5, 7.25, hr_bpm=120.0) for s in range(10_000)]
    return encode_fit(Recording(Points.of(points)))


def apart(raw: bytes, limits: ReaderLimits | None = None) -> Callable[[], object]:
    return lambda: read_apart("gym", "ann", "my ride.fit", raw, NOW_US, limits)


def readers_of(parent: int) -> list[int]:
    """The process ids of the readers a process has under way, by /proc."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread or a child that ended meanwhile
            for pid in task.read_text().split():
                with contextlib.suppress(OSError):
                    if b"processors.upload_reader" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.append(int(pid))
    return found


def killing(deaths: int) -> Iterator[int]:
    """kill -9 of the next `deaths` readers of this process, each as soon as it is seen at work."""
    for _ in range(deaths):
        deadline = time.monotonic() + 60
        while not (pids := readers_of(os.getpid())):
            assert time.monotonic() < deadline, "no reader was started"
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        yield pids[0]
        while pids[0] in readers_of(os.getpid()):
            time.sleep(0.01)


@pytest.mark.parametrize("kind", FILES)
def test_a_reader_finds_what_the_pure_reader_finds(kind: str) -> None:
    pure = read_upload("gym", "ann", "a/my ride", FILES[kind], NOW_US)
    found = read_apart("gym", "ann", "a/my ride", FILES[kind], NOW_US)
    assert (found.ref, found.records) == (pure.ref, records_of(pure, NOW_US))
    assert (found.samples, found.skipped, found.damage) == (pure.samples, pure.skipped, pure.damage)


def test_a_reader_killed_by_accident_is_replaced(long_file: bytes) -> None:
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(read_apart, "gym", "ann", "ride.fit", long_file, NOW_US)
        assert len(list(killing(1))) == 1
        assert job.result(60).samples == 10_000


def test_a_file_that_kills_its_readers_is_refused_and_the_next_one_is_taken(long_file: bytes, tmp_path: Path) -> None:
    with SqliteLog.open(tmp_path / "log.db") as log, ThreadPoolExecutor(1) as pool:
        taken = Uploads(log, clock_us=lambda: NOW_US)
        job = pool.submit(taken.accept, "gym", "ann", "my ride.fit", long_file)
        assert len(set(killing(2))) == 2
        with pytest.raises(BadInputError, match=r"^my ride\.fit: reading it ended the reader 2 times \(signal 9\)") as caught:
            job.result(60)
        assert "split" in caught.value.cure
        assert log.end() == 0
        assert not taken.accept("gym", "ann", "next.fit", FILES["fit"]).known
        assert log.end() > 1
        taken.close()


def test_a_platform_that_stops_does_not_wait_for_a_file(long_file: bytes, tmp_path: Path) -> None:
    with SqliteLog.open(tmp_path / "log.db") as log, ThreadPoolExecutor(1) as pool:
        taken = Uploads(log, clock_us=lambda: NOW_US)
        job = pool.submit(taken.accept, "gym", "ann", "my ride.fit", long_file)
        deadline = time.monotonic() + 60
        while not readers_of(os.getpid()):
            assert time.monotonic() < deadline, "no reader was started"
            time.sleep(0.01)
        taken.close()
        with pytest.raises(StoreError, match=r"^my ride\.fit: not taken, the platform stops"):
            job.result(60)
        with pytest.raises(StoreError, match="the platform stops"):
            taken.accept("gym", "ann", "next.fit", long_file)
        assert log.end() == 0


@pytest.mark.parametrize(
    ("limits", "kind", "says"),
    [
        (ReaderLimits(memory_bytes=40 << 20), BadInputError, r"takes more than 42 MB of memory"),
        (ReaderLimits(cpu_s=1.0, cpu_s_per_mb=0.0, wall_share=250.0), BadInputError, r"takes more than 1 CPU-seconds"),
        (ReaderLimits(wall_share=0.01), StoreError, r"not taken, reading it took more than 0 s"),
    ],
)
def test_a_file_beyond_a_limit_of_its_reader_is_refused_by_name(limits: ReaderLimits, kind: type[Exception], says: str) -> None:
    points = Points.of(Point(START_US + s * 1_000_000, 46.5, 7.25, power_w=200.0) for s in range(40_000))
    with pytest.raises(kind, match=rf"^my ride\.fit: .*{says}"):
        apart(encode_fit(Recording(points)), limits)()
    assert not readers_of(os.getpid())


def test_a_file_of_mere_bytes_within_no_memory_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"my ride\.fit: reading it takes more than 105 MB of memory"):
        apart(bytes(60_000_000), ReaderLimits(memory_bytes=100 << 20))()


def test_a_reader_ends_with_its_parent(long_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ride.fit"
    path.write_bytes(long_file)
    script = (
        "import sys, pathlib; from processors.upload_process import read_apart\n"
        f"read_apart('gym', 'ann', 'x', pathlib.Path(sys.argv[1]).read_bytes() * 1, {NOW_US})"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (pids := readers_of(parent.pid)):
        assert time.monotonic() < deadline, "no reader was started"
        time.sleep(0.01)
    while b"SigIgn:\t0000000000000000" in (status := Path(f"/proc/{pids[0]}/status").read_bytes()):
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    while Path(f"/proc/{pids[0]}").exists():
        assert time.monotonic() < deadline, "the reader outlived its parent"
        time.sleep(0.05)


def test_the_watch_over_the_parent_ends_before_the_interpreter() -> None:
    """Its alarm has no handler while Python finalises: it must not go off then."""
    script = "from processors import upload_reader as r\nr._PARENT_S = 0.0005; r.main(1 << 30, 30)"
    asked = encode_message({"tenant": "gym", "athlete": "ann", "name": "x", "now_us": NOW_US}, FILES["gpx"])
    done = subprocess.run([sys.executable, "-c", script], input=asked, capture_output=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, b"")
    assert found_in(done.stdout, "x", ReaderLimits()).samples > 0


def test_a_reader_lets_sigterm_and_ctrl_c_pass(long_file: bytes) -> None:
    done: list[int] = []
    job = threading.Thread(target=lambda: done.append(read_apart("gym", "ann", "x", long_file, NOW_US).samples))
    job.start()
    seen: set[int] = set()
    while job.is_alive():
        for pid in readers_of(os.getpid()):
            with contextlib.suppress(OSError):  # it has just ended
                mask = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
                if int(mask.split()[1], 16) & (1 << (signal.SIGTERM - 1)):
                    os.kill(pid, signal.SIGTERM)
                    os.kill(pid, signal.SIGINT)
                    seen.add(pid)
        time.sleep(0.02)
    assert done == [10_000]
    assert len(seen) == 1


def test_an_error_of_the_reader_refuses_the_file_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(upload_reader, "read_upload", fails)
    said = answer({"tenant": "gym", "athlete": "ann", "name": "a.fit", "now_us": 1}, b"")
    with pytest.raises(BadInputError, match=r"^a\.fit: the reader fails on it \(KeyError: 'x'\)"):
        found_in(said, "a.fit", ReaderLimits())


@pytest.mark.parametrize(
    "said", [b"", b"x" * 30, encode_message({}, b""), encode_message({"samples": 1}, b"torn"), encode_message({}, b"")[:-1]]
)
def test_an_answer_that_is_none_takes_no_file(said: bytes) -> None:
    with pytest.raises(StoreError, match=r"^a\.fit: not taken, the reader of files answered nonsense"):
        found_in(said, "a.fit", ReaderLimits())
    with pytest.raises(ValueError, match="torn"):
        decode_message(said[:5])
