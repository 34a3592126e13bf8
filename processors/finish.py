"""The finish stage, keyed by activity: what a closed activity comes to, from its whole track.

Asked for by wakes `finish:<start>` that the live stage leaves when an activity closes, and again when late frames, a file, a binding or a
segment change it. Its result is a function of the track, so it may run any number of times.
"""

from __future__ import annotations

from processors.finishing import finish_activity
from processors.live_wakes import FINISH
from processors.reference_data import ReferenceData
from processors.results import activity_id
from processors.stage import Batch, FinishedActivity, Inputs, Outputs, TrackWindow, Wants


def is_finish(batch: Batch) -> bool:
    """Whether a batch of one wake is for this stage."""
    return batch.records[0].body.startswith(FINISH.encode())


class FinishStage:
    """See the module."""

    name = "finish"

    def __init__(self, reference: ReferenceData) -> None:
        self._reference = reference

    def wants(self, batch: Batch) -> Wants:
        """The track of the activity."""
        at_us = _start_us(batch)
        return Wants(window=TrackWindow(batch.records[0].key, at_us, at_us))

    def step(self, batch: Batch, inputs: Inputs) -> Outputs:
        """The finished activity, or nothing when it goes on or is no more."""
        outputs = Outputs()
        at_us = _start_us(batch)
        record = batch.records[0]
        activity = next((a for a in inputs.activities if a.start_us <= at_us <= a.end_us), None)
        if activity is not None and activity.closed:
            tenant, _, athlete = record.key.partition("/")
            index = None if athlete.startswith("@") else self._reference.index(tenant)
            said = self._reference.decisions.sport(tenant, activity_id(record.key, activity.anchor_us))
            who = self._reference.athlete(record.key)
            finished = finish_activity(record.key, inputs.tracks, activity, who, index, inputs.uploads, said)
            outputs.finished.append(FinishedActivity(activity.start_us, finished, batch.first, record.appended_us))
        return outputs


def _start_us(batch: Batch) -> int:
    return int(batch.records[0].body[len(FINISH) :])
