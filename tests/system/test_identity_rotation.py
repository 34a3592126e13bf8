"""Certificates and roots change under load through a whole site on mosquitto: no frame is lost and none counts twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.identity import load_identity
from gateway.setup_credential import IDENTITY_FOLDER
from paceline.site_identity import open_authority
from tests.servers import find_or_install_mosquitto, library_environment
from tests.system.stack import Stack, frame_of, gym_of

# A certificate begins an hour ago, so one of 20 minutes is due at once (two thirds of 80) and each question brings a new one. None may run
# out while this runs: the broker lets nobody in by one that is over, and parts that start on a busy machine take minutes.
SHORT_DAYS = 20 / 1_440
SETTINGS = {"identity": {"life_days": SHORT_DAYS, "check_s": 1.0}}


def serial_of_box(stack: Stack) -> str:
    identity = load_identity(stack.site.gateway_dir / IDENTITY_FOLDER)
    assert identity is not None
    return identity.files.node_file.read_text()


@pytest.mark.parametrize("changes", [1, pytest.param(20, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
async def test_certificates_and_roots_rotate_under_load_and_nothing_is_lost_or_doubled(tmp_path: Path, changes: int) -> None:
    gym = gym_of(41, 4, 1_000_000, speed=4.0)
    mosquitto = find_or_install_mosquitto()
    central = {"kind": "mosquitto", "program": str(mosquitto)}
    async with Stack(tmp_path / "site", gym, settings={"central": central, **SETTINGS}, env=library_environment(mosquitto)) as stack:
        running = stack.gym()
        seen = {serial_of_box(stack)}
        await running.start()
        try:
            for change in range(changes):
                stored = stack.counted("member")
                await until(lambda stored=stored: stack.counted("member") > stored)
                with open_authority(stack.site) as authority:
                    root = authority.rotate()
                    await until(lambda: authority.behind() == [])
                    authority.retire()
                assert root.number == change + 2
                was = len(seen)
                await until(lambda was=was: not seen.add(serial_of_box(stack)) and len(seen) >= was + 2)
            running.end_samples()
            assert await running.wait_drained(120)
        finally:
            report = await running.stop()
        await stack.check([frame_of(made) for made in report.truth])


async def until(what, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not what():
            await asyncio.sleep(0.05)
