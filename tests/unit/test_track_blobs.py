"""Shared tracks: what is replaced goes only when its successor would survive a loss of power, and no writer, however late, loses a sample."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from processors.track_blobs import Blob, SharedBlobs, beside_key
from processors.track_folder import FolderBlobs


def blob(first: int, last: int, body: bytes = b"") -> Blob:
    return Blob(1, first, last, last - first + 1, body or f"{first}-{last}".encode())


def test_an_old_track_goes_once_the_name_of_the_new_one_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path)
    blobs.replace("gym/ann", [], [blob(0, 10, b"old")])
    place = next(tmp_path.iterdir())
    synced: list[tuple[Path, set[str]]] = []
    really = os.fsync

    def fsync(at: int) -> None:
        really(at)
        synced.append((Path(f"/proc/self/fd/{at}").readlink(), {path.name[:9] for path in place.iterdir()}))

    monkeypatch.setattr(os, "fsync", fsync)
    blobs.replace("gym/ann", blobs.stored("gym/ann", 0, 20), [blob(0, 20, b"new")])
    assert blobs.read("gym/ann", 0, 20) == [b"new"]
    assert synced[-1] == (place, {"1.0.10.11", "1.0.20.21"})


def test_the_folder_of_a_new_key_is_durable_before_its_first_track_is_taken_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    really = os.fsync

    def fsync(at: int) -> None:
        really(at)
        synced.append(Path(f"/proc/self/fd/{at}").readlink())

    monkeypatch.setattr(os, "fsync", fsync)
    FolderBlobs(tmp_path).replace("gym/ann", [], [blob(0, 10)])
    place = next(path for path in tmp_path.iterdir() if path.is_dir())
    assert tmp_path in synced
    assert synced[-1] == place


class Memory:
    """Objects in memory, of one place."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def names(self, place: str) -> list[str]:
        return list(self.held)

    def get(self, place: str, name: str) -> bytes | None:
        return self.held.get(name)

    def put(self, place: str, name: str, body: bytes) -> None:
        self.held[name] = body

    def settle(self, place: str) -> None: ...

    def drop(self, place: str, names: Sequence[str]) -> None:
        for name in names:
            self.held.pop(name, None)


class Noted(Memory):
    """What a writer would do, step by step."""

    def __init__(self, objects: Memory) -> None:
        super().__init__()
        self.objects = objects
        self.steps: list[Callable[[], None]] = []

    def put(self, place: str, name: str, body: bytes) -> None:
        self.steps.append(lambda: self.objects.put(place, name, body))

    def drop(self, place: str, names: Sequence[str]) -> None:
        self.steps.extend(lambda name=name: self.objects.drop(place, [name]) for name in names)


def seconds_of(bodies: Sequence[bytes]) -> set[int]:
    """A body here is its first and last second."""
    spans = [body.decode().split("-") for body in bodies]
    return {second for first, last in spans for second in range(int(first), int(last) + 1)}


def stretches(seconds: set[int]) -> list[Blob]:
    """Seconds as blobs, cut where three or more are missing."""
    cuts = [0, *(n + 1 for n, (a, b) in enumerate(itertools.pairwise(sorted(seconds))) if b - a > 3), len(seconds)]
    parts = [sorted(seconds)[lo:hi] for lo, hi in itertools.pairwise(cuts)]
    return [blob(part[0], part[-1]) for part in parts]


def folding(objects: Memory, fresh: set[int]) -> Iterator[None]:
    """Fold fresh seconds as the live stage does; others may write between any two steps."""
    old = SharedBlobs(objects).stored("k", min(fresh) - 3, max(fresh) + 3)
    yield
    noted = Noted(objects)
    SharedBlobs(noted).replace("k", old, stretches(seconds_of([found.body for found in old]) | fresh))
    for step in noted.steps:
        step()
        yield


@pytest.mark.parametrize("seed", range(20))
def test_writers_that_were_stopped_anywhere_and_go_on_later_lose_nothing(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        objects, given = Memory(), set[int]()
        writing: list[Iterator[None]] = []
        for _ in range(rng.randint(2, 6)):
            at = rng.randrange(30)
            fresh = set(range(at, at + rng.randint(1, 6)))
            given |= fresh
            writing.append(folding(objects, fresh))
        while writing:
            steps = rng.choice(writing)
            if next(steps, "done") == "done":
                writing.remove(steps)
        assert given <= seconds_of(SharedBlobs(objects).read("k", -100, 100))


def test_a_writer_that_is_behind_changes_no_date_that_is_known_better() -> None:
    blobs = SharedBlobs(Memory())
    key = beside_key("gym/@strap")
    assert blobs.read(key, 0, 100) == []
    blobs.replace_beside(key, 7, [blob(0, 10)])
    blobs.replace_beside(key, 9, [blob(40, 50)])
    blobs.replace_beside(key, 8, [blob(20, 30)])
    assert blobs.read(key, 0, 100) == [b"40-50"]
    assert blobs.read(key, 0, 30) == []
    blobs.replace_beside(key, 12, [])
    blobs.replace_beside(key, 9, [blob(40, 50)])
    assert blobs.read(key, 0, 100) == []


def test_a_track_that_is_put_again_as_it_is_stays() -> None:
    objects = Memory()
    blobs = SharedBlobs(objects)
    blobs.replace("gym/ann", [], [blob(0, 10), blob(20, 30)])
    blobs.replace("gym/ann", blobs.stored("gym/ann", 0, 30), [blob(0, 10), blob(20, 40)])
    assert sorted(blobs.read("gym/ann", 0, 40)) == [b"0-10", b"20-40"]
