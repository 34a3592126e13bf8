"""Where folded tracks are kept: rows of the state file, or files that all stages of a cluster share.

A blob holds the samples of one key and layout without a long gap. What is shared is written by whoever has the key's partition, and a
process that was stopped may go on writing after it lost that: so files are named by what is in them and never changed, a file goes only
by the hand of one who read it and has put all of it into another that is durable, and what may be known better later (dates) is known by
the position of the log it was known at. Any writers in any order lose no sample; a reader that meets one twice counts it once
(`tracks.without_repeats`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import msgpack

from broker.errors import StoreError
from processors.tracks import Track, encode_track

_SUFFIX: Final = ".track"
_BESIDE: Final = ".beside"
_MARK: Final = "~"
_TRIES: Final = 20


class Blob(NamedTuple):
    """One stretch of samples of a layout, encoded (`tracks.encode_track`)."""

    layout: int
    first_us: int
    last_us: int
    samples: int
    body: bytes


class Stored(NamedTuple):
    """A blob that is there, and by what name."""

    name: str
    body: bytes


def blob_of(track: Track) -> Blob:
    """A track that is not empty, as a blob."""
    return Blob(track.layout, int(track.t_us[0]), int(track.t_us[-1]), len(track), encode_track(track))


def beside_key(key: str) -> str:
    """Under which the undated frames of a key are folded, with the dates they have by now: those may change."""
    return f"{key}{_MARK}"


class TrackBlobs(Protocol):
    """The blobs of all keys."""

    def read(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        """Those of a key that touch a span (both ends included)."""
        ...

    def stored(self, key: str, from_us: int, to_us: int) -> list[Stored]:
        """The same, each with its name."""
        ...

    def replace(self, key: str, old: Sequence[Stored], blobs: Sequence[Blob]) -> None:
        """Put `blobs` in the place of those that were read: they hold all samples of them."""
        ...


class RowBlobs:
    """Rows of the table `track`, inside the transaction of their connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def read(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        return [found.body for found in self.stored(key, from_us, to_us)]

    def stored(self, key: str, from_us: int, to_us: int) -> list[Stored]:
        query = "SELECT layout, first_us, blob FROM track WHERE subject=? AND first_us<=? AND last_us>=?"
        return [Stored(f"{layout}.{first_us}", blob) for layout, first_us, blob in self._db.execute(query, (key, to_us, from_us))]

    def replace(self, key: str, old: Sequence[Stored], blobs: Sequence[Blob]) -> None:
        gone = [(key, *map(int, found.name.split("."))) for found in old]
        self._db.executemany("DELETE FROM track WHERE subject=? AND layout=? AND first_us=?", gone)
        self._db.executemany("INSERT INTO track VALUES (?,?,?,?,?,?)", [(key, *blob) for blob in blobs])


class Objects(Protocol):
    """Small files in places: a folder, or a bucket. StoreError when it cannot be had."""

    def names(self, place: str) -> list[str]:
        """What is in a place, whole files only."""
        ...

    def get(self, place: str, name: str) -> bytes | None:
        """What is in a file; None when it is gone."""
        ...

    def put(self, place: str, name: str, body: bytes) -> None:
        """Write a file, whole or not at all."""
        ...

    def settle(self, place: str) -> None:
        """Have what was put survive a loss of power."""
        ...

    def drop(self, place: str, names: Sequence[str]) -> None:
        """Take files away, those that are there."""
        ...


class SharedBlobs:
    """Blobs as objects `{key}/{layout}.{first}.{last}.{samples}.{digest}.track`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        if key.endswith(_MARK):
            return self._read_beside(key, from_us, to_us)
        return [found.body for found in self.stored(key, from_us, to_us)]

    def stored(self, key: str, from_us: int, to_us: int) -> list[Stored]:
        place = _place(key)
        for _ in range(_TRIES):
            found = [(name, self._objects.get(place, name)) for name in _touching(self._objects.names(place), from_us, to_us)]
            made = [Stored(name, body) for name, body in found if body is not None]
            if len(made) == len(found):
                return made  # else one was replaced meanwhile: its samples are in another one now
        raise StoreError(f"{key}: tracks are replaced faster than they can be read", cure="check where the tracks are kept")

    def replace(self, key: str, old: Sequence[Stored], blobs: Sequence[Blob]) -> None:
        place = _place(key)
        made = {f"{b.layout}.{b.first_us}.{b.last_us}.{b.samples}.{_digest(b.body)}{_SUFFIX}": b.body for b in blobs}
        held = {found.name for found in old}
        for name, body in made.items():
            if name not in held:
                self._objects.put(place, name, body)
        self._objects.settle(place)
        gone = sorted(held - made.keys())
        if gone:
            self._objects.drop(place, gone)

    def replace_beside(self, key: str, position: int, blobs: Sequence[Blob]) -> None:
        """Put all that is beside a key as of a position of its log. Whoever is behind that changes nothing readers see."""
        place, name = _place(key), f"{position:020}{_BESIDE}"
        before = [found for found in self._objects.names(place) if found.endswith(_BESIDE) and found < name]
        self._objects.put(place, name, msgpack.packb([tuple(blob) for blob in blobs]))
        self._objects.settle(place)
        if before:
            self._objects.drop(place, before)

    def _read_beside(self, key: str, from_us: int, to_us: int) -> list[bytes]:
        place = _place(key)
        for _ in range(_TRIES):
            newest = max((name for name in self._objects.names(place) if name.endswith(_BESIDE)), default=None)
            if newest is None:
                return []
            body = self._objects.get(place, newest)
            if body is not None:
                blobs = [Blob(*found) for found in msgpack.unpackb(body)]
                return [blob.body for blob in blobs if blob.first_us <= to_us and blob.last_us >= from_us]
        raise StoreError(f"{key}: tracks are replaced faster than they can be read", cure="check where the tracks are kept")


def _place(key: str) -> str:
    return quote(key, safe="@")


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=8).hexdigest()


def _touching(names: Sequence[str], from_us: int, to_us: int) -> list[str]:
    found: list[str] = []
    for name in sorted(names):
        if name.endswith(_SUFFIX):
            _, first_us, last_us, *_ = name.removesuffix(_SUFFIX).split(".")
            if int(first_us) <= to_us and int(last_us) >= from_us:
                found.append(name)
    return found
