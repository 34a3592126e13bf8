"""Tracks in a shared folder: what is replaced goes only when its successor would survive a loss of power."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from processors.track_blobs import Blob, FolderBlobs


def test_an_old_track_goes_once_the_name_of_the_new_one_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path)
    blobs.replace("gym/ann", 0, 10, [Blob(1, 0, 10, 2, b"old")])
    place = next(tmp_path.iterdir())
    synced: list[tuple[Path, set[str]]] = []
    really = os.fsync

    def fsync(at: int) -> None:
        really(at)
        synced.append((Path(f"/proc/self/fd/{at}").readlink(), {path.name for path in place.iterdir()}))

    monkeypatch.setattr(os, "fsync", fsync)
    blobs.replace("gym/ann", 0, 20, [Blob(1, 0, 20, 4, b"new")])
    assert blobs.read("gym/ann", 0, 20) == [b"new"]
    assert synced[-1] == (place, {"1.0.10.2.track", "1.0.20.4.track"})


def test_the_folder_of_a_new_key_is_durable_with_its_first_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    really = os.fsync

    def fsync(at: int) -> None:
        really(at)
        synced.append(Path(f"/proc/self/fd/{at}").readlink())

    monkeypatch.setattr(os, "fsync", fsync)
    FolderBlobs(tmp_path).replace("gym/ann", 0, 10, [Blob(1, 0, 10, 2, b"new")])
    place = next(tmp_path.iterdir())
    assert synced[1:] == [place, tmp_path]
