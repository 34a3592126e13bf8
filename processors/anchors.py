"""Anchors: what the id of an activity is made of, so that a file uploaded later becomes the same activity.

The anchor of an activity is the start of what its live stream alone makes; of one that was never live, its own start. So an upload that
begins a little before the stream changes the activity's start and not its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from processors import live_kernel as k
from processors.live_kernel import I64
from processors.preference import has_uploads, is_upload, live_part
from processors.run_kernel import run_tracks
from processors.tracks import Track


def anchors_us(tracks: Mapping[int, Track], runs: Sequence[I64]) -> list[int]:
    """The anchor of each run (state rows that `run_tracks` made of `tracks`)."""
    if not has_uploads(tracks):
        return [int(run[k.START]) for run in runs]
    alone = run_tracks(live_part(tracks), int(k.fresh_row()[k.HR_REF]))
    found: list[int] = []
    for run in runs:  # what the file divides is one live run: its first part keeps the anchor
        over = (int(live[k.START]) for live in alone if live[k.START] <= run[k.LAST_T] and live[k.LAST_T] >= run[k.START])
        found.append(next((at_us for at_us in over if at_us not in found), int(run[k.START])))
    return found


def uploads_end_us(tracks: Mapping[int, Track]) -> int:
    """The last instant of any uploaded file in the tracks, NEVER without one."""
    end_us = k.NEVER
    for track in tracks.values():
        files = [number for number, (origin, _) in enumerate(track.sources) if is_upload(origin)]
        times = track.t_us[np.isin(track.source, files)] if files else track.t_us[:0]
        if len(times):
            end_us = max(end_us, int(times[-1]))
    return end_us
