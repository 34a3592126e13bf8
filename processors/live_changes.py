"""What a change of reference data does to live states: whose activities are to be run or finished again.

Each stretch of samples that a change touches gets a wake of its own, so no step works on more than one activity, however far back it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from broker.ids import unbound_of
from broker.logrecord import LogRecord
from broker.reference import AthleteRef, BindingRef, Reference, SegmentRef, UploadRef, decode_reference
from processors import live_kernel as k
from processors.copies import stamp_of
from processors.live_state import LiveStates
from processors.live_wakes import again_wake, finish_wake
from processors.reference_data import UNKNOWN_HR_MAX_BPM, ReferenceData
from processors.repair import DEFAULT_ZONES_BPM
from processors.stage import Held, Inputs, Outputs, Wants

Owns = Callable[[str], bool]
"""Whether the activities of a subject are made here: where a stage is cut into partitions, those of some are made elsewhere."""


def owns_all(subject: str) -> bool:  # noqa: ARG001 - of any
    """On one machine everybody is here."""
    return True


def wants_of_change(record: LogRecord, reference: ReferenceData) -> Wants:
    """What must be looked up before a change is taken."""
    value = decode_reference(record.body)
    if isinstance(value, AthleteRef):
        subject = f"{value.tenant}/{value.id}"
        return Wants([subject], history=subject)
    if isinstance(value, SegmentRef):
        return Wants(segment=(value.tenant, value.id))
    if isinstance(value, UploadRef):
        return Wants(origins=[value.origin])
    if not isinstance(value, BindingRef):
        return Wants()
    before = reference.binding(value.tenant, value.id)
    return Wants(origins=sorted({value.origin, value.origin if before is None else before.origin}))


def concerned_by(record: LogRecord, inputs: Inputs, reference: ReferenceData) -> list[str]:
    """Whom a change touches, once it is known what it found."""
    value = decode_reference(record.body)
    if isinstance(value, BindingRef | UploadRef):
        bound = {b.subject for held in inputs.held for b in reference.bindings(held.origin)}
        devices = {str(unbound_of(held.origin)) for held in inputs.held if reference.is_bound(held.origin)}
        devices |= {str(unbound_of(value.origin))} if isinstance(value, BindingRef) else set()
        return sorted({held.key for held in inputs.held} | bound | devices | {value.subject} if inputs.held else set())
    return []


def take_change(
    reference: ReferenceData, states: LiveStates, record: LogRecord, inputs: Inputs, outputs: Outputs, owns: Owns = owns_all
) -> None:  # fmt: skip
    """Take a change into `reference` and have what it touches computed again."""
    value = decode_reference(record.body)
    counted_for = [reference.counting_for(*held) for held in inputs.held]
    before = reference.apply(value)
    touch_changed(reference, states, Changed(value, before, counted_for, record.appended_us), inputs, outputs, owns)


class Changed(NamedTuple):
    """A change that `reference` has taken: the value before it, and whom each of the held samples counted for until then."""

    value: Reference
    before: Reference | None
    counted_for: Sequence[Sequence[str]]
    at_us: int


def touch_changed(
    reference: ReferenceData, states: LiveStates, changed: Changed, inputs: Inputs, outputs: Outputs, owns: Owns = owns_all
) -> None:  # fmt: skip
    """Have what a change touches computed again; for runners whose partitions share one `reference`."""
    value, before, _, at_us = changed
    if isinstance(value, AthleteRef):
        if _counted(before) != _counted(value):
            outputs.wakes += [again_wake(a.subject, a.start_us, a.end_us, at_us) for a in inputs.activities]
        elif _weight_kg(before) != _weight_kg(value):
            outputs.wakes += [finish_wake(a.subject, a.start_us, at_us) for a in inputs.activities if a.closed]
    elif isinstance(value, SegmentRef):
        if not isinstance(before, SegmentRef) or _shape(before) != _shape(value):
            for subject, start_us, closed in inputs.touched:
                outputs.wakes.append(finish_wake(subject, start_us, at_us) if closed else again_wake(subject, start_us, start_us, at_us))
    elif isinstance(value, BindingRef):
        _binding(reference, states, changed, inputs, outputs, owns)
    else:
        for key, origin, first_us, last_us in inputs.held:
            for subject in filter(owns, reference.counting_for(key, origin, first_us, last_us)):
                outputs.wakes.append(again_wake(subject, first_us, last_us, at_us))


def _shape(segment: SegmentRef) -> tuple[object, ...]:
    return segment.points, segment.sport, segment.removed


def _counted(athlete: Reference | None) -> tuple[object, ...]:
    """What effort points, zones and the training impulse depend on."""
    if not isinstance(athlete, AthleteRef) or athlete.removed:
        return UNKNOWN_HR_MAX_BPM, DEFAULT_ZONES_BPM, False
    return athlete.hr_max_bpm, athlete.zones_bpm, athlete.sex == "f"


def _weight_kg(athlete: Reference | None) -> float | None:
    """What efforts are judged by besides: at the end of an activity."""
    return athlete.weight_kg if isinstance(athlete, AthleteRef) and not athlete.removed else None


def moved_span(held: Held, bindings: Sequence[BindingRef]) -> tuple[int, int]:
    """The part of held samples that a changed binding (`bindings`: as it was and as it is) is about; it may be empty."""
    key, origin, first_us, last_us = held
    mine = [b for b in bindings if b.origin == origin]
    lo = max(first_us, min(k.NEVER if b.from_us is None else b.from_us for b in mine))
    ends_us = max(-k.NEVER if b.to_us is None or b.subject == stamp_of(key) else b.to_us for b in mine)  # a stamp may outlive its binding
    return lo, min(last_us, ends_us)


def _binding(
    reference: ReferenceData, states: LiveStates, changed: Changed, inputs: Inputs, outputs: Outputs, owns: Owns
) -> None:  # fmt: skip
    """Samples of the device between the old and new bounds count for somebody else now: everyone they counted or count for is run again."""
    bindings = [b for b in (changed.before, changed.value) if isinstance(b, BindingRef)]
    for held, losing in zip(inputs.held, changed.counted_for, strict=True):
        lo, hi = moved_span(held, bindings)
        if lo > hi:
            continue
        concerned = sorted(filter(owns, {*losing, *reference.counting_for(held.key, held.origin, lo, hi)}))
        rows = [row for row in map(states.peek, concerned) if row is not None]
        heard_us = max((int(row[k.APPENDED]) for row in rows), default=0)
        for subject in concerned:
            row = states.row(subject)
            row[k.APPENDED] = max(int(row[k.APPENDED]), heard_us)
            states.mark(subject)
            outputs.wakes.append(again_wake(subject, lo, hi, changed.at_us))
