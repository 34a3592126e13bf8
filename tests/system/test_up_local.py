"""The services of docker-compose.yml, with its own commands and settings, as processes beside a real Kafka and a real InfluxDB: a simulated
class goes all the way, engines and stages that are killed come back, and the figures and health of every process say so meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from broker.influx import InfluxSettings
from broker.kafka import KafkaSettings
from deploy.local_site import Places, kafka_properties, local, ours_in_order
from deploy.up_local import LocalSite, up
from paceline.ca_authority import Authority
from paceline.site_backup import back_up, bring_back
from processors.influx_admin import InfluxAdmin
from processors.influx_queries import health
from processors.influx_schema import BUCKETS
from processors.kafka_view import KafkaView
from processors.stores import ReadStore
from tests.operator_check import asked
from tests.servers import PROJECT

LIMIT_S = 180.0
RULES = PROJECT / "deploy" / "prometheus" / "alerts.yml"
OF_ALL = {
    "paceline_build_info", "paceline_live", "paceline_ready", "paceline_draining", "paceline_disk_free_bytes",
    "process_cpu_seconds_total", "process_resident_memory_bytes",
}  # fmt: skip
OF_A_STAGE = {
    "paceline_stage_records_total", "paceline_stage_busy_seconds_total", "paceline_stage_lag_records", "paceline_stage_lag_seconds",
    "paceline_stage_watermark_age_seconds", "paceline_stage_partitions", "paceline_state_size_bytes",
}  # fmt: skip
OWN = {  # rates, lag, age, room, refused rows and sizes: what each service is to tell besides
    "broker": set[str](),
    "enrol": {"paceline_enrol_connections_total", "paceline_enrol_open_connections", "paceline_enrol_failed_handshakes_total"},
    "ingest": {"paceline_ingest_messages_total", "paceline_ingest_frames_total", "paceline_ingest_alarm", "paceline_link_up"},
    "live": OF_A_STAGE,
    "finish": OF_A_STAGE,
    "boards": OF_A_STAGE - {"paceline_stage_watermark_age_seconds"},  # told once a board changed
    "view": {
        "paceline_view_records_total", "paceline_view_lag_records", "paceline_view_lag_seconds", "paceline_state_size_bytes", "paceline_link_up",
    },
    "api": {"paceline_nodes", "paceline_nodes_owed_frames", "paceline_nodes_short_of_room", "paceline_link_up"},
    "influx": {
        "paceline_influx_lines_total", "paceline_influx_waiting_lines", "paceline_influx_series_ratio", "paceline_state_size_bytes",
        "paceline_link_up",
    },
    "gateway": {"paceline_spool_rows", "paceline_spool_left_hours", "paceline_spool_lost_rows_total", "paceline_link_up"},
    "near": set[str](),
}  # fmt: skip


async def until(what: Callable[[], object], why: str) -> None:
    """Wait until `what()` holds; nobody answers is no."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if await asyncio.to_thread(what):
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, why
        await asyncio.sleep(0.2)


def figure(site: LocalSite, service: str, sample: str, **labels: str) -> float:
    """One sample of a service, 0 while it is not told."""
    for family in text_string_to_metric_families(site.view(service).get("/metrics")[1]):
        for one in family.samples:
            if one.name == sample and labels.items() <= one.labels.items():
                return one.value
    return 0.0


def tells_all(site: LocalSite, service: str) -> bool:
    """Whether every source told its figures at a look: on a busy machine one may be late, which is counted."""
    before, now = (figure(site, service, "paceline_metric_source_failures_total") for _ in range(2))
    return now == before


def told(site: LocalSite, service: str) -> set[str]:
    """The names of the samples that a service tells."""
    families = text_string_to_metric_families(site.view(service).get("/metrics")[1])
    return {sample.name for family in families for sample in family.samples}


def memory_limits() -> dict[str, int]:
    """What docker-compose.yml lets each service have, in bytes."""
    services = asked("compose", PROJECT / "docker-compose.yml", cwd=PROJECT)["services"]
    return {name: int(service["mem_limit"]) for name, service in services.items()}


def gateways_in_influx(site: LocalSite) -> set[str]:
    """The boxes whose health is in the bucket `dev`."""
    settings = InfluxSettings.model_validate({"url": site.places.influx, "org": "-", "token": site.influx.token})
    rows = InfluxAdmin(settings).query(health("paceline_dev/autogen", "gym", "-1h"))
    return {row["gw"] for row in rows if row["kind"] == "gateway" and row["online"] == "1"}


def look(site: LocalSite, services: list[str]) -> dict[str, str]:
    """What Prometheus would scrape of each service now; nothing of one that does not answer."""
    texts: dict[str, str] = {}
    for name in services:
        try:
            texts[name] = site.view(name).get("/metrics")[1]
        except OSError:
            texts[name] = ""
    return texts


def alerts(*looks: dict[str, str]) -> set[str]:
    """Which of our alerts fire when each look stands for eight minutes of scrapes, evaluated by Prometheus' own engine. Time is told. How much
    room this machine's disk has is not about the site."""
    scrapes = [
        {"t_s": 15.0 * (32 * place + step), "labels": {"job": "paceline", "instance": f"{name}:9100"}, "text": text}
        for place, texts in enumerate(looks)
        for step in range(32)
        for name, text in texts.items()
    ]
    return set(asked("alerts", RULES, given="\n".join(map(json.dumps, scrapes)))) - {"PacelineDiskLow"}


def api(site: LocalSite, folder: Path, path: str, body: object = None) -> dict[str, Any]:
    """What a route of the API answers to the site's staff; with `body` it is given that."""
    secrets = json.loads((folder / "volumes" / "site" / "secrets" / "secrets.json").read_text())
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.places.ports['api']}/api/v1/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {secrets['api:token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def live(site: LocalSite, folder: Path) -> dict[str, Any]:
    """What the page shows."""
    return api(site, folder, "live")


@pytest.mark.timeout(1200)
async def test_simulated_class_goes_all_the_way_and_what_is_killed_comes_back(tmp_path: Path) -> None:
    async with up(tmp_path, demo=True) as site:
        running = [name for name, service in site.services.items() if not service.once and name != "fleet"]
        assert OWN.keys() == set(running)
        await until(lambda: len(live(site, tmp_path)["athletes"]) >= 4, "athletes on the page")
        await until(lambda: figure(site, "influx", "paceline_influx_series_ratio", bucket="live") > 0, "samples of athletes in InfluxDB")
        await until(lambda: figure(site, "live", "paceline_stage_partitions", stage="live") == 64, "all partitions")
        await until(lambda: figure(site, "ingest", "paceline_ingest_frames_total") > 0, "frames stored")
        await until(lambda: figure(site, "api", "paceline_nodes", state="online") == 1, "the box says that it is there")
        await until(lambda: gateways_in_influx(site) == {"box"}, "its health in InfluxDB")
        for name in running:
            await until(lambda name=name: not site.view(name).reasons() and not site.view(name).stands_still(), f"{name} ready")
            await until(lambda name=name: tells_all(site, name), f"every figure of {name}")
            await until(lambda name=name: told(site, name) >= OF_ALL | OWN[name], f"its own figures of {name}")

        limits = await asyncio.to_thread(memory_limits)
        for name in running:
            assert 0 < figure(site, name, "process_resident_memory_bytes") < limits[name], name

        well = dict[str, str]()

        def all_is_well() -> bool:
            well.update(look(site, running))
            return alerts(well) == set()

        await until(all_is_well, "no alert fires while all is well")
        await drilled(site, tmp_path)
        await commanded(site, tmp_path)

        await site.influx.kill()
        await until(lambda: site.view("influx").reasons(), "the sink says that its server is away")
        told_of = {"PacelineLinkDown", "PacelineNotReady"}
        await until(lambda: alerts(well, look(site, running)) == told_of, "the alerts of a server that is away")
        await site.influx.start()
        for bucket in BUCKETS:
            await asyncio.to_thread(site.influx.create_database, f"paceline_{bucket}")
        os.kill(site.supervisor.pids()["live"], signal.SIGKILL)
        await until(lambda: not site.view("influx").reasons(), "the sink is ready again")
        await until(lambda: figure(site, "live", "paceline_stage_records_total", stage="live") > 0, "the live stage goes on")
        await until(lambda: not site.view("live").reasons(), "the live stage is ready again")
        assert site.supervisor.restarts()["live"] >= 1


async def commanded(site: LocalSite, folder: Path) -> None:
    """A command to a machine goes to its box, though the API is killed once it took it, and comes back with what the box says: it knows no
    such machine."""
    binding = {"node": "box", "device": "bike-1", "athlete": "ann", "name": "Ann"}
    await until(lambda: api(site, folder, "bindings", binding), "the binding is stored")
    order = {"order": {"action": "target_power_w", "value": 200}, "id": "power-for-ann-1", "good_for_s": 300}

    def sent() -> bool:
        return api(site, folder, "equipment/bike-1", order)["state"] in {"sent", "refused"}

    await until(sent, "the binding shows, and the command is taken")
    os.kill(site.supervisor.pids()["api"], signal.SIGKILL)
    line = dict[str, Any]()

    def answered() -> bool:
        line.update(api(site, folder, "equipment/bike-1/power-for-ann-1"))
        return line["state"] not in {"sent", "accepted"}

    await until(answered, "the box answers")
    assert (line["state"], line["reason"], line["node"], line["athlete"]) == ("refused", "not_controllable", "box", "ann")
    await until(lambda: not site.view("api").reasons(), "the API is ready again")


async def drilled(site: LocalSite, folder: Path) -> None:
    """The drill of docs/compose.md: the site's volume is backed up while it runs and comes back in an empty folder, which knows the box,
    holds what the page showed and is followed up from Kafka."""
    file, back = folder / "site.tar", folder / "back"
    parts = await asyncio.to_thread(back_up, folder / "volumes" / "site", file)
    assert {"secrets/secrets.json", "secrets/authority/book.db", "platform/state.db"} <= parts.keys()
    await asyncio.to_thread(bring_back, file, back)
    with Authority.open(back / "secrets" / "authority") as authority:
        assert [(node.name, authority.book.newest_of_nodes()[node.name].revoked_s) for node in authority.book.nodes()] == [
            ("gym/box", None)
        ]
    view = KafkaView(KafkaSettings(bootstrap=site.places.kafka), back / "platform" / "state.db", tells=True)
    stop = threading.Event()
    following = asyncio.create_task(asyncio.to_thread(view.run, stop))
    try:
        await until(lambda: view.records > 0, "the restored state is followed up")
    finally:
        stop.set()
        await following
        view.close()
    with closing(ReadStore(back / "platform" / "state.db")) as store:
        assert len(store.db.execute("SELECT key FROM state WHERE stage='live'").fetchall()) >= 4


def test_service_is_moved_to_this_machine_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    service = {
        "image": "paceline-platform",
        "command": ["paceline", "influx", "setup", "--admin-token-file", "/shared/influx/admin_token"],
        "environment": {
            "PACELINE_DATA": "/data", "PACELINE_TENANT": "gym", "PACELINE_CENTRAL__HOST": "broker", "PACELINE_CENTRAL__PORT": "8883",
            "PACELINE_METRICS__PORT": "9100", "PACELINE_STAGES__TRACKS": "/tracks", "PACELINE_KAFKA__BOOTSTRAP": "kafka:9092",
        },
        "restart": "on-failure",
        "volumes": [
            {"type": "volume", "source": "site", "target": "/data"}, {"type": "volume", "source": "tracks", "target": "/tracks"},
            {"type": "volume", "source": "influx-secrets", "target": "/shared/influx"},
        ],
    }  # fmt: skip
    places = Places(tmp_path, {"broker": 1111, "enrol": 2, "api": 3, "near": 4}, {"one": 2222}, "127.0.0.1:3333", "http://127.0.0.1:4444")
    made = local("one", service, places)
    assert made.once
    assert made.arguments[-1] == f"{tmp_path}/influx-secrets/admin_token"
    assert made.environment == {
        "PACELINE_DATA": f"{tmp_path}/site", "PACELINE_TENANT": "gym", "PACELINE_CENTRAL__HOST": "127.0.0.1", "PACELINE_CENTRAL__PORT": "1111",
        "PACELINE_METRICS__PORT": "2222", "PACELINE_STAGES__TRACKS": f"{tmp_path}/tracks", "PACELINE_KAFKA__BOOTSTRAP": "127.0.0.1:3333",
    }  # fmt: skip


def test_variables_of_the_image_of_kafka_are_properties_and_those_of_the_place_are_left_out() -> None:
    assert kafka_properties({
        "KAFKA_LISTENER_NAME_CONSUMERS_SCRAM___SHA___512_SASL_JAAS_CONFIG": "x", "KAFKA_A__B_C": "1", "KAFKA_NODE_ID": "1", "PATH": "y",
    }) == {"listener.name.consumers.scram-sha-512.sasl.jaas.config": "x", "a_b.c": "1"}  # fmt: skip


def test_services_start_after_those_they_wait_for_and_the_simulated_class_only_when_asked() -> None:
    services: dict[str, dict[str, Any]] = {
        "c": {"image": "paceline-platform", "depends_on": {"b": {}, "kafka": {}}},
        "b": {"image": "paceline-platform", "depends_on": {"a": {}}},
        "a": {"image": "paceline-broker"},
        "kafka": {"image": "apache/kafka"},
        "d": {"image": "paceline-platform", "profiles": ["demo"], "depends_on": {"c": {}}},
    }
    assert ours_in_order(services, demo=False) == ["a", "b", "c"]
    assert ours_in_order(services, demo=True) == ["a", "b", "c", "d"]
