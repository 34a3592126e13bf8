"""Tracks in a folder that all stages of a cluster share: a disk, or NFS and the like with atomic rename.

What a process that was killed had half written is no track, and goes once it is old: when its folder is looked at again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from broker.errors import StoreError
from processors.track_blobs import SharedBlobs

MAKING: Final = ".making"
STALE_S: Final = 86_400.0  # a write takes a second; clocks of machines that share a folder differ by less


class FolderBlobs(SharedBlobs):
    """Tracks below a folder, `{key}/{name}`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderObjects(folder))


class FolderObjects:
    """Files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, place: str) -> list[str]:
        with _told(self._folder / place, "can read the folder of tracks"):
            try:
                found = list((self._folder / place).iterdir())
            except FileNotFoundError:
                return []
            for path in found:
                if path.suffix == MAKING:
                    _drop_stale(path)
            return [path.name for path in found if path.suffix != MAKING]

    def get(self, place: str, name: str) -> bytes | None:
        with _told(self._folder / place, "can read the folder of tracks"):
            try:
                return (self._folder / place / name).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, place: str, name: str, body: bytes) -> None:
        path = self._folder / place / name
        with _told(path.parent, "can write the folder of tracks, and that it has space"):
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _sync(self._folder)
            making = path.with_name(f"{name}.{secrets.token_hex(4)}{MAKING}")  # of nobody else, also on another machine
            with making.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            making.replace(path)

    def settle(self, place: str) -> None:
        with _told(self._folder / place, "can write the folder of tracks"):
            if (self._folder / place).exists():
                _sync(self._folder / place)

    def drop(self, place: str, names: Sequence[str]) -> None:
        with _told(self._folder / place, "can write the folder of tracks"):
            for name in names:
                (self._folder / place / name).unlink(missing_ok=True)


def _drop_stale(path: Path) -> None:
    with suppress(FileNotFoundError):  # it was ended, or another process saw it too
        if time.time() - path.stat().st_mtime > STALE_S:
            path.unlink()


@contextmanager
def _told(place: Path, what: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{place}: {error}", cure=f"check that every stage {what}") from error


def _sync(place: Path) -> None:
    """Have the names in a folder survive a loss of power: a rename alone does not."""
    at = os.open(place, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
