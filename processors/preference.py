"""Preference: whose samples count in a finished activity when an uploaded file and live sources tell of the same time.

A file is written by the recording device itself and is whole, so inside the time it covers no other source counts, for each of heart
rate, motion and power on its own: a file without heart rate leaves the live strap alone. Of several files the one that covers more time
of a channel wins it. A silence of `GAP_US` in a file is not covered. Samples lose the fields of a channel, never their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.columns import Records
from broker.layouts import all_layouts
from processors.live_kernel import GAP_US, HOLD_US, I64
from processors.results import UPLOAD_NODE
from processors.samples import BEATS, MACHINE, MOTION, usable_position
from processors.tracks import Track

Mask = npt.NDArray[np.bool_]
Source = tuple[str, int]  # origin and boot

_HEART: Final = {MOTION: ("hr_bpm",), BEATS: ("hr_bpm", "rr_ms"), MACHINE: ("hr_bpm",)}
_POWER: Final = {MOTION: ("power_w",), MACHINE: ("power_w",)}
_MOTION: Final = {
    layout: tuple(f.name for f in all_layouts()[layout].fields if f.name not in {"tick_ms", *_HEART[layout], *_POWER[layout]})
    for layout in (MOTION, MACHINE)
}


def is_upload(origin: str) -> bool:
    """Whether an origin is an uploaded file: `tenant/upload/...`."""
    return origin.split("/", 2)[1:2] == [UPLOAD_NODE] and origin.count("/") > 1


def has_uploads(tracks: Mapping[int, Track]) -> bool:
    """Whether any sample comes from an uploaded file."""
    return any(is_upload(origin) for track in tracks.values() for origin, _ in track.sources)


def live_part(tracks: Mapping[int, Track]) -> dict[int, Track]:
    """The samples that do not come from uploaded files."""
    made: dict[int, Track] = {}
    for layout, track in tracks.items():
        uploaded = {source: 1 for source in track.sources if is_upload(source[0])}
        made[layout] = _picked(track, _per_sample(track, uploaded) == 0)
    return made


def preferred(tracks: Mapping[int, Track]) -> dict[int, Track]:
    """The tracks with only what counts. A file also takes the `HOLD_US` before it begins: by then a live source must have let go."""
    if not has_uploads(tracks):
        return dict(tracks)
    records = {layout: track.records.copy() for layout, track in tracks.items()}
    for channel in (_HEART, _MOTION, _POWER):
        covered = _covered(tracks, channel)
        ranks = {source: rank for rank, source in enumerate(covered)}
        for layout in channel.keys() & tracks.keys():
            track = tracks[layout]
            rank = _per_sample(track, ranks, other=len(ranks))
            for source, spans in covered.items():
                hidden = _inside(track.t_us, spans) & (rank > ranks[source])
                for name in channel[layout]:
                    records[layout][name][hidden] = all_layouts()[layout].field(name).absent
    return {layout: replace(track, records=records[layout]) for layout, track in tracks.items()}


def _covered(tracks: Mapping[int, Track], channel: Mapping[int, tuple[str, ...]]) -> dict[Source, I64]:
    """The spans each uploaded file covers of a channel, shape (spans, 2), those that cover most first."""
    times: dict[Source, list[I64]] = {}
    for layout in channel.keys() & tracks.keys():
        track = tracks[layout]
        measured = _measures(channel, layout, track.records)
        for number, source in enumerate(track.sources):
            if is_upload(source[0]):
                times.setdefault(source, []).append(track.t_us[measured & (track.source == number)])
    spans = {source: _spans(np.sort(np.concatenate(parts))) for source, parts in times.items()}
    return {source: spans[source] for source in sorted(spans, key=lambda s: (-int((spans[s][:, 1] - spans[s][:, 0]).sum()), s))}


def _measures(channel: Mapping[int, tuple[str, ...]], layout: int, records: Records) -> Mask:
    """Where the records say anything of a channel that the kernel listens to."""
    found = np.zeros(len(records), np.bool_)
    names = {"hr_bpm", "power_w", "speed_mps", "distance_m"}.intersection(channel[layout])
    for name in names:
        raw = records[name]
        found |= (raw != all_layouts()[layout].field(name).absent) & ((raw > 0) | (name != "hr_bpm"))
    if "lat" in channel[layout]:
        found |= usable_position(records["lat"].astype(np.int64), records["lon"].astype(np.int64))
    return found


def _spans(t_us: I64) -> I64:
    """First and last time of each run without a silence of more than `GAP_US`."""
    if not len(t_us):
        return np.zeros((0, 2), np.int64)
    cuts = np.flatnonzero(np.diff(t_us) > GAP_US)
    return np.stack([t_us[np.append(0, cuts + 1)] - HOLD_US, t_us[np.append(cuts, len(t_us) - 1)]], axis=1)


def _inside(t_us: I64, spans: I64) -> Mask:
    if not len(spans):
        return np.zeros(len(t_us), np.bool_)
    at = np.searchsorted(spans[:, 0], t_us, "right") - 1
    return (at >= 0) & (t_us <= spans[np.maximum(at, 0), 1])


def _per_sample(track: Track, values: Mapping[Source, int], other: int = 0) -> I64:
    """A number of each sample's source."""
    return np.array([values.get(source, other) for source in track.sources], np.int64)[track.source]


def _picked(track: Track, mask: Mask) -> Track:
    """The chosen samples and only the sources they come from."""
    used, source = np.unique(track.source[mask], return_inverse=True)
    numbers: list[int] = used.tolist()
    sources = tuple(track.sources[i] for i in numbers)
    return Track(track.layout, sources, track.t_us[mask], source.astype(np.uint16), track.seq[mask], track.index[mask], track.records[mask])
