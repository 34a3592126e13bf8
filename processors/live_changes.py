"""What a change of reference data does to live states: whose activities are to be run or finished again."""

from __future__ import annotations

from collections.abc import Sequence

from broker.logrecord import LogRecord
from broker.reference import AthleteRef, BindingRef, SegmentRef, decode_reference
from processors import live_kernel as k
from processors.live_state import LiveStates
from processors.live_wakes import finish_wake, rebuild_now
from processors.reference_data import ReferenceData
from processors.stage import Inputs, Outputs, Wants


def wants_of_change(record: LogRecord) -> Wants:
    """What must be looked up before a change is taken."""
    value = decode_reference(record.body)
    if isinstance(value, AthleteRef):
        return Wants([f"{value.tenant}/{value.id}"])
    if isinstance(value, SegmentRef):
        return Wants(segment=(value.tenant, value.id))
    return Wants(origin=value.origin) if isinstance(value, BindingRef) else Wants()


def concerned_by(record: LogRecord, inputs: Inputs, reference: ReferenceData) -> list[str]:
    """Whom a change touches, once it is known what it found."""
    value = decode_reference(record.body)
    if isinstance(value, BindingRef):
        others = {b.subject for b in reference.bindings(value.origin)}
        return sorted({key for key, _, _ in inputs.held} | others | {value.subject})
    return sorted({subject for subject, _ in inputs.touched})


def take_change(reference: ReferenceData, states: LiveStates, record: LogRecord, inputs: Inputs, outputs: Outputs) -> None:
    """Take a change into `reference` and have what it touches computed again."""
    value = decode_reference(record.body)
    before = reference.apply(value)
    if isinstance(value, AthleteRef):
        _athlete(states, value, record.appended_us, outputs)
    elif isinstance(value, BindingRef):
        _binding(reference, states, [b for b in (before, value) if isinstance(b, BindingRef)], record, inputs, outputs)
    elif isinstance(value, SegmentRef) and (not isinstance(before, SegmentRef) or _shape(before) != _shape(value)):
        for subject, start_us in inputs.touched:
            row = states.peek(subject)
            if row is not None and row[k.START] == start_us:
                rebuild_now(row, subject, start_us, int(row[k.LAST_T]), record.appended_us, outputs)
                states.mark(subject)
            outputs.wakes.append(finish_wake(subject, start_us, record.appended_us))


def _shape(segment: SegmentRef) -> tuple[object, ...]:
    return segment.points, segment.sport, segment.removed


def _athlete(states: LiveStates, athlete: AthleteRef, appended_us: int, outputs: Outputs) -> None:
    """Effort points depend on the highest heart rate: the activity under way is counted again with a new one."""
    key = f"{athlete.tenant}/{athlete.id}"
    row = states.peek(key)
    if row is not None and row[k.HR_REF] != athlete.hr_max_bpm:
        row[k.HR_REF] = athlete.hr_max_bpm
        if row[k.START] != k.NEVER:
            rebuild_now(row, key, int(row[k.START]), int(row[k.LAST_T]), appended_us, outputs)
        states.mark(key)


def _binding(
    reference: ReferenceData, states: LiveStates, changed: Sequence[BindingRef], record: LogRecord, inputs: Inputs, outputs: Outputs
) -> None:  # fmt: skip
    """Samples of the device between the old and new bounds count for somebody else now: everyone concerned is run again."""
    from_us = min(k.NEVER if b.from_us is None else b.from_us for b in changed)
    to_us = max(-k.NEVER if b.to_us is None else b.to_us for b in changed)
    spans = [(max(lo, from_us), min(hi, to_us)) for _, lo, hi in inputs.held if lo <= to_us and hi >= from_us]
    if not spans:
        return
    concerned = {key for key, _, _ in inputs.held} | {b.subject for b in (*changed, *reference.bindings(changed[0].origin))}
    rows = [row for row in map(states.peek, sorted(concerned)) if row is not None]
    heard_us = max((int(row[k.APPENDED]) for row in rows), default=0)
    for key in sorted(concerned):
        row = states.rows[states.slot(key)]
        row[k.APPENDED] = max(int(row[k.APPENDED]), heard_us)
        rebuild_now(row, key, min(lo for lo, _ in spans), max(hi for _, hi in spans), record.appended_us, outputs)
        states.mark(key)
