"""`paceline node check` against real devices on its own broker: the simulated one passes, devices broken on purpose are found out."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

from paceline.link import Link
from paceline.node_check import CheckPlan, check_own
from paceline.node_rules import Verdict
from simulators.device import Message, SimDevice
from simulators.numbering import MakerSettings
from simulators.swarm import Endpoint, Swarm, SwarmNode
from simulators.truth import Truth
from tests.firmware import command, environment
from tests.firmware_site import SCRIPT

PLAN = CheckPlan(first_message_s=60.0, silence_s=7.0, after_ack_s=4.0, down_s=1.0, return_s=60.0)


class Amnesiac(SimDevice):
    """Changes what it sends again."""

    def tick(self, now_us: int) -> list[Message]:
        return [(name, body[:-1] + bytes([time.monotonic_ns() & 0x7F])) for name, body in super().tick(now_us)]


class Deaf(SimDevice):
    """Does not listen to acks."""

    def on_message(self, name: str, payload: bytes) -> None:
        return


class Impatient(SimDevice):
    """Sends everything it owes all the time."""

    def tick(self, now_us: int) -> list[Message]:
        self.outbox.link_changed()
        return super().tick(now_us)


def make(kind: type[SimDevice]) -> SimDevice:
    values = iter(range(10_000))
    settings = MakerSettings("check", "device", "device", 5, time.time_ns() // 1000, subject="check/ann", period_us=300_000)
    return kind(settings, lambda: {"hr_bpm": 100.0 + next(values) % 50}, Truth())


async def verdicts_of(kind: type[SimDevice]) -> dict[str, Verdict]:
    swarms: list[Swarm] = []
    tasks: list[asyncio.Task[None]] = []

    def start(link: Link) -> None:
        device = make(kind)
        swarm = Swarm(
            [SwarmNode(device, (Endpoint(link.host, link.port),))], {link.user: link.secret}, seed=5, start_us=device.settings.start_us,
            clock=lambda: time.time_ns() // 1000,
        )  # fmt: skip
        swarms.append(swarm)
        tasks.append(asyncio.create_task(swarm.start()))

    try:
        return {v.rule: v for v in await check_own("check", "device", PLAN, start)}
    finally:
        for swarm in swarms:
            await swarm.stop()
        await asyncio.gather(*tasks, return_exceptions=True)


async def verdicts_of_c(folder: Path) -> dict[str, Verdict]:
    """The device of the wire document, compiled here."""
    binary = folder / "device"
    done = subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-o", str(binary), "examples/device.c"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    devices: list[subprocess.Popen[bytes]] = []

    def start(link: Link) -> None:
        devices.append(subprocess.Popen([str(binary), link.host, str(link.port), link.user, link.secret]))

    try:
        return {v.rule: v for v in await check_own("check", "device", PLAN, start)}
    finally:
        for device in devices:
            device.terminate()
            device.wait(10)


async def verdicts_of_kit(folder: Path) -> dict[str, Verdict]:
    """A device of the kit, on MicroPython with a flash of its own."""
    who = {
        "tenant": "check",
        "node": "device",
        "device": "device",
        "kind": "strap",
        "subject": "check/ann",
        "utc_us": time.time_ns() // 1000,
    }
    how = {"frames": 100_000, "period_ms": 300, "samples": 1, "sectors": 16, "image": str(folder / "device.nor"), "retry_ms": 2500}
    devices: list[subprocess.Popen[bytes]] = []

    def start(link: Link) -> None:
        path = folder / "device.json"
        path.write_text(json.dumps({**who, **how, "host": link.host, "port": link.port, "password": link.secret}))
        line = command("micropython", SCRIPT, str(path))
        devices.append(subprocess.Popen(line, env=environment("micropython"), stdout=subprocess.DEVNULL))

    try:
        return {v.rule: v for v in await check_own("check", "device", PLAN, start)}
    finally:
        for device in devices:
            device.kill()
            device.wait(60)


async def test_right_devices_pass_and_each_broken_one_is_found_out(tmp_path: Path) -> None:
    kinds: dict[type[SimDevice], set[str]] = {SimDevice: set(), Amnesiac: {"identical"}, Deaf: {"stored", "refused"}, Impatient: {"flood"}}
    foreign = (verdicts_of_c(tmp_path), verdicts_of_kit(tmp_path))
    in_c, of_kit, *simulated = await asyncio.gather(*foreign, *(verdicts_of(kind) for kind in kinds))
    for verdicts in (in_c, of_kit, simulated[0]):
        assert {rule: v.found for rule, v in verdicts.items() if v.state == "broken"} == {}
        assert {rule for rule, v in verdicts.items() if v.state == "not seen"} == {"json"}
    for expected, verdicts in zip(kinds.values(), simulated, strict=True):
        assert {rule for rule, verdict in verdicts.items() if verdict.state == "broken"} >= expected, verdicts
