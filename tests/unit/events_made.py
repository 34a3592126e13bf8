"""Any event of any type, for the tests of events: strategies that follow the models, not the code that makes events."""

from __future__ import annotations

from hypothesis import strategies as st

from broker.events import models
from broker.events.catalogue import CATALOGUE
from broker.events.envelope import PHASES, Event, make_event
from broker.events.models import Data, metres, utc_text

IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,5}", fullmatch=True)
SUBJECTS = st.one_of(
    st.builds("{}/{}".format, IDS, IDS), st.builds("{}/@{}".format, IDS, IDS), st.builds("{}/@{}/{}".format, IDS, IDS, IDS)
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
TIMES_US = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # years 1 to 9999
UTCS = TIMES_US.map(utc_text)
DAYS = UTCS.map(lambda text: text[:10])
BIG = st.integers(0, 2**62)
METRES = st.integers(0, 10**10).map(metres)
HR = st.none() | st.integers(0, 255)
WATTS = st.none() | st.integers(0, 4_000)
RANKS = st.none() | st.integers(1, 10)
LAPS = st.builds(models.LapData, started_at=UTCS, elapsed_ms=BIG, distance_m=METRES, hr_avg_bpm=HR, power_avg_w=WATTS)
ROWS = st.builds(models.BoardRow, rank=st.integers(1, 10), subject=SUBJECTS, effort=NAMES, elapsed_ms=BIG, started_at=UTCS)
FIELDS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
_ACTIVITY = {
    "activity": NAMES, "subject": SUBJECTS, "sport": st.sampled_from(["run", "ride", "other"]), "started_at": UTCS, "ended_at": UTCS,
    "distance_m": METRES, "elapsed_ms": BIG, "moving_ms": BIG, "gain_m": METRES, "hr_avg_bpm": HR, "hr_max_bpm": HR, "power_avg_w": WATTS,
    "effort_points": st.integers(0, 10**9).map(lambda n: n / 1000), "trimp": st.none() | st.integers(0, 10**9).map(lambda n: n / 1000),
    "work_j": st.none() | BIG, "normalised_power_w": WATTS, "rmssd_ms": st.none() | st.integers(0, 2000), "zones_ms": st.tuples(BIG, BIG, BIG, BIG, BIG),
    "laps": st.lists(LAPS, max_size=2).map(tuple), "sources": st.integers(0, 9), "samples": BIG,
}  # fmt: skip
_EFFORT = {
    "effort": NAMES, "activity": NAMES, "subject": SUBJECTS, "segment": NAMES, "ordinal": st.integers(0, 99), "started_at": UTCS,
    "elapsed_ms": BIG, "accuracy_ms": BIG, "timing": st.sampled_from(["provisional", "settled", "final"]), "hr_avg_bpm": HR,
    "power_avg_w": WATTS, "doubts": st.lists(NAMES, max_size=3).map(tuple), "plausibility_pct": st.integers(0, 100),
    "kept_off": st.booleans(),
}  # fmt: skip
_BOARD = {"board": st.builds("{}/{}".format, IDS, IDS), "segment": NAMES}
_RECORD = {"record": NAMES, "subject": SUBJECTS, "board": NAMES, "segment": NAMES}
_AWARD = {
    "award": NAMES, "subject": SUBJECTS, "effort": NAMES, "kind": st.sampled_from(["record", "top_10", "own_1", "own_2", "own_3"]), "board": NAMES,
    "segment": NAMES, "change": st.builds(models.AwardChange, cause=st.sampled_from(["own", "other"])),
}  # fmt: skip
_CREDIT = {"credit": NAMES, "activity": NAMES, "subject": SUBJECTS, "day": DAYS, "distance_m": METRES}
_DELTAS = st.integers(-(10**9), 10**9).filter(bool).map(metres)
_FIELDS_OF = {
    models.ActivityStarted: {"activity": NAMES, "subject": SUBJECTS, "started_at": UTCS},
    models.Activity: _ACTIVITY,
    models.ActivityCorrected: {**_ACTIVITY, "change": st.builds(models.Correction, fields=FIELDS)},
    models.ActivityRemoved: {
        "activity": NAMES, "subject": SUBJECTS, "change": st.builds(models.ActivityRemoval, merged_into=st.none() | NAMES)
    },
    models.RecordSet: {
        **_RECORD, "effort": NAMES, "elapsed_ms": BIG, "started_at": UTCS,
        "change": st.builds(
            models.RecordChange, cause=st.sampled_from(["first", "faster", "corrected", "restored"]), previous_elapsed_ms=st.none() | BIG
        ),
    },
    models.RecordWithdrawn: _RECORD,
    models.AwardGiven: _AWARD,
    models.AwardWithdrawn: _AWARD,
    models.Effort: _EFFORT,
    models.EffortCorrected: {
        **_EFFORT, "change": st.builds(models.EffortCorrection, fields=FIELDS, elapsed_delta_ms=st.integers(-(2**62), 2**62))
    },
    models.EffortRemoved: {"effort": NAMES, "activity": NAMES, "subject": SUBJECTS, "segment": NAMES},
    models.BoardChanged: {
        **_BOARD, "top": st.lists(ROWS, max_size=10).map(tuple),
        "change": st.builds(models.BoardChange, subject=SUBJECTS, rank_before=RANKS, rank_after=RANKS),
    },
    models.LeadTaken: {
        **_BOARD, "leader": ROWS,
        "change": st.builds(models.LeadChange, previous=st.none() | SUBJECTS, cause=st.sampled_from(["faster", "inherited"])),
    },
    models.DistanceCredited: _CREDIT,
    models.DistanceCorrected: {**_CREDIT, "change": st.builds(models.DistanceChange, delta_m=_DELTAS)},
}  # fmt: skip


def data(model: type[Data]) -> st.SearchStrategy[Data]:
    """Any data of a model; KeyError when a model has no strategy yet."""
    return st.builds(model, **_FIELDS_OF[model])


def _event_of(name: str) -> st.SearchStrategy[Event]:
    return st.builds(
        make_event,
        st.just(name),
        data(CATALOGUE[name].model),
        time_us=TIMES_US,
        recorded_us=TIMES_US,
        phase=st.sampled_from(PHASES),
        position=st.integers(0, 10**16 - 1),
        ordinal=st.integers(0, 9_999),
    )


EVENTS = st.sampled_from(sorted(CATALOGUE)).flatmap(_event_of)
