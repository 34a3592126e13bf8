"""Waits that end: work that returns, fails, hangs, or does not want to be cancelled."""

from __future__ import annotations

import asyncio

import pytest

from gateway import bounded as module
from gateway.bounded import bounded, left_behind


@pytest.fixture(autouse=True)
def little_grace(monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 0.05)


async def value() -> int:
    return 7


async def failing() -> int:
    raise ValueError("no")


async def hanging(ended: list[str], *, stubborn: int = 0) -> None:
    for _ in range(stubborn + 1):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
    raise asyncio.CancelledError


async def test_result_and_error_pass():
    assert await bounded(value(), 60) == 7
    with pytest.raises(ValueError, match="no"):
        await bounded(failing(), 60)


async def test_work_that_hangs_is_cancelled_and_one_that_hangs_in_its_clean_up_too():
    for stubborn in (0, 1, 2):
        ended: list[str] = []
        with pytest.raises(TimeoutError):
            await bounded(hanging(ended, stubborn=stubborn), 0.01)
        assert len(ended) == stubborn + 1
    assert not left_behind


async def test_work_that_survives_every_cancellation_is_left_behind_and_counted():
    ended: list[str] = []
    with pytest.raises(TimeoutError):
        await bounded(hanging(ended, stubborn=4), 0.01)
    (task,) = left_behind
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert not left_behind


async def test_cancelled_caller_waits_for_the_end_of_the_work():
    ended: list[str] = []
    caller = asyncio.create_task(bounded(hanging(ended, stubborn=1), 60))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == ["cancelled", "cancelled"]
