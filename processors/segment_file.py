"""Segment files: a table of segments in one file that any number of processes map into memory and share.

A header page (magic, length and CRC-32 of a JSON text: version, tenant, the state it belongs to, log position up to which changes are in,
sections, CRC-32 of the rest), then the arrays of the table, each at a multiple of 64 bytes. A file is written beside the old one and put in
its place whole, so who has the old one open keeps it. What is torn, of another version, state or tenant is refused with its reason; it is
made again from the reference data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import mmap
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from broker.errors import StoreError
from broker.reference import SegmentRef
from processors.segment_table import SegmentTable
from processors.segments import SegmentIndex

_log = logging.getLogger(__name__)
_MAGIC: Final = b"PLSEGMTS"
_VERSION: Final = 2
_HEADER: Final = 4_096
_ALIGN: Final = 64
_SECTIONS: Final = ("ids", "gates", "legs", "buckets", "entries", "tags")
_CURE: Final = "remove the file: it is made again from the reference data"
SEGMENT_FOLDER: Final = "segments"  # beside the state
SUFFIX: Final = ".table"
_FRESH: Final = ".new"
FILE_AT: Final = 20_000  # fewer segments are packed when they are needed


class SegmentFile(NamedTuple):
    """An open file: its table, and the log position up to which changes are in it."""

    table: SegmentTable
    tenant: str
    position: int


def write_segment_file(path: Path, tenant: str, position: int, table: SegmentTable, *, state: int = 0) -> None:
    """Write a table and put it in the place of what was there. `state`: the random id of the state file it belongs to. OSError when the
    disk does not take it; then the old file stays."""
    arrays: dict[str, npt.NDArray[Any]] = {name: np.ascontiguousarray(getattr(table, name)) for name in _SECTIONS}
    sections: dict[str, tuple[int, str, tuple[int, ...]]] = {}
    at = _HEADER
    for name, array in arrays.items():
        sections[name] = at, array.dtype.str, array.shape
        at += -(-array.nbytes // _ALIGN) * _ALIGN
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}{_FRESH}")
    try:
        with fresh.open("wb") as file:
            file.seek(_HEADER)
            crc = 0
            for array in arrays.values():
                raw = array.tobytes() + bytes(-array.nbytes % _ALIGN)
                crc = zlib.crc32(raw, crc)
                file.write(raw)
            file.seek(0)
            file.write(
                _header(
                    {
                        "version": _VERSION,
                        "tenant": tenant,
                        "state": state,
                        "position": position,
                        "size": at,
                        "crc": crc,
                        "sections": sections,
                    }
                )
            )
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_segment_file(path: Path, tenant: str, *, state: int = 0, whole: bool = False) -> SegmentFile:
    """Map a file; nothing of the table is read yet. `whole`: check every byte of it. StoreError says what is wrong with it, also that it
    belongs to another state."""
    try:
        with path.open("rb") as file:
            said = _said(path, file.read(_HEADER))
            size = os.fstat(file.fileno()).st_size
            if said["tenant"] != tenant:
                raise StoreError(f"{path}: segments of tenant {said['tenant']!r}, not {tenant!r}", cure=_CURE)
            if said["state"] != state:
                raise StoreError(f"{path}: belongs to another state than the one beside it", cure=_CURE)
            if size != said["size"]:
                raise StoreError(f"{path}: {size} bytes, {said['size']} were written", cure=_CURE)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StoreError(f"{path}: {error}", cure=_CURE) from error
    if whole and zlib.crc32(memoryview(mapped)[_HEADER:]) != said["crc"]:
        raise StoreError(f"{path}: the table is not what was written", cure=_CURE)
    made: list[npt.NDArray[Any]] = []
    for name in _SECTIONS:
        at, dtype, shape = said["sections"][name]
        made.append(np.frombuffer(mapped, np.dtype(cast("str", dtype)), math.prod(shape), at).reshape(shape))
    table = SegmentTable(*made)
    if table.buckets[-1] != len(table.entries):
        raise StoreError(f"{path}: its buckets do not fit its entries", cure=_CURE)
    return SegmentFile(table, tenant, said["position"])


def _header(said: dict[str, Any]) -> bytes:
    text = json.dumps(said, separators=(",", ":")).encode()
    return (_MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + text).ljust(_HEADER, b"\0")


def _said(path: Path, raw: bytes) -> dict[str, Any]:
    """The checked header."""
    if len(raw) < _HEADER or raw[:8] != _MAGIC:
        raise StoreError(f"{path}: not a file of segments, or only the beginning of one", cure=_CURE)
    text = raw[16 : 16 + int.from_bytes(raw[8:12], "little")]
    if zlib.crc32(text) != int.from_bytes(raw[12:16], "little"):
        raise StoreError(f"{path}: its header is damaged", cure=_CURE)
    said = json.loads(text)
    if said["version"] != _VERSION:
        raise StoreError(f"{path}: a file of version {said['version']}, this program writes {_VERSION}", cure=_CURE)
    return said


class SegmentFiles:
    """The files of a folder, one a tenant of at least `file_at` segments. Only the writer of the state makes them; others look.
    `state`: the random id of the state file, so that nobody takes segments of a site that was here before."""

    def __init__(self, folder: Path, file_at: int = FILE_AT, *, state: int = 0) -> None:
        self._folder = folder
        self.file_at = file_at
        self._state = state

    def sweep(self) -> None:
        """Remove what writers left behind that were killed. For the writer of the state, before it writes."""
        for left in self._folder.glob(f"*{SUFFIX}.*{_FRESH}"):
            with contextlib.suppress(OSError):
                left.unlink()
                _log.info("segments: %s of a killed process removed", left)

    def path(self, tenant: str) -> Path:
        """Where the file of a tenant is."""
        return self._folder / f"{tenant}{SUFFIX}"

    def index(
        self, tenant: str, position: int, changes: Callable[[int], Sequence[SegmentRef]], *, whole: bool = False
    ) -> SegmentIndex | None:  # fmt: skip
        """The index as of a log position: the file, and above it the `changes` after its own position.

        None when no file serves: it is missing, damaged (`whole`: looked at to the last byte) or of a later position.
        """
        path = self.path(tenant)
        if not path.exists():
            return None
        try:
            found = open_segment_file(path, tenant, state=self._state, whole=whole)
        except StoreError as error:
            _log.warning("%s; it is not used", error)
            return None
        if found.position > position:
            return None
        since, index = changes(found.position), SegmentIndex.over(found.table)
        return index.changed(since) if since else index

    def keep(self, tenant: str, position: int, index: SegmentIndex) -> SegmentIndex:
        """Put an index into the file of a tenant, in place of the one there; the same index over the file.

        When the disk does not take it, the index as it is, in memory."""
        try:
            write_segment_file(self.path(tenant), tenant, position, index.folded().lower, state=self._state)
        except OSError as error:
            _log.error("segments: %s is not written (%s): the index of %s stays in memory", self.path(tenant), error, tenant)
            return index
        return SegmentIndex.over(open_segment_file(self.path(tenant), tenant, state=self._state).table)
