# What we use of Quix Streams 3.28, and what `StageApp` replaces in it: its own annotations leave much without a type.
from pathlib import Path
from typing import Any

from quixstreams.kafka import ConnectionConfig
from quixstreams.models import Topic
from quixstreams.processing import ProcessingContext
from quixstreams.state import StateStoreManager

class _Producer:
    def poll(self, timeout: float = ...) -> None: ...
    def produce(
        self, topic: str, value: bytes | None = ..., key: bytes | None = ..., headers: list[tuple[str, bytes]] | None = ...,
        partition: int | None = ...,
    ) -> None: ...  # fmt: skip

class Message:
    def error(self) -> object | None: ...
    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes]] | None: ...

class _Consumer:
    def consume(self, num_messages: int = ..., timeout: float | None = ...) -> list[Message]: ...

class _RunTracker:
    def set_message_consumed(self, consumed: bool) -> None: ...

class StreamingDataFrame: ...

class Application:
    _producer: _Producer
    _consumer: _Consumer
    _run_tracker: _RunTracker
    _processing_context: ProcessingContext
    _state_manager: StateStoreManager
    def __init__(
        self,
        broker_address: ConnectionConfig,
        *,
        consumer_group: str,
        auto_offset_reset: str,
        commit_interval: float,
        state_dir: Path,
        processing_guarantee: str,
        consumer_extra_config: dict[str, Any],
        producer_extra_config: dict[str, Any],
        broker_availability_timeout: float,
        loglevel: str | None,
    ) -> None: ...
    def topic(self, name: str, value_deserializer: str, key_deserializer: str) -> Topic: ...
    def dataframe(self, topic: Topic) -> StreamingDataFrame: ...
    def run(self) -> list[dict[str, Any]]: ...
    def stop(self, fail: bool = ...) -> None: ...
    def _process_message(self, dataframe_composed: Any) -> None: ...
