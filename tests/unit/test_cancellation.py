"""Loops that reconnect end when they are cancelled, also in the moment their session fails."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiomqtt
import pytest
from pydantic import SecretStr

from broker import cancellation
from broker.cancellation import heard, in_own_task
from gateway.keeping import keep_running
from processors.control import Control


async def failing_group(cancelled: asyncio.Task) -> None:
    """A session whose child fails in the same turn of the loop in which the task is cancelled."""

    async def child() -> None:
        cancelled.cancel()
        raise aiomqtt.MqttError("the broker went away")

    async with asyncio.TaskGroup() as group:
        group.create_task(child())
        await asyncio.sleep(10)


async def test_a_cancellation_in_the_moment_a_group_fails_gets_through() -> None:
    async def wrapped() -> None:
        await in_own_task(failing_group(asyncio.current_task()))

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wrapped())


async def test_failures_and_results_pass_through_and_a_failed_group_is_no_cancellation() -> None:
    async def fails() -> None:
        async def child() -> None:
            raise aiomqtt.MqttError("the broker went away")

        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    for _ in range(3):
        with pytest.raises(ExceptionGroup):
            await in_own_task(fails())
    assert asyncio.current_task().cancelling() == 0
    assert await in_own_task(asyncio.sleep(0, "done")) == "done"


async def test_work_that_swallows_a_cancellation_is_cancelled_again(monkeypatch) -> None:
    monkeypatch.setattr(cancellation, "_AGAIN_S", 0.01)
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        for _ in range(2):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(10)

    task = asyncio.create_task(in_own_task(deaf()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=60)
    assert task in done
    assert task.cancelled()
    assert swallowed == 2


async def test_a_cancellation_that_wait_for_swallows_is_raised_all_the_same() -> None:
    confirmed = asyncio.Event()

    async def reports() -> None:
        while True:
            confirmed.clear()
            await heard(asyncio.wait_for(confirmed.wait(), 60))

    task = asyncio.create_task(reports())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    confirmed.set()
    await asyncio.sleep(0)  # what is waited for ends in this turn, and the cancellation comes before anybody saw it
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=60)
    assert task in done
    assert task.cancelled()


async def test_what_is_heard_gives_results_and_failures() -> None:
    assert await heard(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ZeroDivisionError):
        await heard(asyncio.wait_for(failing(), 60))


async def failing() -> None:
    raise ZeroDivisionError


async def test_control_ends_when_cancelled_while_its_session_fails(tmp_path, monkeypatch) -> None:
    control = Control(tmp_path, "127.0.0.1", 1, SecretStr("x"))
    task = asyncio.create_task(control.run())
    monkeypatch.setattr(control, "_session", lambda: failing_group(task))
    done, _ = await asyncio.wait({task}, timeout=60)
    assert task in done
    assert task.cancelled()


async def test_keep_running_ends_when_cancelled_while_the_work_fails() -> None:
    crashes: Counter[str] = Counter()
    holder: list[asyncio.Task] = []

    async def work() -> None:
        try:
            await failing_group(holder[0])
        except BaseExceptionGroup as group:
            raise RuntimeError("the work failed") from group

    holder.append(asyncio.create_task(keep_running("work", work, crashes, random=lambda: 0.0)))
    done, _ = await asyncio.wait(holder, timeout=60)
    assert done
    assert holder[0].cancelled()
    assert not crashes
