"""Tracks: every sample of a subject in canonical order, and their blob form (delta + byte shuffle + zlib, about 8 B a sample).

Canonical order is (time, origin, boot, seq, index in frame), so the same set of frames gives the same track bytes however it arrived.
A blob holds one layout; it keeps enough (source, seq, index) to be merged with frames that come later.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgpack
import numpy as np
import numpy.typing as npt

from broker.columns import Records, dtype_of, join_records
from broker.errors import StoreError
from broker.layouts import all_layouts
from processors.live_kernel import I64
from processors.samples import TakenFrame

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Track:
    """Samples of one layout in canonical order. `source` indexes `sources`; `records` are the raw records as sent (their ticks too)."""

    layout: int
    sources: tuple[tuple[str, int], ...]
    t_us: I64
    source: npt.NDArray[np.uint16]
    seq: npt.NDArray[np.uint64]
    index: npt.NDArray[np.uint16]
    records: Records

    def __len__(self) -> int:
        return len(self.t_us)

    def si(self, name: str) -> npt.NDArray[np.float64]:
        """One field in SI units, NaN where absent; shape (samples,)."""
        field = all_layouts()[self.layout].field(name)
        raw = self.records[name]
        values = raw * field.scale + field.offset
        if field.absent is not None:
            values[raw == field.absent] = np.nan
        return values

    def fingerprint(self) -> bytes:
        """All bytes that matter, for comparing two tracks bit for bit."""
        return repr((self.layout, self.sources)).encode() + b"".join(
            a.tobytes() for a in (self.t_us, self.source, self.seq, self.index, self.records)
        )


def tracks_of(frames: Iterable[TakenFrame], blobs: Sequence[Track] = ()) -> dict[int, Track]:
    """Canonical tracks by layout of frames and already compacted tracks together."""
    by_layout: dict[int, list[TakenFrame]] = {}
    for taken in frames:
        if taken.frame.layout in all_layouts():
            by_layout.setdefault(taken.frame.layout, []).append(taken)
    parts = {layout: [_raw_track(layout, found)] for layout, found in by_layout.items()}
    for blob in blobs:
        parts.setdefault(blob.layout, []).append(blob)
    return {layout: merge(found) for layout, found in sorted(parts.items())}


def _raw_track(layout: int, frames: list[TakenFrame]) -> Track:
    size = dtype_of(layout).itemsize
    sources = tuple(sorted({(f.origin, f.frame.boot) for f in frames}))
    place = {source: i for i, source in enumerate(sources)}
    counts = np.fromiter((len(f.frame.records) // size for f in frames), np.int64, len(frames))
    records = join_records(layout, [f.frame.records for f in frames])
    base = np.fromiter((f.frame.t0_us + f.offset_us for f in frames), np.int64, len(frames))
    index = np.arange(len(records)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Track(
        layout,
        sources,
        np.repeat(base, counts) + records["tick_ms"].astype(np.int64) * 1000,
        np.repeat(np.fromiter((place[f.origin, f.frame.boot] for f in frames), np.uint16, len(frames)), counts),
        np.repeat(np.fromiter((f.frame.seq for f in frames), np.uint64, len(frames)), counts),
        index.astype(np.uint16),
        records,
    )


def merge(tracks: Sequence[Track]) -> Track:
    """One canonical track of several of the same layout. What two of them hold (after a kill while folding) is there once."""
    sources = tuple(sorted({source for track in tracks for source in track.sources}))
    place = {source: i for i, source in enumerate(sources)}
    remapped = [np.array([place[s] for s in track.sources], np.uint16)[track.source] for track in tracks]
    t_us = np.concatenate([track.t_us for track in tracks])
    source = np.concatenate(remapped)
    seq = np.concatenate([track.seq for track in tracks])
    index = np.concatenate([track.index for track in tracks])
    records = np.concatenate([track.records for track in tracks])
    order = np.lexsort((index, seq, source, t_us))
    if len(tracks) > 1 and len(order):
        same = np.ones(len(order) - 1, np.bool_)
        for column in (t_us, source, seq, index):
            same &= column[order[1:]] == column[order[:-1]]
        order = order[np.concatenate([[True], ~same])]
    return Track(tracks[0].layout, sources, t_us[order], source[order], seq[order], index[order], records[order])


def cut(track: Track, from_us: int, to_us: int) -> Track:
    """The samples with from_us <= t <= to_us, and only the sources they come from."""
    lo, hi = (int(i) for i in (np.searchsorted(track.t_us, from_us, "left"), np.searchsorted(track.t_us, to_us, "right")))
    return _part(track, slice(lo, hi))


def without_repeats(track: Track) -> Track:
    """The track with each (source, seq, index) once: the first in canonical order."""
    where = np.stack([track.source.astype(np.uint64), track.seq, track.index.astype(np.uint64)], axis=1)
    _, first = np.unique(where, axis=0, return_index=True)
    if len(first) == len(track):
        return track
    mask = np.zeros(len(track), np.bool_)
    mask[first] = True
    return picked(track, mask)


def picked(track: Track, mask: npt.NDArray[np.bool_]) -> Track:
    """The chosen samples, and only the sources they come from."""
    return _part(track, mask)


def _part(track: Track, part: slice | npt.NDArray[np.bool_]) -> Track:
    used, source = np.unique(track.source[part], return_inverse=True)
    numbers: list[int] = used.tolist()
    sources = tuple(track.sources[i] for i in numbers)
    return Track(track.layout, sources, track.t_us[part], source.astype(np.uint16), track.seq[part], track.index[part], track.records[part])


def split_at_gaps(track: Track, gap_us: int) -> list[Track]:
    """Parts with no gap over `gap_us` inside, in time order."""
    bounds = [0, *(np.flatnonzero(np.diff(track.t_us) > gap_us) + 1).tolist(), len(track)]
    return [_part(track, slice(lo, hi)) for lo, hi in pairwise(bounds) if lo < hi]


def encode_track(track: Track) -> bytes:
    """The blob of a track; `decode_track` gives the same track back, bit for bit."""
    columns = [track.t_us, track.source, track.seq, track.index, *(track.records[name] for name in _names(track.layout))]
    packed = zlib.compress(b"".join(_shuffled_delta(np.ascontiguousarray(column)) for column in columns), 1)
    return msgpack.packb((_VERSION, track.layout, [list(source) for source in track.sources], len(track), packed))


def decode_track(blob: bytes, where: str = "track") -> Track:
    """Inverse of `encode_track`; StoreError names `where` when the blob is damaged."""
    try:
        version, layout, sources, n, packed = msgpack.unpackb(blob, use_list=False)
        if version != _VERSION:
            raise ValueError(f"version {version}")
        raw = zlib.decompress(packed)
    except (ValueError, zlib.error) as error:
        raise StoreError(f"{where}: damaged track blob ({error})", cure="rebuild it: paceline replay") from error
    dtype = dtype_of(layout)
    types = [np.dtype(np.int64), np.dtype(np.uint16), np.dtype(np.uint64), np.dtype(np.uint16)]
    types += [dtype[name] for name in _names(layout)]
    columns: list[npt.NDArray[np.generic]] = []
    at = 0
    for kind in types:
        size = kind.itemsize * n
        columns.append(_unshuffled_delta(raw[at : at + size], kind))
        at += size
    records: Records = np.zeros(int(n), dtype)
    for name, column in zip(_names(layout), columns[4:], strict=True):
        records[name] = column
    t_us, source, seq, index = columns[:4]
    named = tuple((str(origin), int(boot)) for origin, boot in sources)
    return Track(
        int(layout), named, t_us.astype(np.int64), source.astype(np.uint16), seq.astype(np.uint64), index.astype(np.uint16), records
    )


def _names(layout: int) -> list[str]:
    return [field.name for field in all_layouts()[layout].fields]


def _shuffled_delta(column: npt.NDArray[np.generic]) -> bytes:
    """Differences modulo the width, then all first bytes, all second bytes, ...: slow signals become runs of zeros."""
    width = column.dtype.itemsize
    unsigned = column.view(f"<u{width}")
    delta = unsigned.copy()
    delta[1:] -= unsigned[:-1]
    return delta.view(np.uint8).reshape(-1, width).T.tobytes()


def _unshuffled_delta(raw: bytes, kind: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    width = kind.itemsize
    delta = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(width, -1).T).view(f"<u{width}").reshape(-1)
    return np.cumsum(delta, dtype=delta.dtype).view(kind)
