"""Where folded tracks are kept: rows of the state file, or files of a folder that all stages of a cluster share.

A blob holds the samples of one key and layout without a long gap. Replacing is safe at any point: new blobs are written and durable before
old ones go, a name says what is inside, and a reader that meets both counts no sample twice (`tracks.without_repeats`). The folder may be
any that behaves like one with atomic rename: a disk, NFS, or an S3-compatible store behind the same two methods.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

from broker.errors import StoreError
from processors.tracks import Track, encode_track

_SUFFIX: Final = ".track"
_TRIES: Final = 20


class Blob(NamedTuple):
    """One stretch of samples of a layout, encoded (`tracks.encode_track`)."""

    layout: int
    first_us: int
    last_us: int
    samples: int
    body: bytes


def blob_of(track: Track) -> Blob:
    """A track that is not empty, as a blob."""
    return Blob(track.layout, int(track.t_us[0]), int(track.t_us[-1]), len(track), encode_track(track))


def beside_key(key: str) -> str:
    """Under which the undated frames of a key are folded, with the dates they have by now: those may change."""
    return f"{key}~"


class TrackBlobs(Protocol):
    """The blobs of all keys."""

    def read(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        """Those of a key that touch a span (both ends included)."""
        ...

    def replace(self, key: str, from_us: int, to_us: int, blobs: Sequence[Blob]) -> None:
        """Put `blobs` in the place of those of a key that touch a span."""
        ...


class RowBlobs:
    """Rows of the table `track`, inside the transaction of their connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def read(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        query = "SELECT blob FROM track WHERE subject=? AND first_us<=? AND last_us>=?"
        return [row[0] for row in self._db.execute(query, (key, to_us, from_us))]

    def replace(self, key: str, from_us: int, to_us: int, blobs: Sequence[Blob]) -> None:
        self._db.execute("DELETE FROM track WHERE subject=? AND first_us<=? AND last_us>=?", (key, to_us, from_us))
        self._db.executemany("INSERT INTO track VALUES (?,?,?,?,?,?)", [(key, *blob) for blob in blobs])


class FolderBlobs:
    """Files `{folder}/{key}/{layout}.{first}.{last}.{samples}.track`. One writer a key, any number of readers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        place = self._place(key)
        for _ in range(_TRIES):
            try:
                return [(place / name).read_bytes() for name in _touching(place, from_us, to_us)]
            except FileNotFoundError:
                continue  # it was replaced meanwhile: its samples are in another one now
            except OSError as error:
                raise StoreError(f"{place}: {error}", cure="check that every stage can read the folder of tracks") from error
        raise StoreError(f"{place}: tracks are replaced faster than they can be read", cure="check the folder of tracks")

    def replace(self, key: str, from_us: int, to_us: int, blobs: Sequence[Blob]) -> None:
        place = self._place(key)
        try:
            place.mkdir(parents=True, exist_ok=True)
            old = _touching(place, from_us, to_us)
            made = {f"{b.layout}.{b.first_us}.{b.last_us}.{b.samples}{_SUFFIX}": b.body for b in blobs}
            for name, body in made.items():
                _write(place / name, body)
            if made:
                _sync_folder(place)
                if not old:
                    _sync_folder(self._folder)  # the place itself may be new
            for name in old:
                if name not in made:
                    (place / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{place}: {error}", cure="check space and rights of the folder of tracks") from error

    def _place(self, key: str) -> Path:
        return self._folder / quote(key, safe="@")


def _touching(place: Path, from_us: int, to_us: int) -> list[str]:
    try:
        names = sorted(path.name for path in place.iterdir())
    except FileNotFoundError:
        return []
    found: list[str] = []
    for name in names:
        if name.endswith(_SUFFIX):
            _, first_us, last_us, _ = name.removesuffix(_SUFFIX).split(".")
            if int(first_us) <= to_us and int(last_us) >= from_us:
                found.append(name)
    return found


def _write(path: Path, body: bytes) -> None:
    """Whole and durable, or not at all."""
    making = path.with_name(f"{path.name}.{os.getpid()}.making")
    with making.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)


def _sync_folder(place: Path) -> None:
    """Have the names in a folder survive a loss of power: a rename alone does not."""
    at = os.open(place, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
