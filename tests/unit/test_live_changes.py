"""A changed athlete: what is run again, what is only finished again, and what is left alone."""

from __future__ import annotations

import pytest

from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, encode_reference
from processors.live_changes import take_change
from processors.live_state import LiveStates
from processors.reference_data import ReferenceData
from processors.stage import Activity, Inputs, Outputs

ANNA = AthleteRef(tenant="gym", id="anna", name="Anna", weight_kg=61.5)
ACTIVITIES = [
    Activity("gym/anna", 1_000 * k, 1_000 * k, 1_000 * k + 900, 0, 0, 0, 9, 0, 0, 0, closed=k < 3, version=5) for k in range(1, 4)
]


@pytest.mark.parametrize(
    ("change", "wakes"),
    [
        ({"weight_kg": 66.0}, ["finish:1000", "finish:2000"]),  # the third one is under way: it is judged at its end
        ({"weight_kg": None}, ["finish:1000", "finish:2000"]),
        ({"removed": True}, ["finish:1000", "finish:2000"]),
        ({"name": "Anna B."}, []),
        ({"weight_kg": 66.0, "hr_max_bpm": 171}, ["rebuild:1000:1900", "rebuild:2000:2900", "rebuild:3000:3900"]),  # finished after it
    ],
)
def test_another_weight_judges_finished_activities_anew(change: dict[str, object], wakes: list[str]) -> None:
    reference = ReferenceData()
    reference.apply(ANNA)
    outputs = Outputs()
    changed = encode_reference(ANNA.model_copy(update=change))
    take_change(
        reference, LiveStates(), LogRecord(Kind.REFERENCE, "gym/anna", "gym", "", 7, changed), Inputs(activities=ACTIVITIES), outputs
    )
    assert [wake.name for wake in outputs.wakes] == wakes
