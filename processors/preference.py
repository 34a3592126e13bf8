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

from broker.layouts import all_layouts
from processors.live_kernel import ABSENT, GAP_US, HOLD_US, NO_POS
from processors.results import UPLOAD_NODE
from processors.samples import BEATS, CARRIES, MACHINE, MOTION, Samples, fill_samples
from processors.tracks import Track

Mask = npt.NDArray[np.bool_]
Source = tuple[str, int]  # origin and boot
Span = tuple[int, int]

_HEART: Final = {MOTION: ("hr_bpm",), BEATS: ("hr_bpm", "rr_ms"), MACHINE: ("hr_bpm",)}
_POWER: Final = {MOTION: ("power_w",), BEATS: (), MACHINE: ("power_w",)}
_MOVES: Final = {
    layout: tuple(f.name for f in all_layouts()[layout].fields[1:] if f.name not in {*_HEART[layout], *_POWER[layout]})
    for layout in (MOTION, MACHINE)
} | {BEATS: ()}
_CHANNELS: Final = (_HEART, _MOVES, _POWER)


def is_upload(origin: str) -> bool:
    """Whether an origin is an uploaded file: `tenant/upload/...`."""
    return origin.split("/", 2)[1:2] == [UPLOAD_NODE]


def has_uploads(tracks: Mapping[int, Track]) -> bool:
    """Whether any sample comes from an uploaded file."""
    return any(is_upload(origin) for track in tracks.values() for origin, _ in track.sources)


def live_part(tracks: Mapping[int, Track]) -> dict[int, Track]:
    """The samples that do not come from uploaded files."""
    return {layout: _picked(track, ~_of_uploads(track)) for layout, track in tracks.items()}


def preferred(tracks: Mapping[int, Track]) -> dict[int, Track]:
    """The tracks with only what counts. A file also takes the `HOLD_US` before it begins, so that a live source ends in time."""
    if not has_uploads(tracks):
        return dict(tracks)
    records = {layout: track.records.copy() for layout, track in tracks.items()}
    for channel in _CHANNELS:
        spans = {layout: _measured(track, channel) for layout, track in tracks.items() if layout in CARRIES}
        for upload, covered in _ranked(tracks, spans):
            for layout, track in tracks.items():
                if layout not in CARRIES or not len(track):
                    continue
                hidden = _inside(track, covered) & ~_of(track, upload) & _not_before(track, upload, tracks, spans)
                for name in channel[layout]:
                    records[layout][name][hidden] = all_layouts()[layout].field(name).absent
    return {layout: replace(track, records=records[layout]) for layout, track in tracks.items()}
