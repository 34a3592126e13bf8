"""Makes the topics of a cluster what they should be: creates what is missing, sets what is configured otherwise, lets domains read.

What cannot be made right without harm is an error, not done: another number of partitions would break the order of a key. A topic of
several copies takes a record only when all of them but one have it, so that what is acknowledged survives the loss of any one machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker.errors import BadInputError, ConfigError, LinkError
from broker.kafka import KafkaSettings
from broker.kafka_topics import API_TRANSACTIONS, Topic
from processors.kafka_faults import AWAY, cure_of, telling, too_few_copies

TIMEOUT_S: Final = 30.0
REACH_S: Final = 10.0  # to find a cluster at all
UNREACHED_CURE: Final = "check address, log-in and rights of this user"  # of an error that says no more than that time ran out
SCRAM_ITERATIONS: Final = 8192  # Kafka's own tools take as many
SHOWN_S: Final = 0.1  # what a controller has taken, brokers show a little later


@dataclass(frozen=True, slots=True)
class _Found:
    """A topic as the cluster has it; `copies` of the partition that has fewest."""

    partitions: int
    copies: int


K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs (or, once applied, differed). `what` is for a person to read.

    `setting` is the key of the configuration with what was `found` and is `wanted`; empty when the whole topic was missing.
    """

    topic: str
    what: str
    setting: str = ""
    found: str = ""
    wanted: str = ""


class KafkaAdmin:
    """One cluster. Every call has a time limit; LinkError when the cluster cannot be reached or refuses.

    `reach_s` is how long to look for a cluster at all, `timeout_s` how long to wait for an answer of one that is there.
    """

    def __init__(self, kafka: KafkaSettings, *, reach_s: float = REACH_S, timeout_s: float = TIMEOUT_S) -> None:
        self._reach_s, self._timeout_s = reach_s, timeout_s
        if not kafka.bootstrap:
            raise BadInputError(
                "kafka.bootstrap is empty", cure="give host:port of a broker in the settings or as PACELINE_KAFKA__BOOTSTRAP"
            )
        self._kafka = kafka
        self._complaint: KafkaError | None = None  # the client's last one: its exceptions only tell of a time that ran out
        try:
            self._client = AdminClient({**admin_options(kafka), "log_level": 0, "error_cb": self._complained})
        except KafkaException as error:
            raise ConfigError(
                f"kafka.cafile {kafka.cafile}: {error.args[0].str()}", cure="name a readable PEM file with kafka.cafile, or none"
            ) from error

    def look(self) -> None:
        """See whether a broker answers this user within `reach_s`; LinkError says why none does."""
        try:
            self._client.list_topics(timeout=self._reach_s)
        except KafkaException as error:
            raise self._unreachable(error, AWAY) from error

    def answers(self) -> bool:
        """Whether a broker answers this user within `reach_s`."""
        try:
            self.look()
        except LinkError:
            return False
        return True

    def too_few_copies(self, topics: Sequence[str]) -> str:
        """Which of these topics takes no record now, because too few of its copies are in sync; empty: none, or nobody says."""
        try:
            there = self._client.list_topics(timeout=self._reach_s).topics
            asked = [ConfigResource(ResourceType.TOPIC, name) for name in topics if name in there]
            found = self._wait(self._client.describe_configs(asked, request_timeout=self._timeout_s)) if asked else {}
        except (KafkaException, LinkError):
            return ""
        counts = {r.name: [len(p.isrs) for _, p in sorted(there[r.name].partitions.items())] for r in found}
        return too_few_copies(counts, {r.name: int(entries["min.insync.replicas"].value or 1) for r, entries in found.items()})

    def differences(self, topics: Sequence[Topic], replication: int) -> list[Change]:
        """What `apply` would change, changing nothing."""
        return self._work(topics, replication, change=False)

    def apply(self, topics: Sequence[Topic], replication: int) -> list[Change]:
        """Make the topics so; what was changed, once every reader of the cluster sees it.

        BadInputError, before anything is changed, when a number of partitions differs.
        """
        changes = self._work(topics, replication, change=True)
        until_s = time.monotonic() + self._timeout_s
        while changes and (left := self._work(topics, replication, change=False)):
            if time.monotonic() > until_s:
                raise LinkError(
                    f"kafka {self._kafka.bootstrap}: {left[0].topic} is still not as it was made: {left[0].what}",
                    cure="see whether all its brokers run, then apply again",
                )
            time.sleep(SHOWN_S)
        return changes

    def allow_read(self, principal: str, topics: Sequence[Topic], group_prefix: str) -> None:
        """Let a principal (`User:name`) read topics, with consumer groups whose names begin so."""
        bindings = [self._acl(ResourceType.TOPIC, t.name, ResourcePatternType.LITERAL, principal, o) for t in topics for o in _READ]
        bindings.append(self._acl(ResourceType.GROUP, group_prefix, ResourcePatternType.PREFIXED, principal, AclOperation.READ))
        self._wait(self._client.create_acls(bindings, request_timeout=self._timeout_s))

    def allow_write(self, principal: str, topics: Sequence[Topic]) -> None:
        """Let a principal write topics, as the publisher, ingest and the API must; the last in transactions."""
        operations = (AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)  # ingest looks before it writes
        bindings = [self._acl(ResourceType.TOPIC, t.name, ResourcePatternType.LITERAL, principal, o) for t in topics for o in operations]
        of_api = (ResourceType.TRANSACTIONAL_ID, API_TRANSACTIONS, ResourcePatternType.PREFIXED, principal)
        bindings += [self._acl(*of_api, o) for o in (AclOperation.WRITE, AclOperation.DESCRIBE)]
        self._wait(self._client.create_acls(bindings, request_timeout=self._timeout_s))

    def let_log_in(self, user: str, secret: str) -> None:
        """Let a user log in by SCRAM-SHA-512 with this secret from now on; connections that stand are not ended."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
        made = UserScramCredentialUpsertion(user, how, secret.encode())
        self._wait(self._client.alter_user_scram_credentials([made], request_timeout=self._timeout_s))

    def _acl(
        self, kind: ResourceType, name: str, pattern: ResourcePatternType, principal: str, operation: AclOperation
    ) -> AclBinding:  # fmt: skip
        return AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)

    def _work(self, topics: Sequence[Topic], replication: int, *, change: bool) -> list[Change]:
        there = self._there()
        for topic in topics:
            found = there.get(topic.name)
            if found is not None and found.partitions != topic.partitions and not (topic.placed and found.partitions > topic.partitions):
                raise BadInputError(
                    f"topic {topic.name} has {found.partitions} partitions, not {topic.partitions}",
                    cure="make a new topic with the right number and move its readers: a change in place breaks the order of a key",
                )
        missing = [topic for topic in topics if topic.name not in there]
        changes = [Change(t.name, f"created: {t.partitions} partitions, {replication} copies") for t in missing]
        if missing and change:
            self._wait(self._client.create_topics([self._new(t, replication) for t in missing], request_timeout=self._timeout_s))
        standing = {t.name: _configured(t, there[t.name].copies) for t in topics if t.name in there}
        return [*changes, *self._configure(standing, change=change)]

    def _configure(self, standing: Mapping[str, Mapping[str, str]], *, change: bool) -> list[Change]:
        """Compare, and with `change` set, the configuration of topics that are there: `{name: wanted}`."""
        if not standing:
            return []
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in standing]
        found = self._wait(self._client.describe_configs(asked, request_timeout=self._timeout_s))
        values = {resource.name: {name: entry.value for name, entry in entries.items()} for resource, entries in found.items()}
        changes: list[Change] = []
        altered: list[ConfigResource] = []
        for topic, wanted in standing.items():
            wrong = {name: value for name, value in wanted.items() if values[topic].get(name) != value}
            for name, value in wrong.items():
                found_value = values[topic].get(name) or ""
                changes.append(Change(topic, f"{name}: {found_value} -> {value}", name, found_value, value))
            if wrong:
                entries = [ConfigEntry(n, v, incremental_operation=AlterConfigOpType.SET) for n, v in wrong.items()]
                altered.append(ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries))
        if altered and change:
            self._wait(self._client.incremental_alter_configs(altered, request_timeout=self._timeout_s))
        return changes

    def _there(self) -> dict[str, _Found]:
        try:
            found = self._client.list_topics(timeout=self._reach_s).topics
        except KafkaException as error:
            raise self._unreachable(error) from error
        return {
            name: _Found(len(t.partitions), min((len(p.replicas) for p in t.partitions.values()), default=1)) for name, t in found.items()
        }

    def _wait(self, futures: Mapping[K, Future[V]]) -> dict[K, V]:
        try:
            return {of: future.result(1.2 * self._timeout_s) for of, future in futures.items()}
        except (KafkaException, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _complained(self, error: KafkaError) -> None:
        if self._complaint is None or telling(error):
            self._complaint = error

    def _unreachable(self, error: Exception, cure: str = UNREACHED_CURE) -> LinkError:
        self._client.poll(0)
        complaint, cause = self._complaint, error.args[0] if error.args else None
        if isinstance(cause, KafkaError):
            cure = cure_of(self._kafka, cause, complaint, otherwise=cure)
            words = cause.str() if complaint is None else f"{cause.str()} ({complaint.str()})"
        else:
            words = str(error) or "no answer in time"
        return LinkError(f"kafka {self._kafka.bootstrap}: {words}", cure=cure)

    @staticmethod
    def _new(topic: Topic, replication: int) -> NewTopic:
        return NewTopic(topic.name, topic.partitions, replication, config=_configured(topic, replication))


def _configured(topic: Topic, copies: int) -> dict[str, str]:
    return {**topic.config, "min.insync.replicas": str(max(1, copies - 1))}


_READ: Final = (AclOperation.READ, AclOperation.DESCRIBE)


def admin_options(kafka: KafkaSettings) -> dict[str, str | int]:
    """Options of any confluent-kafka client."""
    options: dict[str, str | int] = {"bootstrap.servers": kafka.bootstrap, "security.protocol": kafka.security, "log_level": 3}
    if kafka.security.startswith("SASL"):
        options |= {
            "sasl.mechanism": kafka.mechanism,
            "sasl.username": kafka.username,
            "sasl.password": kafka.password.get_secret_value(),
        }
    if kafka.cafile:
        options["ssl.ca.location"] = kafka.cafile
    return options
