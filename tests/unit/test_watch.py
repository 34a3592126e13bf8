"""Health and readiness of a process, and the HTTP that shows them, over a real socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from broker.errors import ConfigError
from broker.metric_list import INGEST_FRAMES
from broker.metrics import MetricsSettings
from broker.watch import Watch, in_loop
from broker.watch_server import MAX_REQUESTS, OPENMETRICS, watched
from paceline.supervise import free_port

LIMIT_S = 60.0


class FakeClock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def address(folder: Path, role: str = "test") -> tuple[str, int]:
    said = json.loads((folder / f"{role}.json").read_text())
    return said["host"], said["port"]


def fetched(at: tuple[str, int], path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(*at, timeout=LIMIT_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    finally:
        connection.close()


async def get(folder: Path, path: str) -> tuple[int, str, bytes]:
    return await asyncio.to_thread(fetched, address(folder), path)


def test_process_lives_until_a_loop_with_work_stands_still() -> None:
    clock = FakeClock()
    watch = Watch("test", clock=clock)
    part = watch.part("runner", 10.0)
    part.beat()
    clock.now_s = 10.0
    assert watch.health() == (True, {"live": True, "role": "test", "stands_still": []})
    clock.now_s = 10.1
    assert watch.health() == (False, {"live": False, "role": "test", "stands_still": ["runner"]})
    part.beat()
    assert watch.health()[0]


def test_readiness_names_every_reason() -> None:
    def broken() -> str:
        raise ValueError("closed")

    watch = Watch("test")
    up = False
    watch.link("central", lambda: up, lambda: "refused with code 5")
    watch.ready_when("stage", lambda: "")
    watch.ready_when("page", broken)
    ok, said = watch.readiness()
    assert not ok
    assert said["reasons"] == {"central": "refused with code 5", "page": "cannot be told: ValueError: closed"}
    assert said["conditions"] == ["central", "page", "stage"]


def test_drain_ends_readiness_for_good_and_tells_once() -> None:
    watch = Watch("test")
    told: list[int] = []
    watch.when_draining(lambda: told.append(1))
    assert watch.readiness()[0]
    watch.drain()
    watch.drain("again")
    assert watch.readiness()[1]["reasons"] == {"stop": "is stopping"}
    assert told == [1]
    assert watch.health()[0]


async def test_figures_health_and_readiness_are_served_and_end_with_the_process(tmp_path: Path) -> None:
    watch = Watch("test")
    reason = ""
    watch.ready_when("page", lambda: reason)
    watch.measure(lambda: [INGEST_FRAMES.of(3)])
    async with watched(watch, MetricsSettings(), tmp_path):
        status, kind, body = await get(tmp_path, "/metrics")
        assert (status, kind) == (200, OPENMETRICS)
        found = {sample.name: sample.value for family in text_string_to_metric_families(body.decode()) for sample in family.samples}
        assert found["paceline_ingest_frames_total"] == 3
        assert found["paceline_ready"] == found["paceline_live"] == 1
        assert (await get(tmp_path, "/healthz"))[0] == (await get(tmp_path, "/readyz"))[0] == 200
        reason = "does not listen yet"
        status, kind, body = await get(tmp_path, "/readyz?verbose")
        assert (status, kind) == (503, "application/json")
        assert json.loads(body)["reasons"] == {"page": reason}
        assert (await get(tmp_path, "/nothing"))[0] == 404
        assert (await asyncio.to_thread(fetched, address(tmp_path), "/metrics", "POST"))[0] == 501
        at = address(tmp_path)
    with pytest.raises(OSError):
        socket.create_connection(at, 1.0)


async def test_hanging_event_loop_is_told_from_outside_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.watch.LOOP_ANSWERS_S", LIMIT_S)
    clock = FakeClock()
    watch = Watch("test", clock=clock)
    async with watched(watch, MetricsSettings(), tmp_path):
        await asyncio.sleep(0)
        watch.measure(in_loop(lambda: [INGEST_FRAMES.of(3)]))
        assert b"paceline_ingest_frames_total 3" in (await get(tmp_path, "/metrics"))[2]
        monkeypatch.setattr("broker.watch.LOOP_ANSWERS_S", 0.5)
        clock.now_s += 1000.0  # nothing beats from here on: this thread holds the loop
        status, _, body = fetched(address(tmp_path), "/healthz")
        assert status == 503
        assert json.loads(body)["stands_still"] == ["event_loop"]
        text = fetched(address(tmp_path), "/metrics")[2]
        assert b"paceline_ingest_frames_total" not in text
        assert b"paceline_metric_source_failures_total 1" in text
        assert b"paceline_live 0" in text


async def test_readers_that_say_nothing_keep_out_at_most_so_many_and_only_for_a_while(tmp_path: Path) -> None:
    async with watched(Watch("test"), MetricsSettings(), tmp_path):
        silent = [socket.create_connection(address(tmp_path), LIMIT_S) for _ in range(MAX_REQUESTS)]
        try:
            until_s = time.monotonic() + LIMIT_S
            while True:
                try:
                    if (await get(tmp_path, "/healthz"))[0] == 200:
                        break
                except OSError:
                    assert time.monotonic() < until_s
                    await asyncio.sleep(0.1)
        finally:
            for connection in silent:
                connection.close()


async def test_port_in_use_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"metrics.port {port} on 127.0.0.1 cannot be used") as told:
            async with watched(Watch("test"), MetricsSettings(port=port), tmp_path):
                pass
    assert "metrics.enabled" in told.value.cure


async def test_given_port_is_used_and_free_again_after(tmp_path: Path) -> None:
    port = free_port()
    for _ in range(2):
        async with watched(Watch("test"), MetricsSettings(port=port), tmp_path):
            assert address(tmp_path) == ("127.0.0.1", port)
            assert (await get(tmp_path, "/healthz"))[0] == 200


async def test_switched_off_nothing_listens(tmp_path: Path) -> None:
    async with watched(Watch("test"), MetricsSettings(enabled=False), tmp_path):
        assert not list(tmp_path.iterdir())
