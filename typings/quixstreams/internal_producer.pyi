from collections.abc import Callable
from typing import Any

class _Inner:
    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, *, on_delivery: Callable[..., None], headers: Any
    ) -> None: ...

class _Outer:
    _producer: _Inner
    def poll(self, timeout: float) -> None: ...

class InternalProducer:
    _producer: _Outer
    def _raise_for_error(self) -> None: ...
    def _on_delivery(self, err: Any, msg: Any) -> None: ...
    def poll(self, timeout: float = ...) -> None: ...
    def produce(
        self, topic: str, value: bytes | None = ..., key: bytes | None = ..., headers: Any = ..., partition: int | None = ..., **_: object
    ) -> None: ...
