"""Liveness and what the service manager is told of it: a part that stands still with work before it ends the feeding of the watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import pytest

from broker.liveness import Liveness, unwatched
from gateway.notify import Notifier, keep_told, notifier_of
from gateway.spool import Spool, SpoolRow, SpoolSettings

LIMIT_S = 60.0


class FakeClock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def manager(tmp_path: Path):
    """A service manager: what comes to its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


async def heard(manager: socket.socket) -> dict[str, str]:
    async with asyncio.timeout(60):
        raw = await asyncio.get_running_loop().sock_recv(manager, 4096)
    return dict(line.split("=", 1) for line in raw.decode().split("\n"))


def test_a_part_at_rest_is_never_late(clock: FakeClock) -> None:
    liveness = Liveness(clock)
    liveness.part("near", LIMIT_S)
    clock.now_s = 1e9
    assert liveness.stalled() == ()


def test_work_without_a_sign_of_progress_within_the_limit_is_a_stall(clock: FakeClock) -> None:
    liveness = Liveness(clock)
    part = liveness.part("spool", LIMIT_S)
    part.work()
    clock.now_s = LIMIT_S
    assert liveness.stalled() == ()
    clock.now_s = LIMIT_S + 0.1
    assert liveness.stalled() == ("spool",)


def test_more_work_does_not_put_off_what_is_due(clock: FakeClock) -> None:
    liveness = Liveness(clock)
    part = liveness.part("spool", LIMIT_S)
    for _ in range(100):
        part.work()
        clock.now_s += 1.0
    assert liveness.stalled() == ("spool",)


def test_a_beat_puts_it_off_and_rest_ends_it(clock: FakeClock) -> None:
    liveness = Liveness(clock)
    busy, done = liveness.part("uplink", LIMIT_S), liveness.part("near", LIMIT_S)
    busy.work()
    done.work()
    clock.now_s = LIMIT_S - 1
    busy.beat()
    done.rest()
    clock.now_s = 2 * LIMIT_S - 1
    assert liveness.stalled() == ()
    clock.now_s = 2 * LIMIT_S
    assert liveness.stalled() == ("uplink",)


def test_the_same_name_is_the_same_part(clock: FakeClock) -> None:
    liveness = Liveness(clock)
    assert liveness.part("uplink", LIMIT_S) is liveness.part("uplink", LIMIT_S)


def test_nobody_watches_an_unwatched_part() -> None:
    part = unwatched()
    part.work()
    assert part.late_s(1e12) <= 0


async def test_a_writer_thread_that_hangs_is_a_stall_and_a_free_one_is_not(tmp_path: Path, clock: FakeClock) -> None:
    liveness = Liveness(clock)
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(), alive=liveness.part("spool", LIMIT_S))
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(60)

    spool._writer.flush(hang)  # runs in the writer's thread
    assert await asyncio.to_thread(entered.wait, 60)
    appended = asyncio.ensure_future(spool.append([SpoolRow(b"x" * 40, "w-1", None)]))
    await asyncio.sleep(0)
    assert liveness.stalled() == ()
    clock.now_s = LIMIT_S + 1
    assert liveness.stalled() == ("spool",)
    release.set()
    await asyncio.wait_for(appended, 60)
    await spool.close()
    clock.now_s *= 2
    assert liveness.stalled() == ()


async def test_an_idle_spool_is_well_for_ever(tmp_path: Path, clock: FakeClock) -> None:
    liveness = Liveness(clock)
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(free_after_s=0.05), alive=liveness.part("spool", LIMIT_S))
    first = await spool.append([SpoolRow(b"x" * 40, "w-1", None)])
    spool.free([(first, first)])
    await spool.flush(60)
    await spool.flush(60)  # the round after: what the one before settled is shown
    clock.now_s = 1e6
    assert liveness.stalled() == ()
    await spool.close()


def test_watchdog_time_is_ours_only_with_our_process_id() -> None:
    env = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "60000000"}
    assert notifier_of(env, 7).watchdog_s == 60.0
    assert notifier_of({**env, "WATCHDOG_PID": "7"}, 7).watchdog_s == 60.0
    assert notifier_of({**env, "WATCHDOG_PID": "8"}, 7).watchdog_s is None
    assert notifier_of({**env, "WATCHDOG_USEC": "soon"}, 7).watchdog_s is None
    assert notifier_of({"WATCHDOG_USEC": "60000000"}, 7).watchdog_s is None
    assert notifier_of({**env, "NOTIFY_SOCKET": "vsock:2:1"}, 7).watchdog_s is None


def test_no_manager_and_a_manager_that_is_gone_disturb_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier().tell("READY=1")
    gone = Notifier(str(tmp_path / "nobody"), 1.0)
    gone.tell("READY=1")
    gone.tell("WATCHDOG=1")
    assert len(caplog.records) == 1


async def test_an_abstract_socket_is_reached(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0paceline-{tmp_path}"[:100])
        sock.setblocking(False)
        Notifier("@" + sock.getsockname()[1:].decode()).tell("READY=1")
        assert await heard(sock) == {"READY": "1"}


async def test_ready_comes_first_then_the_watchdog_is_fed_until_the_end(tmp_path: Path, manager: socket.socket, clock: FakeClock) -> None:
    task = asyncio.create_task(keep_told(Notifier(str(tmp_path / "notify"), 0.04), Liveness(clock), lambda: "uplink\nup"))
    assert await heard(manager) == {"READY": "1", "STATUS": "uplink up"}
    for _ in range(3):
        assert await heard(manager) == {"WATCHDOG": "1", "STATUS": "uplink up"}
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_watchdog_starves_while_a_part_hangs_and_is_fed_again(
    tmp_path: Path, manager: socket.socket, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    liveness = Liveness(clock)
    part = liveness.part("uplink", LIMIT_S)
    part.work()
    clock.now_s = LIMIT_S + 1
    task = asyncio.create_task(keep_told(Notifier(str(tmp_path / "notify"), 0.04), liveness, lambda: "all is well"))
    assert "READY" in await heard(manager)
    for _ in range(5):
        assert await heard(manager) == {"STATUS": "no progress: uplink"}
    part.beat()
    while "WATCHDOG" not in await heard(manager):
        pass
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [r.levelname for r in caplog.records if "progress" in r.message] == ["ERROR", "WARNING"]  # once each, not at every look
