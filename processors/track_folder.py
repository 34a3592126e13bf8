"""Tracks in a folder that all stages of a cluster share: a disk, or NFS and the like with atomic rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from broker.errors import StoreError
from processors.track_blobs import SharedBlobs


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
                return [path.name for path in (self._folder / place).iterdir()]
            except FileNotFoundError:
                return []

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
            making = path.with_name(f"{name}.{secrets.token_hex(4)}.making")  # of nobody else, also on another machine
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
