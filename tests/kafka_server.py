"""Real Apache Kafka for tests: one broker or a cluster of them, KRaft, each its own Java process on loopback.

    async with start_kafka(tmp_path, brokers=3) as kafka:
        kafka.bootstrap                                       # for clients
        await kafka.kill(1); await kafka.start(1)             # kill -9 of a broker, and again with its data

The jars come from Maven Central, once, into `.cache/tools`; a Java of 17 or later and Maven are taken from the machine, else unpacked
from Debian. Every process is ended by its own id.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from paceline.supervise import free_port
from tests.debian_packages import TOOLS, ServerUnavailableError, find_or_unpack, library_environment, only_one
from tests.servers import end_process

KAFKA: Final = "4.3.1"  # the newest whose jars all resolve
LOG4J: Final = "2.24.3"
JAVA_AT_LEAST: Final = 17
START_SOON: Final = ("-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
START_TIMEOUT_S: Final = 300.0  # of a machine that everybody uses
CLUSTER_ID: Final = "cGFjZWxpbmUtdGVzdHMtLQ"  # 16 bytes of URL-safe base64

_POM: Final = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>paceline</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{LOG4J}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{LOG4J}</version></dependency>
  </dependencies>
</project>
"""
_LOG4J: Final = """<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %m (%c{1})%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def find_java() -> Path:
    """A Java of 17 or later: the machine's, or Debian's unpacked."""
    found = shutil.which("java")
    if found and _java_version(Path(found)) >= JAVA_AT_LEAST:
        return Path(found)
    return find_or_unpack("java", f"usr/lib/jvm/java-{JAVA_AT_LEAST}-openjdk-amd64/bin/java", (f"openjdk-{JAVA_AT_LEAST}-jre-headless",))


def kafka_jars() -> Path:
    """The folder with Kafka and all it needs, resolved by Maven on the first call."""
    target = TOOLS / f"kafka-{KAFKA}"
    with only_one("kafka"):
        if not target.exists():
            _resolve(target)
    return target


def _resolve(target: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailableError(
            "Kafka for the tests is fetched by Maven, which is not installed: apt install maven, or put mvn on the PATH"
        )
    making = target.with_name(f".{target.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    (making / "jars").mkdir(parents=True)
    (making / "pom.xml").write_text(_POM)
    command = [
        maven, "--batch-mode", "--quiet", f"-Dmaven.repo.local={making / 'repository'}", f"-DoutputDirectory={making / 'jars'}",
        "-DincludeScope=runtime", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise ServerUnavailableError(
            f"Maven could not fetch Kafka {KAFKA}: {done.stdout.strip()[-2000:]}; check that it reaches Maven Central"
        )
    (making / "jars").rename(target)
    shutil.rmtree(making)


def _java_version(java: Path) -> int:
    said = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


@dataclass(slots=True)
class KafkaNode:
    """One broker that is also a controller."""

    number: int
    home: Path
    port: int
    controller_port: int
    sasl_port: int
    consumers_port: int
    tls_ports: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.home / "out"

    def log(self) -> str:
        """The end of what the process wrote."""
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else ""


@dataclass(slots=True)
class KafkaCluster:
    """Brokers 0.. of one cluster."""

    java: Path
    jars: Path
    nodes: list[KafkaNode]
    users: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    tls: tuple[Path, ...] = ()
    consumers: bool = False
    jvm: tuple[str, ...] = ()

    @property
    def bootstrap(self) -> str:
        """Where clients begin; without log-in, and allowed everything."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def sasl_bootstrap(self) -> str:
        """Where clients with a user name and password begin: SASL_PLAINTEXT, PLAIN, allowed what they were given."""
        return ",".join(f"127.0.0.1:{node.sasl_port}" for node in self.nodes)

    @property
    def consumers_bootstrap(self) -> str:
        """Where consumers of other teams begin, as in docker-compose.yml: SASL_PLAINTEXT, SCRAM-SHA-512."""
        return ",".join(f"127.0.0.1:{node.consumers_port}" for node in self.nodes)

    def tls_bootstrap(self, which: int) -> str:
        """Where clients of TLS begin, the listener with certificate number `which`; without log-in, and allowed everything."""
        return ",".join(f"127.0.0.1:{node.tls_ports[which]}" for node in self.nodes)

    def format(self, number: int) -> None:
        """Make the empty store of a broker."""
        node = self.nodes[number]
        self._write(node)
        arguments = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(node.home / "properties")]
        done = subprocess.run(self._command(arguments), capture_output=True, text=True, env=self._environment(), timeout=180, check=False)
        if done.returncode:
            raise ServerUnavailableError(f"Kafka could not format its store: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    async def start(self, number: int = 0) -> None:
        """Start a broker with the data it has, and wait until it listens."""
        self.launch(number)
        await self.listening(number)

    def launch(self, number: int) -> None:
        """Start a broker without waiting for it: of three, none is ready before two run."""
        node = self.nodes[number]
        with node.log_path.open("ab") as log:
            command = self._command(["kafka.Kafka", str(node.home / "properties")])
            node.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment())

    async def listening(self, number: int) -> None:
        """Wait until a broker takes connections."""
        node = self.nodes[number]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", node.port), timeout=1).close()
            except OSError:
                code = None if node.process is None else node.process.poll()
                if code is not None or time.monotonic() > deadline:
                    raise ServerUnavailableError(f"Kafka {number} did not start on port {node.port} (exit {code}):\n{node.log()}") from None
                await asyncio.sleep(0.05)
            else:
                return

    async def answering(self) -> None:
        """Wait until all its brokers are known to those who ask: one that listens may still be busy with its start."""
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "socket.timeout.ms": 10_000})
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                known = len((await asyncio.to_thread(client.list_topics, timeout=10)).brokers)
            except KafkaException:
                known = 0
            if known == len(self.nodes):
                return
            if time.monotonic() > deadline:
                logs = "\n".join(node.log() for node in self.nodes)
                raise ServerUnavailableError(f"of Kafka's {len(self.nodes)} brokers {known} answer:\n{logs}")
            await asyncio.sleep(0.05)

    def replace(self, number: int) -> None:
        """A broker that is not running loses its disk: an empty one of its name starts in its place."""
        shutil.rmtree(self.nodes[number].home / "data")
        self.format(number)

    async def kill(self, number: int = 0) -> None:
        """SIGKILL, and wait."""
        await self._end(number, signal.SIGKILL)

    async def stop(self, number: int = 0) -> None:
        """SIGTERM, and wait; SIGKILL after a minute."""
        await self._end(number, signal.SIGTERM)

    async def _end(self, number: int, how: signal.Signals) -> None:
        node = self.nodes[number]
        process, node.process = node.process, None
        if process is not None:
            await end_process(process, how)

    def _command(self, arguments: Sequence[str]) -> list[str]:
        options = [
            *(self.jvm or (*START_SOON, "-Xmx512m" if len(self.nodes) == 1 else "-Xmx320m")),
            f"-Dlog4j2.configurationFile={self.jars.parent / 'log4j2.xml'}",
        ]
        return [str(self.java), *options, "-cp", f"{self.jars}/*", *arguments]

    def _environment(self) -> dict[str, str]:
        return library_environment(self.java)

    def _write(self, node: KafkaNode) -> None:
        """The properties of a broker: small internal topics and no delays, so that a test does not wait for them."""
        copies = min(3, len(self.nodes))
        properties = {
            "process.roles": "broker,controller",
            "node.id": node.number,
            "controller.quorum.voters": ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in self.nodes),
            "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": node.home / "data",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": max(1, copies - 1),
            "min.insync.replicas": max(1, copies - 1),
            "default.replication.factor": copies,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 6000,
            "log.cleaner.dedupe.buffer.size": 8_388_608,
            "auto.create.topics.enable": "false",
            **(self._more_listeners(node) if self.users or self.tls or self.consumers else {}),
            **(self._rights() if self.users else {}),
            **self.extra,
        }
        (node.home / "properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))

    def _more_listeners(self, node: KafkaNode) -> dict[str, object]:
        """Listeners beside the plain one: with log-in, and with each of the certificates."""
        kinds = {"PLAINTEXT": ("PLAINTEXT", node.port), "CONTROLLER": ("PLAINTEXT", node.controller_port)}
        if self.users:
            kinds["LOGIN"] = ("SASL_PLAINTEXT", node.sasl_port)
        if self.consumers:
            kinds["CONSUMERS"] = ("SASL_PLAINTEXT", node.consumers_port)
        stores: dict[str, object] = {}
        for number, (port, path) in enumerate(zip(node.tls_ports, self.tls, strict=True)):
            kinds[f"TLS{number}"] = ("SSL", port)
            stores[f"listener.name.tls{number}.ssl.keystore.type"] = "PEM"
            stores[f"listener.name.tls{number}.ssl.keystore.location"] = path
        return {
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, (_, port) in kinds.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, (kind, _) in kinds.items()),
            **stores,
        }

    def _rights(self) -> dict[str, object]:
        """Who may log in, and that rights are asked for."""
        known = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        return {
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": f"org.apache.kafka.common.security.plain.PlainLoginModule required {known};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }


@asynccontextmanager
async def start_kafka(
    folder: Path, *, brokers: int = 1, users: dict[str, str] | None = None, extra: dict[str, str] | None = None, tls: Sequence[Path] = (),
    consumers: bool = False, jvm: tuple[str, ...] = (),
) -> AsyncIterator[KafkaCluster]:  # fmt: skip
    """A running cluster with empty stores; `users` may log in, and `extra` are further properties of every broker.

    `tls` are files with a key and its certificate: a listener each. `consumers`: one of that name with log-in, whose properties are in
    `extra` (those of docker-compose.yml). `jvm`: options of Java instead of those of a broker that is to start soon.
    """
    java, jars = await asyncio.to_thread(find_java), await asyncio.to_thread(kafka_jars)
    with only_one("log4j2"):
        config = jars.parent / "log4j2.xml"
        if not config.exists() or config.read_text() != _LOG4J:  # another run's broker may be reading it
            config.write_text(_LOG4J)
    nodes = [
        KafkaNode(number, folder / f"kafka{number}", free_port(), free_port(), free_port(), free_port(), tuple(free_port() for _ in tls))
        for number in range(brokers)
    ]
    cluster = KafkaCluster(java, jars, nodes, users or {}, extra or {}, tuple(tls), consumers, jvm)
    for node in nodes:
        node.home.mkdir(parents=True)
        await asyncio.to_thread(cluster.format, node.number)
    try:
        for node in nodes:
            cluster.launch(node.number)
        for node in nodes:
            await cluster.listening(node.number)
        await cluster.answering()
        yield cluster
    finally:
        for node in nodes:
            await cluster.kill(node.number)
