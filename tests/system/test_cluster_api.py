"""The API and the page of a cluster: real Kafka, stages, view and API processes, Chromium; what people change there is what all of them see."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from confluent_kafka import Producer

from broker.errors import Reason
from broker.frames import encode_frame
from broker.ids import route_of
from broker.kafka import KafkaSettings, partition_of
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, encode_reference
from paceline.role_view import RoleView, role_views
from paceline.supervise import free_port
from processors.accept import DeadLetter
from processors.kafka_changes import KafkaChanges
from processors.kafka_dead import encode_dead
from processors.reference_feed import ReferenceFeed
from tests.chromium import Page, open_chromium
from tests.kafka_server import KafkaCluster, start_kafka
from tests.kafka_stages import Replicas, append, make_topics, until
from tests.page_world import TENANT, US, Athlete, athlete_ref, place, segment

PARTITIONS = 3
BACK_S = 420  # how long they have been running when the page opens
STRAP, ZOE = "watch-x", "zoe-quick"
pytestmark = [pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]  # as slow as the machine is busy


@dataclass
class Cluster:
    """Everything that runs."""

    kafka: KafkaCluster
    replicas: Replicas
    ports: dict[str, int]

    def api(self, name: str) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports[name]}/api/v1", timeout=90)


def frames(athlete: Athlete, from_us: int, seconds: int) -> list[LogRecord]:
    """What a watch sends in that time, ten samples a frame."""
    made: list[LogRecord] = []
    for start_s in range(0, seconds, 10):
        frame = athlete.frame(from_us + start_s * US, 10, 1)
        key = route_of(TENANT, "box-1", frame.device, frame.subject, self_numbered=frame.self_numbered)
        made.append(
            LogRecord(Kind.FRAME, key, TENANT, "box-1", min(time.time_ns() // 1000, from_us + (start_s + 10) * US), encode_frame(frame))
        )
    athlete.sent_to_us = from_us + seconds * US
    return made


def listens(api: httpx.Client) -> bool:
    try:
        return api.get("/health").is_success
    except httpx.TransportError:
        return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    async with start_kafka(folder / "kafka") as kafka:
        await asyncio.to_thread(make_topics, kafka.bootstrap, PARTITIONS)
        replicas = Replicas(folder / "stages", kafka.bootstrap)
        ports = {"a": free_port(), "b": free_port()}
        try:
            for stage in ("view", "live", "finish", "boards"):
                replicas.start(stage)
            state = replicas.folder / "a" / "platform" / "state.db"
            await asyncio.to_thread(until, state.exists, "the view keeps no state file")
            for name in "ab":  # both over the same state file
                data = {"PACELINE_DATA": str(replicas.folder / "a"), "PACELINE_TENANT": TENANT}
                replicas.start("api", name, PACELINE_API__PORT=str(ports[name]), **data)
            made = Cluster(kafka, replicas, ports)
            for name in "ab":
                with made.api(name) as api:
                    await asyncio.to_thread(until, lambda api=api: replicas.all_alive() or listens(api), "the API does not listen")
            yield made
        finally:
            replicas.end()


def written(answer: httpx.Response) -> dict[str, Any]:
    """What was written, once it shows in the reads of the same API."""
    assert answer.is_success, answer.text
    return answer.json()


async def test_what_one_api_writes_every_process_sees(cluster: Cluster) -> None:
    def work() -> None:
        with cluster.api("a") as a, cluster.api("b") as b:
            for n in range(3):
                written(a.put(f"/athletes/first{n}", json={"name": f"First {n}"}))
                written(b.put("/athletes/both", json={"name": f"Both {n}"}))
                written(a.put("/athletes/both", json={"name": f"Both again {n}"}))
            last = written(b.put("/athletes/both", json={"name": "Both, last"}))
            for api in (a, b):
                until(lambda api=api: api.get("/athletes/both").json().get("name") == "Both, last", "a change does not show")
                until(lambda api=api: api.get("/athletes/first2").is_success, "an athlete does not show")
            assert written(a.put("/athletes/both", json={"name": "Both, last"}))["position"] > last["position"]
            one, two = (written(api.post("/bindings", json={"device": f"d-{n}", "athlete": "both"})) for n, api in enumerate((a, b)))
            assert one["id"] < two["id"]
            until(lambda: {x["id"] for x in a.get("/bindings").json()["bindings"]} == {one["id"], two["id"]}, "a binding does not show")
            for made in (one, two):
                written(a.delete(f"/bindings/{made['id']}"))

    await asyncio.to_thread(work)


async def test_a_command_on_the_machine_of_a_view_writes_to_kafka_too(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "ring.geojson"
    line = [[place(metres)[1], place(metres)[0]] for metres in range(700, 1000, 5)]
    file.write_text(
        json.dumps({"type": "Feature", "properties": {"name": "Ring"}, "geometry": {"type": "LineString", "coordinates": line}})
    )
    data = cluster.replicas.folder / "a"
    env = {**os.environ, "PACELINE_KAFKA__BOOTSTRAP": cluster.kafka.bootstrap, "PACELINE_TENANT": TENANT}
    command = [sys.executable, "-m", "paceline", "segments", "import", str(file), "--data", str(data)]
    done = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with cluster.api("b") as b:
        await asyncio.to_thread(until, lambda: b.get("/segments/ring").is_success, "the segment does not show")
    assert not (data / "platform" / "log.db").exists()


async def test_a_request_is_stored_whole_by_several_writers_at_once(cluster: Cluster) -> None:
    kafka = KafkaSettings(bootstrap=cluster.kafka.bootstrap)

    def changes(writer: str, first: int) -> list[LogRecord]:
        refs = [AthleteRef(tenant="other", id=f"{writer}{first + n}", name=writer) for n in range(20)]
        return [LogRecord(Kind.REFERENCE, "other", "other", "", first + n, encode_reference(ref)) for n, ref in enumerate(refs)]

    def write(writer: str) -> list[int]:
        with KafkaChanges(kafka, send_s=120) as log:
            return [log.append(changes(writer, first)) + 19 for first in range(0, 100, 20)]

    lasts = await asyncio.gather(*(asyncio.to_thread(write, writer) for writer in ("anna", "bob")))
    feed = await asyncio.to_thread(ReferenceFeed, kafka)
    try:
        assert feed.end + 1 == max(max(last) for last in lasts)
        assert all(feed.reference.athlete(f"other/{writer}{n}") for writer in ("anna", "bob") for n in range(100))
    finally:
        feed.close()


async def test_page_of_a_cluster_shows_them_run_and_a_strap_is_named_for_the_past_too(cluster: Cluster) -> None:
    """The strap and who gets it lie in different partitions."""
    assert partition_of(f"{TENANT}/@{STRAP}".encode(), PARTITIONS) != partition_of(f"{TENANT}/{ZOE}".encode(), PARTITIONS)
    bootstrap = cluster.kafka.bootstrap
    athletes = [Athlete("watch-a", "anna", 5.0, 143), Athlete("watch-b", "bob", 4.6, 128), Athlete(STRAP, "", 3.1, 141)]
    refs = [segment("bend", "The Bend", 300, 620), athlete_ref("anna"), athlete_ref("bob")]
    now_us = time.time_ns() // 1000
    append(bootstrap, [LogRecord(Kind.REFERENCE, TENANT, TENANT, "", now_us, encode_reference(ref)) for ref in refs])
    append(bootstrap, [record for athlete in athletes for record in frames(athlete, now_us - BACK_S * US, BACK_S - 30)])

    async def run_on() -> None:
        while True:
            await asyncio.sleep(0.5)
            due_us = time.time_ns() // 1000 - 10 * US
            due = [a for a in athletes if a.sent_to_us < due_us]
            await asyncio.to_thread(append, bootstrap, [record for a in due for record in frames(a, a.sent_to_us, 10)])

    running = asyncio.create_task(run_on())
    try:
        async with open_chromium() as browser:
            page = await browser.page(1280, 800)
            await page.go(f"http://127.0.0.1:{cluster.ports['a']}/")
            await shown(page, cluster)
            assert page.complaints == []
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def shown(page: Page, cluster: Cluster) -> None:
    """What people do with the page and what they see."""
    tile = "[...document.querySelectorAll('.tile')].find((t) => t.textContent.includes('{0}'))"
    rows = "[...document.querySelectorAll('.ranked tbody tr')]"
    metres = f"Number({rows}.find((r) => r.textContent.includes('{{0}}')).cells[5].textContent.replace(/[^0-9.]/g, ''))"
    assert await page.until("document.querySelector('.tile.unknown .called')?.textContent === 'watch-x'", WAIT_S)
    assert await page.until(f"!!{tile.format('Anna')} && !!{tile.format('Bob')}", WAIT_S)
    await page.js("document.querySelector('.tile.unknown').focus()")
    await page.key("Enter")
    named = "document.activeElement.id === 'athlete-name' && document.querySelectorAll('#athlete-names option').length >= 2"
    assert await page.until(named, WAIT_S)
    await page.write("Zoe Quick")
    await page.key("Enter")
    assert await page.until("!document.querySelector('#dialog').open && !document.querySelector('#undo').hidden", WAIT_S)
    assert await page.until(f"!!{tile.format('Zoe Quick')} && !document.querySelector('.tile.unknown')", WAIT_S)
    await page.js("location.hash = '#/ranking'")
    assert await page.until(
        f"{rows}.length === 3 && {rows}[0].textContent.includes('Anna') && {rows}[2].textContent.includes('Zoe')", WAIT_S
    )
    far = await page.js(metres.format("Zoe"))
    assert await page.until(f"{metres.format('Zoe')} > {far}", WAIT_S)  # fresh samples of the strap come to her too
    await page.js("location.hash = '#/course'")
    assert await page.until("document.querySelectorAll('.where li').length === 3", WAIT_S)
    await page.js("location.hash = '#/segment/bend'")
    assert await page.until(f"{rows}.length === 3 && document.querySelector('main').textContent.includes('Zoe Quick')", WAIT_S)
    with cluster.api("b") as b:  # the other API shows the same

        def on_board() -> set[str]:
            return {line["athlete"] for line in b.get("/segments/bend/board").json()["lines"]}

        def bound() -> list[str]:
            return [one["id"] for one in b.get("/bindings").json()["bindings"] if one["athlete"] == ZOE]

        await asyncio.to_thread(until, lambda: on_board() == {"anna", "bob", ZOE}, "the other API has another board")
        await asyncio.to_thread(until, bound, "the other API knows of no binding")
        written(await asyncio.to_thread(lambda: b.delete(f"/bindings/{bound()[0]}")))
    await page.js("location.hash = '#/'")
    assert await page.until(f"!!document.querySelector('.tile.unknown') && !{tile.format('Zoe Quick')}", WAIT_S)
    with cluster.api("a") as a:
        await asyncio.to_thread(until, lambda: len(a.get("/segments/bend/board").json()["lines"]) == 2, "the board keeps what is nobody's")


WAIT_S = 240.0


def view_of(cluster: Cluster, role: str) -> RoleView:
    """What a process beside the state file says of itself."""
    return next(view for view in role_views(cluster.replicas.folder / "a") if view.role == role)


async def test_every_api_counts_the_rows_of_its_tenant_that_were_refused(cluster: Cluster) -> None:
    def work() -> None:
        row = DeadLetter(1_000_000, TENANT, "box-1", "pl/1/gym/box-1/up", 7, 1, Reason.BAD_FRAME, "not a frame array", b"junk")
        rows = [row, row, replace(row, n=2, reason=Reason.FUTURE_TIME), replace(row, tenant="other", n=3)]
        producer = Producer({"bootstrap.servers": cluster.kafka.bootstrap, "acks": "all"})
        for made in map(encode_dead, rows):  # as ingest writes them
            producer.produce(made.topic, made.value, made.key, headers=made.headers)
        assert producer.flush(60) == 0
        for name in "ab":
            with cluster.api(name) as api:
                until(lambda api=api: api.get("/live").json()["dead_letters"] == 2, f"the API {name} shows other counts")
        figures = view_of(cluster, "api").get("/metrics")[1]
        assert 'paceline_dead_letters_total{reason="bad_frame"} 2' in figures
        assert 'paceline_dead_letters_total{reason="future_time"} 1' in figures

    await asyncio.to_thread(work)


async def test_kafka_away_refuses_writes_with_the_cure_and_reads_go_on(cluster: Cluster) -> None:
    """The last of this file: it ends the broker."""
    await cluster.kafka.kill()

    def work() -> None:
        with cluster.api("a") as a:
            answer = a.put("/athletes/late", json={"name": "Late"})
            assert answer.status_code == 503, answer.text
            assert "kafka" in answer.json()["detail"]
            assert answer.json()["cure"]
            assert a.get("/athletes/both").json()["name"] == "Both, last"
        until(
            lambda: "no broker can be reached; cure: start Kafka" in view_of(cluster, "view").reasons().get("kafka", ""),
            "the view is ready",
        )
        assert 'paceline_link_up{link="kafka"} 0' in view_of(cluster, "view").get("/metrics")[1]

    await asyncio.to_thread(work)
