"""A load on a real mosquitto with ingest behind it: storms of reconnects lose nothing, and the command says what did not hold."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from simulators.load import run_load
from simulators.load_plan import LoadPlan
from simulators.load_report import LoadReport
from simulators.load_run import LoadSettings
from simulators.swarm import wall_us
from tests.identity_site import IdentitySite
from tests.load_site import load_site, logged
from tests.servers import PROJECT, ServedBroker, start_mosquitto

pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy


async def stormed(folder: Path, plan: LoadPlan, connects_per_s: float, processes: int, *, kill: bool) -> LoadReport:
    """The load through a storm in a third of its time and, with `kill`, before that a kill -9 of the broker; both lose nothing."""
    async with load_site(folder, plan) as broker:
        killing: list[asyncio.Task[None]] = []

        def began(started: LoadPlan) -> None:
            if kill:
                killing.append(asyncio.create_task(restarted(broker, started.start_us + round(plan.seconds / 6 * 1e6))))

        settings = LoadSettings(
            plan, broker.host, broker.port, broker.secrets, connects_per_s=connects_per_s, storm_at_s=plan.seconds / 3, drain_s=120
        )
        report = await run_load(settings, processes, began)
        for task in killing:
            await task
    counts = report.counts
    assert (counts.lost, counts.not_taken, counts.refused, counts.stored) == (0, 0, 0, counts.made)
    assert counts.made == plan.frames_per_s * plan.seconds
    assert counts.cuts >= plan.connections
    assert counts.connects >= plan.connections
    assert report.back_s is not None
    found = Counter(await asyncio.to_thread(logged, folder))
    assert len(found) == counts.made, "every frame is in the log, whatever was sent again"
    return report


async def stormed_by_certificates(folder: Path, nodes: int, seconds: int, frame_s: int, connects_per_s: int) -> str:
    """A storm by the command on a site whose broker knows every node by a certificate of its authority: nothing is lost, what it said."""
    async with IdentitySite(folder) as served:
        await served.start("platform")
        plan = ("--athletes", nodes, "--connections", nodes, "--seconds", seconds, "--frame-s", frame_s, "--connects-per-s", connects_per_s)
        more = ("--storm-at", seconds / 3, "--warm-s", 0, "--drain-s", 120, "--processes", 2, "--json")
        done = await paceline("--data", str(served.site.data), *map(str, (*plan, *more)), env=served.roles["platform"].env)
        await served.end("platform")
        assert sum(node.name.startswith("gym/load") for node in served.authority.book.nodes()) == nodes
        found = Counter(await asyncio.to_thread(logged, served.site.platform_dir))
    assert "Traceback" not in done.stderr, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert counts["made"] == nodes // frame_s * seconds, done.stdout
    assert (counts["lost"], counts["not_taken"], counts["refused"], counts["stored"]) == (0, 0, 0, counts["made"])
    assert counts["cuts"] >= nodes
    assert counts["connects"] >= nodes
    assert len(found) == counts["made"], "every frame is in the log, whatever was sent again"
    return done.stdout


async def restarted(broker: ServedBroker, at_us: int) -> None:
    await asyncio.sleep(max(at_us - wall_us(), 0) / 1e6)
    await broker.kill()
    await broker.start()


async def test_a_storm_of_reconnects_and_a_killed_broker_lose_nothing(tmp_path: Path) -> None:
    plan = LoadPlan("gym", 400, 200, 6, frame_s=1, run=3)
    await stormed(tmp_path, plan, 200, 2, kill=True)


async def test_a_storm_at_a_broker_that_knows_nodes_by_certificates_loses_nothing(tmp_path: Path) -> None:
    await stormed_by_certificates(tmp_path, 40, 3, 1, 100)


@pytest.mark.nightly
async def test_three_thousand_nodes_come_back_by_their_certificates(tmp_path: Path) -> None:
    print(await stormed_by_certificates(tmp_path, 3_000, 120, 30, 50))


@pytest.mark.nightly
async def test_ten_thousand_connections_come_back_at_ten_times_their_rate(tmp_path: Path) -> None:
    plan = LoadPlan("gym", 10_000, 10_000, 120, frame_s=30, run=3)
    report = await stormed(tmp_path, plan, 200, 2, kill=False)
    print(f"all back after {report.back_s:.1f} s, ack p99 under 500 ms after {report.recovered_s('ack', 500)} s")


async def test_what_nobody_answers_is_lost_and_the_command_says_so(tmp_path: Path) -> None:
    passwords = tmp_path / "load.json"
    drawn = await paceline("--draw-passwords", str(passwords), "--connections", "2", "--tenant", "gym")
    assert drawn.returncode == 0, drawn.stderr
    assert set(json.loads(passwords.read_text())) == {"gym/load00000", "gym/load00001"}
    async with start_mosquitto(tmp_path, tls=True) as broker:
        lines = (tmp_path / "load.json.hashed").read_text()
        broker.password_file.write_text(broker.password_file.read_text() + lines)
        await asyncio.to_thread(broker.reload)
        reach = ("--host", "localhost", "--port", str(broker.port), "--cafile", str(broker.cafile), "--passwords", str(passwords))
        load = ("--tenant", "gym", "--connections", "2", "--athletes", "8", "--seconds", "1", "--warm-s", "0", "--drain-s", "0", "--json")
        done = await paceline(*reach, *load)
        told = json.loads(done.stdout)
        assert (done.returncode, told["verdict"]) == (1, "FAIL")
        assert (told["counts"]["made"], told["counts"]["lost"], told["counts"]["stored"]) == (8, 8, 0)
        assert told["wrong"][0].startswith("8 of 8 frames were lost")
        passwords.write_text(json.dumps(dict.fromkeys(json.loads(passwords.read_text()), "wrong")))
        refused = await paceline(*reach, *load)
        assert refused.returncode == 1
        assert "refused with code 5" in refused.stderr
        assert "cure:" in refused.stderr


async def paceline(*args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paceline", "simulate", "fleet", *args]
    environment = {**os.environ, **(env or {})}
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=840, cwd=PROJECT, env=environment, check=False
    )
