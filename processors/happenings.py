"""Which events a change comes to: pure, from what was stored before and what is stored after.

`version` is the log position of the record that caused the change, `appended_us` when that record was appended. `ordinal` tells apart
several changes of one activity, effort or board at one position: the caller counts them from 0, in the order they are applied. Nothing is
told when nothing a reader sees has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from broker.events import models
from broker.events.envelope import Event, Phase, make_event
from broker.events.models import TOP, metres, utc_text
from processors.awards import KINDS, Awarded
from processors.results import Effort, Summary
from processors.results import Phase as Timing

_TIMING: Final[dict[Timing, Literal["provisional", "settled", "final"]]] = {
    Timing.PROVISIONAL: "provisional",
    Timing.SETTLED: "settled",
    Timing.FINAL: "final",
}
_SPORTS: Final[dict[str, Literal["run", "ride"]]] = {"run": "run", "ride": "ride"}


class BestMoved(Protocol):
    """What happenings need to know of a change of a segment board: whose best effort it was and is (None: none)."""

    @property
    def best_before(self) -> Effort | None:
        """The best effort of the subject until now."""
        ...

    @property
    def best_after(self) -> Effort | None:
        """The best effort of the subject from now on."""
        ...


@dataclass(frozen=True, slots=True)
class _Cause:
    """The log record behind a change."""

    version: int
    appended_us: int
    ordinal: int

    def event(self, name: str, data: models.Data, phase: Phase, time_us: int | None = None) -> Event:
        at_us = self.appended_us if time_us is None else time_us
        return make_event(
            f"paceline.{name}.v1",
            data,
            time_us=at_us,
            recorded_us=self.appended_us,
            phase=phase,
            position=self.version,
            ordinal=self.ordinal,
        )


def board_name(tenant: str, segment: str) -> str:
    """The board of a segment, as events call it."""
    return f"{tenant}/{segment}"


def activity_started(subject: str, anchor_us: int, activity: str, version: int, appended_us: int, ordinal: int = 0) -> Event:
    """A workout is under way since `anchor_us`."""
    data = models.ActivityStarted(activity=activity, subject=subject, started_at=utc_text(anchor_us))
    return _Cause(version, appended_us, ordinal).event("user.activity.started", data, "provisional", anchor_us)


def activity_finished(
    before: Summary | None, after: Summary | None, version: int, appended_us: int, merged_into: str | None = None, ordinal: int = 0
) -> list[Event]:
    """What a new outcome of an activity comes to: closed, corrected or removed, and what it means for the distance of its day.

    `before` is the stored outcome (None: none yet), `after` the new one (None: the activity is none any more, or part of `merged_into`).
    """
    cause = _Cause(version, appended_us, ordinal)
    return [*_activity(before, after, merged_into, cause), *_distance(before, after, cause)]


def activity_withdrawn(
    subject: str, activity: str, version: int, appended_us: int, merged_into: str | None = None, ordinal: int = 0
) -> Event:
    """An activity that was started and never finished is none any more."""
    data = models.ActivityRemoved(activity=activity, subject=subject, change=models.ActivityRemoval(merged_into=merged_into))
    return _Cause(version, appended_us, ordinal).event("user.activity.removed", data, "correction")


def effort_changed(before: Effort | None, after: Effort, version: int, appended_us: int, ordinal: int = 0) -> list[Event]:
    """What a new version of an effort comes to: recorded, corrected, removed, or nothing when only the version differs.

    Phase: `provisional` until the whole activity is known, `final` then, `correction` when what was final changes or an effort is removed.
    """
    cause = _Cause(version, appended_us, ordinal)
    known = before if before is not None and not before.removed else None
    if after.removed:
        if known is None:
            return []
        gone = models.EffortRemoved(effort=after.id, activity=after.activity, subject=after.subject, segment=after.segment)
        return [cause.event("social.effort.removed", gone, "correction")]
    finish_us = after.start_us + 1000 * after.elapsed_ms
    if known is None:
        return [cause.event("social.effort.recorded", _effort(after), _phase(None, after), finish_us)]
    fields = _differing(_effort(known), _effort(after))
    if not fields:
        return []
    change = models.EffortCorrection(fields=fields, elapsed_delta_ms=after.elapsed_ms - known.elapsed_ms)
    corrected = models.EffortCorrected.model_validate({**dict(_effort(after)), "change": change})
    return [cause.event("social.effort.corrected", corrected, _phase(known, after), finish_us)]


def board_changed(change: BestMoved, top: Sequence[Effort], version: int, appended_us: int, ordinal: int = 0) -> list[Event]:
    """What a moved best effort comes to: the record of the subject, and the board when its first ten changed, with its lead.

    `top` is the board after the change: the best effort of each subject, first to last, at least the first ten when there are so many.
    """
    return [*record_changed(change, version, appended_us, ordinal), *first_ten_changed(change, top, version, appended_us, ordinal)]


def record_changed(change: BestMoved, version: int, appended_us: int, ordinal: int = 0) -> list[Event]:
    """What a moved best effort comes to for its subject."""
    before, after = change.best_before, change.best_after
    return [] if _row(before) == _row(after) else [_record(before, after, _Cause(version, appended_us, ordinal))]


def first_ten_changed(change: BestMoved, top: Sequence[Effort], version: int, appended_us: int, ordinal: int = 0) -> list[Event]:
    """What a moved best effort comes to for its board: nothing when its first ten, `top` after the change, are the same."""
    before, after = change.best_before, change.best_after
    one = after or before
    if one is None or _row(before) == _row(after):
        return []
    return _board(one, before, after, list(top[:TOP]), _Cause(version, appended_us, ordinal))


def awards_changed(awarded: Awarded, cause_effort: Effort, appended_us: int, ordinal: int = 0) -> list[Event]:
    """What moved awards of an effort come to: each one given or taken back, once. `cause_effort` is the effort whose change moved them."""
    cause = _Cause(cause_effort.version, appended_us, ordinal)
    own = awarded.effort == cause_effort.id and awarded.subject == cause_effort.subject
    why = models.AwardChange(cause="own" if own else "other")
    board = board_name(cause_effort.tenant, cause_effort.segment)
    found: list[Event] = []
    for kind in KINDS:
        if (kind in awarded.before) == (kind in awarded.after):
            continue
        award = f"{awarded.subject}:{awarded.effort}:{kind}"
        said = {"award": award, "subject": awarded.subject, "effort": awarded.effort, "kind": kind, "board": board}
        data = {**said, "segment": cause_effort.segment, "change": why}
        if kind not in awarded.after:
            found.append(cause.event("user.award.withdrawn", models.AwardWithdrawn.model_validate(data), "correction"))
        else:
            finish_us = cause_effort.start_us + 1000 * cause_effort.elapsed_ms if own else None
            phase = _phase(None, cause_effort) if own else "correction"
            found.append(cause.event("user.award.given", models.AwardGiven.model_validate(data), phase, finish_us))
    return found


def _activity(before: Summary | None, after: Summary | None, merged_into: str | None, cause: _Cause) -> list[Event]:
    if after is None:
        if before is None:
            return []
        return [activity_withdrawn(before.subject, before.id, cause.version, cause.appended_us, merged_into, cause.ordinal)]
    now = _activity_data(after)
    if before is None:
        return [cause.event("user.activity.closed", now, "final", after.end_us)]
    assert before.id == after.id
    fields = _differing(_activity_data(before), now)
    if not fields:
        return []
    corrected = models.ActivityCorrected.model_validate({**dict(now), "change": models.Correction(fields=fields)})
    return [cause.event("user.activity.corrected", corrected, "correction", after.end_us)]


def _activity_data(summary: Summary) -> models.Activity:
    return models.Activity(
        activity=summary.id,
        subject=summary.subject,
        sport=_SPORTS.get(summary.sport, "other"),
        started_at=utc_text(summary.start_us),
        ended_at=utc_text(summary.end_us),
        distance_m=metres(summary.distance_cm),
        elapsed_ms=summary.elapsed_ms,
        moving_ms=summary.moving_ms,
        gain_m=metres(summary.gain_cm),
        hr_avg_bpm=summary.hr_avg_bpm,
        hr_max_bpm=summary.hr_max_bpm,
        power_avg_w=summary.power_avg_w,
        effort_points=summary.points / 1000,
        zones_ms=summary.zones_ms,
        laps=tuple(
            models.LapData(
                started_at=utc_text(lap.start_us),
                elapsed_ms=lap.elapsed_ms,
                distance_m=metres(lap.distance_cm),
                hr_avg_bpm=lap.hr_avg_bpm,
                power_avg_w=lap.power_avg_w,
            )
            for lap in summary.laps
        ),
        sources=len(summary.origins),
        samples=summary.samples,
        trimp=None if summary.trimp is None else summary.trimp / 1000,
        work_j=summary.work_j,
        normalised_power_w=summary.normalised_power_w,
        rmssd_ms=summary.rmssd_ms,
    )


def _distance(before: Summary | None, after: Summary | None, cause: _Cause) -> list[Event]:
    """Credits by day of the start; an activity that moves to another day gives back the one and is credited to the other."""
    held, owed = _credit(before), _credit(after)
    found: list[Event] = []
    for (activity, subject, day), had_cm in held.items():
        cm = owed.get((activity, subject, day), 0)
        if cm != had_cm:
            found.append(_credit_event(activity, subject, day, cm, cm - had_cm, cause))
    found.extend(_credit_event(*place, cm, None, cause) for place, cm in owed.items() if place not in held)
    return found


def _credit(summary: Summary | None) -> dict[tuple[str, str, str], int]:
    if summary is None or summary.distance_cm == 0:
        return {}
    return {(summary.id, summary.subject, utc_text(summary.start_us)[:10]): summary.distance_cm}


def _credit_event(activity: str, subject: str, day: str, cm: int, delta_cm: int | None, cause: _Cause) -> Event:
    credit = f"{activity}:{day}"
    if delta_cm is None:
        told = models.DistanceCredited(credit=credit, activity=activity, subject=subject, day=day, distance_m=metres(cm))
        return cause.event("promo.distance.credited", told, "final")
    change = models.DistanceChange(delta_m=metres(delta_cm))
    moved = models.DistanceCorrected(credit=credit, activity=activity, subject=subject, day=day, distance_m=metres(cm), change=change)
    return cause.event("promo.distance.corrected", moved, "correction")


def _effort(effort: Effort) -> models.Effort:
    return models.Effort(
        effort=effort.id,
        activity=effort.activity,
        subject=effort.subject,
        segment=effort.segment,
        ordinal=effort.ordinal,
        started_at=utc_text(effort.start_us),
        elapsed_ms=effort.elapsed_ms,
        accuracy_ms=effort.accuracy_ms,
        timing=_TIMING[effort.phase],
        hr_avg_bpm=effort.hr_avg_bpm,
        power_avg_w=effort.power_avg_w,
        doubts=effort.doubts,
        plausibility_pct=effort.plausibility_pct,
        kept_off=not effort.stands,
    )


def _phase(before: Effort | None, after: Effort) -> Phase:
    if before is not None and before.phase is Timing.FINAL:
        return "correction"
    return "final" if after.phase is Timing.FINAL else "provisional"


def _differing(before: models.Data, after: models.Data) -> tuple[str, ...]:
    return tuple(name for name in type(after).model_fields if getattr(before, name) != getattr(after, name))


def _order(effort: Effort) -> tuple[int, int, str]:
    return effort.elapsed_ms, effort.start_us, effort.id


def _row(effort: Effort | None) -> tuple[int, int, str] | None:
    """What a board shows of an effort."""
    return None if effort is None else _order(effort)


def _record(before: Effort | None, after: Effort | None, cause: _Cause) -> Event:
    one = after or before
    assert one is not None
    record, board = f"{one.subject}:{one.segment}", board_name(one.tenant, one.segment)
    if after is None:
        gone = models.RecordWithdrawn(record=record, subject=one.subject, board=board, segment=one.segment)
        return cause.event("user.record.withdrawn", gone, "correction")
    why = _why(before, after)
    data = models.RecordSet(
        record=record,
        subject=one.subject,
        board=board,
        segment=one.segment,
        effort=after.id,
        elapsed_ms=after.elapsed_ms,
        started_at=utc_text(after.start_us),
        change=models.RecordChange(cause=why, previous_elapsed_ms=None if before is None else before.elapsed_ms),
    )
    phase = "correction" if why == "restored" else _phase(before if why == "corrected" else None, after)
    return cause.event("user.record.set", data, phase, after.start_us + 1000 * after.elapsed_ms)


def _why(before: Effort | None, after: Effort) -> Literal["first", "faster", "corrected", "restored"]:
    if before is None:
        return "first"
    if before.id == after.id:
        return "corrected"
    return "faster" if _order(after) < _order(before) else "restored"


def _board(one: Effort, before: Effort | None, after: Effort | None, top: list[Effort], cause: _Cause) -> list[Event]:
    """Only one subject moved, so the others of `top` stood in the same order before: that is all the past that is needed."""
    others = [effort for effort in top if effort.subject != one.subject]
    held: list[Effort] = [] if before is None else [before]
    earlier = sorted([*others, *held], key=_order)[:TOP]
    rank_before, rank_after = _rank(earlier, one.subject), _rank(top, one.subject)
    if rank_before is None and rank_after is None:
        return []
    board = board_name(one.tenant, one.segment)
    moved = models.BoardChange(subject=one.subject, rank_before=rank_before, rank_after=rank_after)
    data = models.BoardChanged(board=board, segment=one.segment, top=_rows(top), change=moved)
    phase: Phase = "correction" if after is None else _phase(before if before and before.id == after.id else None, after)
    found = [cause.event("social.board.changed", data, phase)]
    leader, previous = top[0] if top else None, earlier[0].subject if earlier else None
    if leader is not None and leader.subject != previous:
        lead = models.LeadChange(previous=previous, cause="faster" if leader.subject == one.subject else "inherited")
        taken = models.LeadTaken(board=board, segment=one.segment, leader=_rows([leader])[0], change=lead)
        found.append(cause.event("social.board.lead_taken", taken, phase))
    return found


def _rank(rows: Sequence[Effort], subject: str) -> int | None:
    return next((row.rank for row in _rows(rows) if row.subject == subject), None)


def _rows(efforts: Sequence[Effort]) -> tuple[models.BoardRow, ...]:
    """Lines of a board from its first; equal times share a rank."""
    times = [effort.elapsed_ms for effort in efforts]
    return tuple(
        models.BoardRow(
            rank=times.index(effort.elapsed_ms) + 1,
            subject=effort.subject,
            effort=effort.id,
            elapsed_ms=effort.elapsed_ms,
            started_at=utc_text(effort.start_us),
        )
        for effort in efforts
    )
