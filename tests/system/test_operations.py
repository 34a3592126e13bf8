"""What operators see of real processes: figures that add up, reasons when a link is away, and ends that lose nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from broker.metric_list import METRICS
from paceline.role_view import RoleView, role_views
from paceline.site import publish_site
from simulators.gym import run_gym
from tests.system.stack import Stack, frame_of, gym_of
from tests.system.test_faults import in_log

LIMIT_S = 60.0
PLATFORM_REASON = {"ingest", "control"}


def view(stack: Stack, role: str) -> RoleView:
    return next(one for one in role_views(stack.site.data) if one.role == role)


def read(of: RoleView) -> dict[str, float]:
    """Samples by name with their labels in braces; every one of ours stands in the list with its kind."""
    status, text = of.get("/metrics")
    assert status == 200
    kinds = {metric.name: metric.kind for metric in METRICS}
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("paceline_"):
            assert kinds[family.name] == family.type
        for sample in family.samples:
            labels = ",".join(sample.labels[name] for name in sorted(sample.labels))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def told(stack: Stack, role: str) -> dict[str, float]:
    """A look at which every source told its figures: on a busy machine one may be late and is left out of a look, which is counted."""
    failures = "paceline_metric_source_failures_total"
    looks: list[dict[str, float]] = [await asyncio.to_thread(read, view(stack, role))]

    def whole() -> bool:
        looks.append(read(view(stack, role)))
        return looks[-1][failures] == looks[-2][failures]

    await until(whole)
    return looks[-1]


async def until(what: Callable[[], object]) -> None:
    """Wait until `what()` holds; nobody answers is no."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if await asyncio.to_thread(what):
                return
        except (OSError, StopIteration):
            pass
        assert time.monotonic() < deadline, "not reached"
        await asyncio.sleep(0.05)


def ready(stack: Stack, role: str) -> bool:
    return not view(stack, role).reasons()


async def test_figures_add_up_and_a_broker_that_is_away_is_a_reason_and_no_end(tmp_path: Path) -> None:
    async with Stack(tmp_path / "site", gym_of(5, 4, 20)) as stack:
        publish_site(stack.site)
        assert stack.gym_settings is not None
        report = await run_gym(stack.gym_settings)
        await stack.settled(report.frames_made)
        for role in ("platform", "gateway", "broker-central", "broker-near"):
            await until(lambda role=role: ready(stack, role) and not view(stack, role).stands_still())
        figures = await told(stack, "platform")
        assert (
            figures["paceline_ingest_frames_total"] == len(in_log(stack)) >= report.frames_made
        )  # a box sends again what is long under way
        assert figures["paceline_stage_counts_total{frames,live}"] == report.frames_made
        assert figures["paceline_stage_lag_records{live}"] == figures["paceline_stage_lag_seconds{live}"] == 0
        assert figures["paceline_stage_position{live}"] == figures["paceline_log_end_position"]
        assert figures["paceline_nodes{online}"] == 1
        assert figures["paceline_state_size_bytes{log}"] > 0
        await until(lambda: read(view(stack, "gateway")).get("paceline_spool_rows") == 0)  # acks come after what they are for
        figures = await told(stack, "gateway")
        assert figures["paceline_spool_rows"] == 0
        assert figures["paceline_spool_cap_bytes"] == stack.site.settings.gateway.spool.cap_bytes
        assert figures["paceline_link_up{uplink}"] == figures["paceline_link_up{near}"] == 1

        await stack.kill("broker-central")
        await until(lambda: set(view(stack, "platform").reasons()) >= PLATFORM_REASON)
        await until(lambda: "uplink" in view(stack, "gateway").reasons())
        await until(lambda: not view(stack, "platform").stands_still())
        assert (await told(stack, "gateway"))["paceline_link_up{uplink}"] == 0
        await stack.start("broker-central")
        for role in ("platform", "gateway"):
            await until(lambda role=role: ready(stack, role))


async def test_every_role_ends_in_order_when_told_and_loses_nothing_and_no_secret_is_logged(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "site", gym_of(6, 4, 60))
    stack.roles = {name: replace(role, env={**role.env, "PACELINE_LOG__FORMAT": "json"}) for name, role in stack.roles.items()}
    async with stack:
        gym = stack.gym()
        await gym.start()
        try:
            for name in ("platform", "gateway", "broker-near", "broker-central"):
                process = stack._processes[name]
                await stack.end(name)
                assert process.returncode == 0, stack.tail(name)
                assert name not in {one.role for one in role_views(stack.site.data)}
                await stack.start(name)
            assert await gym.wait_drained(120)
        finally:
            report = await gym.stop()
        await stack.check([frame_of(one) for one in report.truth])
    secrets = json.loads((stack.site.secrets / "secrets.json").read_text()).values()
    for name in stack.roles:
        said = stack.log(name)
        assert not [secret for secret in secrets if secret in said]
        for line in said.splitlines():
            assert {"time", "level", "role", "logger", "message"} <= json.loads(line).keys()
