"""A load from several processes: starts them, lets them begin at one moment, and puts their reports together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from broker.errors import LinkError
from simulators.load_plan import LoadPlan
from simulators.load_report import LoadCounts, LoadReport, PartTimes, put_together
from simulators.load_run import LoadSettings, settings_to_json
from simulators.swarm import password_of, wall_us

LEAD_US: Final = 1_500_000  # from everybody connected to the start: watchers get ready meanwhile
END_S: Final = 20.0

Progress = Callable[[Mapping[str, int]], None]


async def run_load(
    settings: LoadSettings, processes: int, on_start: Callable[[LoadPlan], None] | None = None, on_progress: Progress | None = None
) -> LoadReport:
    """The whole load. `on_start` is told the plan with its start once all are connected. LinkError when a process fails."""
    processes = min(processes, settings.plan.connections)
    orders = [_order(settings, index, processes) for index in range(processes)]
    children: list[asyncio.subprocess.Process] = []
    try:
        for order in orders:
            children.append(await _start(order))  # noqa: PERF401 - those that run are ended, should one not start
        for child in children:
            await _until(child, "connected")
        start_us = wall_us() + LEAD_US
        plan = replace(settings.plan, start_us=start_us)
        if on_start is not None:
            on_start(plan)
        for child in children:
            assert child.stdin is not None
            child.stdin.write(f"{start_us}\n".encode())
        latest: dict[int, Mapping[str, int]] = {}

        def went(index: int, said: Mapping[str, int]) -> None:
            latest[index] = said
            if on_progress is not None and len(latest) == len(children):
                on_progress({key: sum(each[key] for each in latest.values()) for key in said})

        said = await asyncio.gather(*(_until(child, "report", lambda s, i=i: went(i, s)) for i, child in enumerate(children)))
        from_us = start_us + round(settings.warm_s * 1e6)
        return put_together([_report(replace(settings, plan=plan), start_us, from_us, each, processes) for each in said])
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        for child in children:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), END_S)
            if child.returncode is None:
                child.kill()
                await child.wait()


def _order(settings: LoadSettings, index: int, of: int) -> bytes:
    """What a process is told: the load, with the passwords of its own nodes only. LinkError when one is missing."""
    plan = settings.plan
    own = [plan.who(node).username for node in range(index, plan.connections, of)]
    passwords = {user: password_of(settings.passwords, user) for user in own}
    told = {"settings": settings_to_json(replace(settings, passwords=passwords)), "index": index, "of": of}
    return json.dumps(told).encode() + b"\n"


async def _start(order: bytes) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "simulators.load_run", stdin=pipe, stdout=pipe, limit=1 << 26)
    assert child.stdin is not None
    child.stdin.write(order)
    return child


async def _until(child: asyncio.subprocess.Process, key: str, other: Callable[[Mapping[str, int]], None] | None = None) -> Any:
    """What the process says under `key`; other lines go to `other`."""
    assert child.stdout is not None
    async for line in child.stdout:
        said = json.loads(line)
        if key in said:
            return said[key]
        if "error" in said:
            raise LinkError(f"a process of the load failed: {said['error']}")
        if other is not None:
            other(said)
    raise LinkError(f"a process of the load ended with {await child.wait()}", cure="see what it wrote above")


def _report(settings: LoadSettings, start_us: int, from_us: int, said: Mapping[str, Any], processes: int) -> LoadReport:
    plan = settings.plan
    parts = {name: PartTimes.from_json(start_us, from_us, value) for name, value in said["parts"].items()}
    return LoadReport(
        LoadCounts(**said["counts"]), parts, said["seconds"], said["cpu_s"], plan.athletes, plan.connections, plan.frame_s, processes,
        settings.storm_at_s, said["back_s"],
    )  # fmt: skip
