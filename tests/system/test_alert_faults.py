"""Alerts by real faults: the processes of a site with something really wrong, looked at as Prometheus would and judged by its engine. Each
look stands for minutes of scrapes: the time of the rules is told, not waited for.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from paceline.role_view import role_views
from paceline.site import publish_site
from tests.operator_check import asked
from tests.servers import PROJECT
from tests.small_disks import small_disk_at
from tests.system.stack import Stack, gym_of
from tests.system.test_commands import bad_message
from tests.system.test_platform_disk import fill

RULES = PROJECT / "deploy" / "prometheus" / "alerts.yml"
LIMIT_S = 300.0
STEP_S = 15.0
SMALL = {"PacelineDiskLow"}  # of a disk of 300 MB it is true all the time
FIRED = {  # what each fault must fire; a fault may have more consequences
    "a stranger sends what is no bundle": {"PacelineRefuses"},
    "another program holds the state file": {"PacelineStageFails", "PacelineStageBehind", "PacelineNotReady"},
    "the disk is full": {"PacelineCannotStore"},
    "the broker is gone": {"PacelineLinkDown", "PacelineNotReady"},
    "the box is too small for its hall": {"PacelineSpoolFills"},
    "the box is gone": {"PacelineAway"},
    "the platform is killed again and again": {"PacelineRestarts"},
}
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(2_400)]


@pytest.fixture
def small_site(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 300 MB in the place of the data folder. Mounting needs root."""
    with small_disk_at(tmp_path / "site", 300) as folder:
        yield folder


def look(data: Path) -> dict[str, str]:
    """What Prometheus would scrape of each process now; nothing of one that does not answer."""
    texts: dict[str, str] = {}
    for view in role_views(data):
        try:
            texts[view.role] = view.get("/metrics")[1]
        except OSError:
            texts[view.role] = ""
    return texts


def alerts(*looks: dict[str, str], minutes: float = 8.0) -> set[str]:
    """Which alerts fire when each look stands for so many minutes of scrapes."""
    steps = round(minutes * 60 / STEP_S)
    scrapes = [
        {"t_s": STEP_S * (steps * place + step), "labels": {"job": "paceline", "instance": f"{role}:9100"}, "text": text}
        for place, texts in enumerate(looks)
        for step in range(steps)
        for role, text in texts.items()
    ]
    return set(asked("alerts", RULES, given="\n".join(map(json.dumps, scrapes))))


async def until(what: Callable[[], object], why: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(what):
        assert time.monotonic() < deadline_s, why()
        await asyncio.sleep(0.5)


class Watched:
    """A site, what was seen of it while all was well, and which rules its faults fired."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.well: dict[str, str] = {}
        self.now: set[str] = set()
        self.fired: dict[str, set[str]] = {}

    async def is_well(self) -> None:
        """Wait until no alert fires but that of the small disk."""

        def none() -> bool:
            self.well = look(self.stack.site.data)
            self.now = alerts(self.well)
            return self.now == SMALL and len(self.well) == len(self.stack.roles)

        await until(none, lambda: f"not well again: {self.now}")

    async def fires(self, fault: str) -> None:
        """Wait until the rules fire that the fault is known by."""

        def all_of_them() -> bool:
            self.now = alerts(self.well, look(self.stack.site.data))
            return self.now >= FIRED[fault]

        await until(all_of_them, lambda: f"{fault}: {FIRED[fault] - self.now} did not fire, {self.now} did")
        self.fired[fault] = self.now - SMALL


async def test_rules_fire_by_what_is_really_wrong_and_none_when_it_is_mended(small_site: Path) -> None:
    async with Stack(small_site, gym_of(51, 4, 8_000, speed=4.0)) as stack:
        publish_site(stack.site)
        watched, gym = Watched(stack), stack.gym()
        await gym.start()
        try:
            await until(lambda: stack.counted("member") >= 30, lambda: stack.tail("platform"))
            await watched.is_well()

            await bad_message(stack.site)
            await watched.fires("a stranger sends what is no bundle")
            await watched.is_well()

            with closing(sqlite3.connect(stack.state, isolation_level=None, timeout=60)) as other:
                other.execute("BEGIN IMMEDIATE")
                await watched.fires("another program holds the state file")
            await watched.is_well()

            ballast = fill(small_site)
            await watched.fires("the disk is full")
            ballast.unlink()
            await watched.is_well()

            await stack.kill("broker-central")
            await watched.fires("the broker is gone")
            await stack.start("broker-central")
            await watched.is_well()

            await stack.kill("gateway")
            await watched.fires("the box is gone")
            large = stack.roles["gateway"]
            stack.roles["gateway"] = replace(large, env={**large.env, "PACELINE_GATEWAY__SPOOL__CAP_BYTES": "1000000"})
            await stack.start("gateway")
            await watched.fires("the box is too small for its hall")
            await stack.end("gateway")
            stack.roles["gateway"] = large
            await stack.start("gateway")
            await watched.is_well()

            looks = [watched.well]
            for _ in range(3):
                await stack.kill("platform")
                await stack.start("platform")
                looks.append(await asyncio.to_thread(look, small_site))
            watched.fired["the platform is killed again and again"] = found = (
                await asyncio.to_thread(lambda: alerts(*looks, minutes=3)) - SMALL
            )
            assert found >= FIRED["the platform is killed again and again"], found
            await watched.is_well()
        finally:
            await gym.stop()
    print(f"\nfired by what was really wrong: {len(set().union(SMALL, *watched.fired.values()))} of {len(asked('rules', RULES))} rules")
    for fault, found in {"a disk of 300 MB": SMALL, **watched.fired}.items():
        print(f"{fault}: {', '.join(sorted(found))}")
