"""The live page in a headless Chromium with 200 athletes who send once a second: the share of one core all its processes take, by view.

The page gets at most four states a second; how many it got stands beside each figure. Chromium draws in software here, so a machine with a
graphics card needs less. Baseline: the same browser on the health page, which only reads the stream. Aim: below 30 % of a core.

    python -m benchmarks.page [ATHLETES] [SECONDS]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine
from tests.chromium import open_chromium
from tests.page_world import LAP_M, US, Athlete, World, open_world, segment

VIEWS = {"wall": "", "ranking": "ranking", "course": "course", "segment": "segment/bend"}
SIZE = (1920, 1080)
BACK_S = 300


async def share_pct(world: World, route: str, seconds: float) -> dict[str, float]:
    """CPU of a fresh browser on a view, in percent of a core, once it is at rest; and how many states a second it got meanwhile."""
    async with open_chromium() as browser:
        page = await browser.page(*SIZE)
        await page.go(f"{world.url}#/{route}")
        await page.until("document.querySelector('#link').textContent === 'live'")
        await asyncio.sleep(4)
        began, cpu, events = time.monotonic(), browser.cpu_s(), page.events
        await asyncio.sleep(seconds)
        took_s = time.monotonic() - began
        return {"core_pct": round(100 * (browser.cpu_s() - cpu) / took_s, 1), "states_per_s": round((page.events - events) / took_s, 1)}


async def measured(count: int, seconds: float) -> dict[str, object]:
    """The figures on this machine."""
    with tempfile.TemporaryDirectory() as kept:
        async with open_world(Path(kept)) as world:
            world.refer(segment("bend", "The Bend", 300, 620))
            for i in range(count):
                world.add(Athlete(f"watch-{i:03d}", f"athlete-{i:03d}", 2.8 + (i * 7 % 23) / 12, 95 + i * 41 % 90, along_m=i * 97 % LAP_M))
            world.run(world.athletes, time.time_ns() // 1000 - BACK_S * US, BACK_S - 2)
            await world.serve()
            running = asyncio.create_task(world.keep_running([*world.athletes]))
            try:
                still = await share_pct(world, "health", seconds)
                found = {view: await share_pct(world, route, seconds) for view, route in VIEWS.items()}
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
    return {"name": "page", "figures": {"athletes": count, **found}, "baseline": {"health": still}, "machine": machine()}


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    print(json.dumps(asyncio.run(measured(given[0] if given else 200, given[1] if len(given) > 1 else 15))))
