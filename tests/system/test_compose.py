"""docker-compose.yml, the alert rules and the dashboards, read by the parsers of their programs and held against the code: every command,
setting, port, file, metric, bucket, measurement and field they name exists. Compose itself is not run here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from broker.influx import InfluxSettings
from broker.kafka_topics import event_topics
from broker.metric_list import METRICS
from deploy import dashboards
from deploy.local_site import kafka_properties
from paceline.cli import cli
from paceline.config import load
from paceline.shared_secrets import FILES
from paceline.watched import END_S
from processors.influx_schema import BUCKETS
from tests.operator_check import asked, metrics_of
from tests.servers import PROJECT

pytestmark = pytest.mark.timeout(1_800)  # the first one may have to build the checker
COMPOSE, DEPLOY, OPERATIONS = PROJECT / "docker-compose.yml", PROJECT / "deploy", PROJECT / "docs" / "operations.md"
OURS = "paceline-"
RUNS_ONCE = {"setup", "topics", "influx-setup"}
KNOWN_METRICS = {
    name
    for metric in METRICS
    for name in ([metric.sample_name, f"{metric.name}_count", f"{metric.name}_sum"] if metric.kind == "histogram" else [metric.sample_name])
} | {"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return asked("compose", COMPOSE, cwd=PROJECT)["services"]


def ours(services: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, service in services.items():
        if service["image"].startswith(OURS):
            yield name, service


def command_of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command a line means, and what is left of the line."""
    command: click.Command = cli
    rest = list(arguments)
    while isinstance(command, click.Group):
        context = click.Context(command)
        if not rest or rest[0].startswith("-"):
            rest = [getattr(command, "_default", ""), *rest]
        found = command.get_command(context, rest[0])
        assert found is not None, f"there is no command {rest[0]!r} in {arguments}"
        command, rest = found, rest[1:]
    return command, rest


def test_every_command_exists_and_takes_its_options(services: dict[str, dict[str, Any]]) -> None:
    for _, service in ours(services):
        program, *arguments = service["command"]
        assert program == "paceline"
        command, rest = command_of(arguments)
        with command.make_context("paceline", rest, resilient_parsing=True) as context:
            assert not context.args


def test_every_setting_exists_and_is_taken(services: dict[str, dict[str, Any]]) -> None:
    for name, service in ours(services):
        settings = load(None, service["environment"]).settings
        assert settings.log.format == "json", name
        assert str(settings.data) == "/data"
        if settings.metrics.enabled:
            assert settings.metrics.host == "0.0.0.0"


def test_every_process_of_ours_is_checked_ends_in_time_and_has_no_rights_it_does_not_need(services: dict[str, dict[str, Any]]) -> None:
    for name, service in ours(services):
        once = name in RUNS_ONCE
        assert once == (service["restart"] in {"no", "on-failure"})
        assert once or name == "fleet" or service["healthcheck"]["test"] == ["CMD", "paceline", "health"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert float(service["stop_grace_period"].removesuffix("s")) > END_S  # so long a drain may take before the process ends itself
        mounted = {volume["target"] for volume in service["volumes"]} if "volumes" in service else set()
        assert name == "topics" or any(target.startswith("/data") for target in mounted), name


def test_every_service_has_a_limit_of_memory_and_kafka_room_beside_its_heap(services: dict[str, dict[str, Any]]) -> None:
    limits = {name: int(service["mem_limit"]) for name, service in services.items()}
    heap = re.search(r"-Xmx(\d+)g", services["kafka"]["environment"]["KAFKA_HEAP_OPTS"])
    assert heap is not None
    assert limits["kafka"] >= 1.3 * int(heap[1]) * 1024**3
    stated = re.search(r"all limits together are (\d+) GB", (PROJECT / "docs" / "compose.md").read_text())
    assert stated is not None
    assert sum(limits.values()) / 1024**3 <= int(stated[1])


def test_services_wait_for_services_that_are_there_and_are_reached_by_their_names(services: dict[str, dict[str, Any]]) -> None:
    for _, service in ours(services):
        assert set(service.get("depends_on", {})) <= set(services)
        environment = service["environment"]
        assert environment["PACELINE_KAFKA__BOOTSTRAP"] == "kafka:9092"
        if environment.get("PACELINE_CENTRAL__KIND") == "external":
            assert environment["PACELINE_CENTRAL__HOST"] == "broker"
    assert "INSIDE://kafka:9092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for name in ("influx", "influx-setup", "live", "view"):
        assert services[name]["environment"]["PACELINE_INFLUX__URL"] == "http://influxdb:8086"


def test_ports_that_are_published_are_those_the_processes_listen_on(services: dict[str, dict[str, Any]]) -> None:
    told = {
        "broker": ("PACELINE_CENTRAL__PORT", 8883),
        "enrol": ("PACELINE_IDENTITY__PORT", 8443),
        "api": ("PACELINE_API__PORT", 8800),
    }
    for name, (variable, port) in told.items():
        assert services[name]["environment"][variable] == str(port)
        assert [published["target"] for published in services[name]["ports"]] == [port]
    for name in ("kafka", "prometheus", "grafana"):
        assert {published["host_ip"] for published in services[name]["ports"]} == {"127.0.0.1"}


def test_consumers_on_this_machine_log_in_and_each_domain_of_events_has_a_user(services: dict[str, dict[str, Any]]) -> None:
    """The same properties are what the tests of events read through (`tests/system/test_kafka_events.py`), on a real Kafka."""
    environment = services["kafka"]["environment"]
    kinds = dict(pair.split(":") for pair in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert kinds == {"INSIDE": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "CONSUMERS": "SASL_PLAINTEXT"}
    (published,) = services["kafka"]["ports"]
    assert environment["KAFKA_ADVERTISED_LISTENERS"].endswith(f",CONSUMERS://localhost:{published['published']}")
    assert environment["KAFKA_LISTENERS"].endswith(f",CONSUMERS://:{published['target']}")
    properties = kafka_properties(environment)
    assert properties["listener.name.consumers.sasl.enabled.mechanisms"] == "SCRAM-SHA-512"
    assert properties["listener.name.consumers.scram-sha-512.sasl.jaas.config"].endswith("ScramLoginModule required;")
    assert {"authorizer.class.name", "super.users"} <= properties.keys()
    assert properties["transaction.abort.timed.out.transaction.cleanup.interval.ms"] == "1000"
    command = services["topics"]["command"]
    readers = {command[at + 1] for at, word in enumerate(command) if word == "--reader"}
    assert readers == {f"{topic.domain}={topic.domain}" for topic in event_topics()}
    folder = command[command.index("--log-ins") + 1]
    assert [(v["source"], v["target"]) for v in services["topics"]["volumes"]] == [("kafka-secrets", folder)]
    assert not any("kafka-secrets" in str(service.get("volumes")) for name, service in services.items() if name != "topics")


def test_every_variable_of_the_environment_file_is_used_and_none_is_missing() -> None:
    given = {line.partition("=")[0] for line in (PROJECT / ".env").read_text().splitlines() if line and not line.startswith("#")}
    assert set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())) == given


def test_secrets_that_servers_read_are_those_that_are_drawn(services: dict[str, dict[str, Any]]) -> None:
    made = services["influx-setup"]["command"]
    reader = made[made.index("--reader-token-file") + 1]  # made by the server, for who only reads it
    drawn = {f"/shared/{name}" for name in FILES} | {reader}
    text = COMPOSE.read_text() + (DEPLOY / "grafana/provisioning/datasources/paceline.yml").read_text()
    assert set(re.findall(r"/shared/(?:influx|grafana)/\w+", text)) == drawn
    assert f"$__file{{{reader}}}" in text
    assert {volume["source"] for volume in services["grafana"]["volumes"] if volume["target"].startswith("/shared")} == {"grafana-secrets"}
    assert "influx-setup" in services["grafana"]["depends_on"]
    assert not re.search(r"(PASSWORD|TOKEN|SECRET)\w*: *[\"']?(?!/shared)\w{8,}", COMPOSE.read_text())


def test_images_are_built_from_targets_that_exist_and_run_as_nobody_special(services: dict[str, dict[str, Any]]) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    named = {re.search(r" AS ([\w-]+)", stage)[1]: stage for stage in stages}  # pyright: ignore[reportOptionalSubscript]
    for _, service in ours(services):
        assert service["build"]["target"] == service["image"].removeprefix(OURS)
        assert Path(service["build"]["context"], service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
        stage = named[service["build"]["target"]]
        users = re.findall(r"^USER (\S+)", stage, re.MULTILINE) or re.findall(r"^USER (\S+)", named["base"], re.MULTILINE)
        assert users[-1] == "10001:10001"
    allowed = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (PROJECT / source).exists()
            assert source in allowed
    made = set(re.search(r"install -d .*? (/data.*)", text)[1].split())  # pyright: ignore[reportOptionalSubscript]
    for _, service in ours(services):
        assert {volume["target"] for volume in service.get("volumes", ()) if volume["type"] == "volume"} <= made


def test_what_runs_kernels_has_a_place_to_keep_them_that_can_be_written(services: dict[str, dict[str, Any]]) -> None:
    """The file system is read-only, and numba ends a program whose folder of compiled functions cannot be written, whatever is in it."""
    text = (DEPLOY / "Dockerfile").read_text()
    targets = {stage.partition("\n")[0].rpartition(" ")[2]: stage for stage in re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]}
    (place,) = re.findall(r"^ENV NUMBA_CACHE_DIR=(\S+)$", targets["platform"], re.MULTILINE)
    assert f"ENV NUMBA_CACHE_DIR={place}\n" in targets["build-platform"]
    assert f"COPY --from=build-platform --chown=10001:10001 {place} {place}\n" in targets["platform"]
    for name, service in ours(services):
        if service["image"] == "paceline-platform" and name != "topics":  # which makes topics and runs no kernel
            (volume,) = [volume for volume in service["volumes"] if volume["target"] == place]
            assert volume["source"] == "kernels", name
            assert not volume.get("read_only"), name
    assert "setup" in services["live"]["depends_on"]  # it fills the volume, alone


def test_prometheus_looks_where_processes_show_their_figures(services: dict[str, dict[str, Any]]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    looked = {(name, place["port"]) for place in config["scrape_configs"][0]["dns_sd_configs"] for name in place["names"]}
    shown = set[tuple[str, int]]()
    for name, service in ours(services):
        settings = load(None, service["environment"]).settings.metrics
        if name not in RUNS_ONCE and settings.enabled:
            host = service.get("network_mode", f"service:{name}").removeprefix("service:")
            shown.add((host, settings.port))
    assert looked == shown
    assert all((DEPLOY / "prometheus" / file).exists() for file in config["rule_files"])


def test_alerts_ask_for_metrics_that_exist_and_each_has_a_line_in_the_runbook() -> None:
    rules = asked("rules", DEPLOY / "prometheus/alerts.yml")
    assert len(rules) == len({rule["alert"] for rule in rules}) >= 10
    text = OPERATIONS.read_text()
    for rule in rules:
        assert set(rule["metrics"]) <= KNOWN_METRICS, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert f"### {rule['alert']}\n" in text


def questions(name: str) -> list[tuple[str, str]]:
    return [
        (target["datasource"]["type"], target.get("expr") or target["query"])
        for panel in json.loads((dashboards.FOLDER / f"{name}.json").read_text())["panels"]
        for target in panel["targets"]
    ]


def test_dashboards_are_the_made_ones_and_use_the_data_sources_that_are_provisioned() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/paceline.yml").read_text())["datasources"]
    known = {source["uid"] for source in sources}
    assert {path.stem for path in dashboards.FOLDER.iterdir()} == set(dashboards.DASHBOARDS)
    for name in dashboards.DASHBOARDS:
        assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.text(name), "python -m deploy.dashboards"
        assert {kind for kind, _ in questions(name)} <= known


def test_dashboards_ask_prometheus_for_metrics_that_exist() -> None:
    asked_for = [question for name in dashboards.DASHBOARDS for kind, question in questions(name) if kind == "prometheus"]
    for question, names in zip(asked_for, metrics_of(asked_for), strict=True):
        assert set(names) <= KNOWN_METRICS, question


def test_dashboards_ask_influxdb_for_what_the_sink_writes() -> None:
    named = {InfluxSettings().named(name): bucket for name, bucket in BUCKETS.items()}
    flux = [question for name in dashboards.DASHBOARDS for kind, question in questions(name) if kind == "influxdb"]
    assert flux
    for question in flux:
        (bucket,) = re.findall(r'from\(bucket: "(\w+)"\)', question)
        (measurement,) = re.findall(r'r\._measurement == "(\w+)"', question)
        (field,) = re.findall(r'r\._field == "(\w+)"', question)
        (tag,) = re.findall(r'group\(columns: \["(\w*)"\]\)', question)
        found = next(one for one in named[bucket].measurements if one.name == measurement)
        assert field in {one.name for one in found.fields}, question
        assert not tag or tag in found.tags, question


@pytest.mark.parametrize("page", ["operations", "influx", "identity", "compose", "kafka"])
def test_every_command_that_a_page_for_operators_names_exists(page: str) -> None:
    text = (PROJECT / "docs" / f"{page}.md").read_text("utf-8")
    named = [*re.findall(r"`paceline ([a-z][^`]*)`", text), *re.findall(r"^ *(?:\w+=\S+ )*paceline ([a-z].*)$", text, re.MULTILINE)]
    assert named
    for line in named:
        words = line.split()
        found = cli.get_command(click.Context(cli), words[0])
        assert found is not None, line
        if len(words) > 1 or not isinstance(found, click.Group):  # a group may be named alone
            command_of(words)


def test_pages_say_that_compose_was_never_run_here() -> None:
    assert "never run here" in (PROJECT / "README.md").read_text()
    assert "never run here" in (PROJECT / "docs" / "compose.md").read_text()
