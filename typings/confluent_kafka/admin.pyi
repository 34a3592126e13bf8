from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum

from confluent_kafka import KafkaError

class ResourceType(Enum):
    TOPIC = ...
    GROUP = ...

class ResourcePatternType(Enum):
    LITERAL = ...
    PREFIXED = ...

class AclOperation(Enum):
    READ = ...
    WRITE = ...
    DESCRIBE = ...
    DESCRIBE_CONFIGS = ...

class AclPermissionType(Enum):
    ALLOW = ...

class AlterConfigOpType(Enum):
    SET = ...

class AclBinding:
    def __init__(
        self,
        restype: ResourceType,
        name: str,
        resource_pattern_type: ResourcePatternType,
        principal: str,
        host: str,
        operation: AclOperation,
        permission_type: AclPermissionType,
    ) -> None: ...

class ConfigEntry:
    value: str | None
    def __init__(self, name: str, value: str, *, incremental_operation: AlterConfigOpType) -> None: ...

class ConfigResource:
    name: str
    def __init__(self, restype: ResourceType, name: str, *, incremental_configs: Sequence[ConfigEntry] = ...) -> None: ...

class NewTopic:
    def __init__(self, topic: str, num_partitions: int, replication_factor: int, *, config: Mapping[str, str]) -> None: ...

class PartitionMetadata:
    replicas: list[int]

class TopicMetadata:
    partitions: dict[int, PartitionMetadata]

class ClusterMetadata:
    topics: dict[str, TopicMetadata]

class AdminClient:
    def __init__(self, conf: Mapping[str, str | int | Callable[[KafkaError], None]]) -> None: ...
    def poll(self, timeout: float) -> int: ...
    def list_topics(self, *, timeout: float) -> ClusterMetadata: ...
    def create_topics(self, new_topics: Sequence[NewTopic], *, request_timeout: float) -> dict[str, Future[None]]: ...
    def create_acls(self, acls: Sequence[AclBinding], *, request_timeout: float) -> dict[AclBinding, Future[None]]: ...
    def describe_configs(
        self, resources: Sequence[ConfigResource], *, request_timeout: float
    ) -> dict[ConfigResource, Future[dict[str, ConfigEntry]]]: ...
    def incremental_alter_configs(
        self, resources: Sequence[ConfigResource], *, request_timeout: float
    ) -> dict[ConfigResource, Future[None]]: ...
