"""What all readers of one state file share: directory, boards, and threads with a read-only connection each.

A query runs in one of four threads; when `MAX_WAITING` are under way or waiting, the next one is refused at once rather than queued.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from broker.errors import StoreError
from processors.board_cache import BoardCache
from processors.directory import Directory
from processors.stores import ReadStore

T = TypeVar("T")

THREADS: Final = 4
MAX_WAITING: Final = 256


class Reads:
    """Close it when the last reader is gone."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = Directory(state)
        self.boards = BoardCache(state, self.directory)
        self._pool = ThreadPoolExecutor(THREADS, "read")
        self._local = threading.local()
        self._stores: list[ReadStore] = []
        self._waiting = 0

    async def run(self, query: Callable[[ReadStore], T]) -> T:
        """`query` with a store of its thread. StoreError when too many are waiting."""
        if self._waiting >= MAX_WAITING:
            raise StoreError(f"{MAX_WAITING} readers are waiting", cure="ask again in a moment, and less often")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: query(self._store()))
        finally:
            self._waiting -= 1

    def _store(self) -> ReadStore:
        store: ReadStore | None = getattr(self._local, "store", None)
        if store is None:
            store = self._local.store = ReadStore(self.state)
            self._stores.append(store)
        return store

    def close(self) -> None:
        """Wait for the queries under way and close every connection."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for store in self._stores:
            store.close()
        self.boards.close()
        self.directory.close()
