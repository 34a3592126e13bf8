from collections.abc import Iterator

from quixstreams.models import TopicConfig

class _UpdateCache:
    def set(self, key: bytes, value: bytes, prefix: bytes) -> None: ...

class PartitionTransaction:
    _update_cache: _UpdateCache
    def get_bytes(self, key: bytes, prefix: bytes) -> bytes | None: ...
    def delete(self, key: bytes, prefix: bytes) -> None: ...

class RocksDBStorePartition:
    def iter_items(self, lower_bound: bytes, upper_bound: bytes) -> Iterator[tuple[bytes, bytes]]: ...

class Store:
    partitions: dict[int, RocksDBStorePartition]

class StateStoreManager:
    recovery_required: bool
    def register_store(self, stream_id: str, store_name: str, *, changelog_config: TopicConfig) -> None: ...
    def get_store(self, stream_id: str, store_name: str) -> Store: ...
