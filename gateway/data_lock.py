"""One gateway (or one site) per data directory: a file lock that the kernel drops with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from broker.errors import ConfigError, StoreError


@contextmanager
def locked_directory(directory: Path, holder: str = "gateway") -> Generator[None]:
    """Hold `directory` (made if missing) as `holder`. ConfigError names the process that already does; StoreError: it cannot be written."""
    path = directory / f"{holder}.lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise StoreError(f"data_dir {directory}: {error.strerror}", cure="give a directory this user can write") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            process = file.read(20).decode(errors="replace").strip() or "unknown"
            raise ConfigError(
                f"data_dir {directory} is in use by another {holder} (process {process})", cure="stop it, or give this one its own data_dir"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()).encode())
        file.flush()
        yield
