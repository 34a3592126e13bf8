"""Whom the frames that the live stage takes count for: their stamp, or the bindings of the device by the time of each sample.

A new date of a boot moves its undated frames, which are late where they were and where they are. On a cluster only some subjects are here:
a frame that counts for others is given to them (`Outputs.shared`), and comes to them as a copy, with the date of its boot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.frames import Frame
from broker.ids import unbound_of
from broker.logrecord import LogRecord
from processors import live_kernel as k
from processors.copies import Date
from processors.live_changes import Owns
from processors.live_state import LiveStates, Numbering
from processors.live_wakes import late
from processors.reference_data import ReferenceData
from processors.results import UPLOAD_NODE
from processors.samples import TakenFrame
from processors.stage import Numbered, Outputs, Shared


@dataclass(slots=True)
class Touched:
    """What a batch did to one subject."""

    slot: int
    position: int
    appended_us: int
    start_us: int  # of its activity before the batch


def touch(states: LiveStates, key: str, position: int, appended_us: int, touched: dict[str, Touched]) -> int:
    """Note that a batch touches a subject; its slot."""
    seen = touched.get(key)
    if seen is None:
        seen = touched[key] = Touched(states.slot(key), position, appended_us, k.NEVER)
    else:
        seen.position, seen.appended_us = position, appended_us
    return seen.slot


def _newly_dated(numbering: Numbering, frame: Frame) -> list[tuple[int, int]]:
    """Note the frame's date, or that it has none. A new date of the boot makes its earlier undated frames late: where they are and were."""
    if frame.utc_offset_us is None:
        numbering.note_undated(frame)
        return []
    if numbering.date_seq is not None and frame.seq >= numbering.date_seq:
        return []
    spans = list(numbering.undated_spans(frame.utc_offset_us))
    numbering.date_seq, numbering.date_offset_us = frame.seq, frame.utc_offset_us
    return spans


class Attribution:
    """Looks into `reference`, as it is known by then. `owns`: who is here."""

    def __init__(self, reference: ReferenceData, owns: Owns) -> None:
        self._reference = reference
        self._owns = owns

    def of_frame(
        self, states: LiveStates, of: Numbered, numbering: Numbering, frame: Frame, record: LogRecord, position: int,
        touched: dict[str, Touched], outputs: Outputs, date: Date | None,
    ) -> tuple[int, TakenFrame, bool]:  # fmt: skip
        """The slot of whom a frame counts for, the frame with its date, and whether the kernel may take it as it comes (most frames need
        none of this).

        It may not when it is from an uploaded file, or when a binding changes inside it: then it is late for everyone concerned; nor when
        it counts for somebody elsewhere. `date`: it is a copy.
        """
        spans = _newly_dated(numbering, frame)
        offset_us = frame.utc_offset_us if frame.utc_offset_us is not None else numbering.date_offset_us
        taken = TakenFrame(of.origin, record.node, frame, record.body, offset_us)
        bound = self._reference.is_bound(of.origin)
        if not bound and not spans and record.node != UPLOAD_NODE and date is None:
            return touch(states, of.key, position, record.appended_us, touched), taken, True
        from_us, to_us = frame.t0_us + offset_us, taken.end_us
        subjects = [of.key]
        if (bound or date is not None) and numbering.date_seq is not None:
            subjects = self._reference.counting_for(of.key, of.origin, from_us, to_us)
        here = [subject for subject in subjects if self._owns(subject)]
        appended_us = record.appended_us if date is None else max(record.appended_us, *(int(states.row(s)[k.APPENDED]) for s in here), 0)
        for subject in here:
            touch(states, subject, position, appended_us, touched)
        held = self._held_by(of.origin) if bound else []
        for subject in dict.fromkeys([*subjects, of.key, *held]) if spans else ():
            if self._owns(subject):
                touch(states, subject, position, appended_us, touched)
                for lo, hi in spans:
                    late(states.row(subject), lo, hi)
        if bound and date is None and numbering.date_seq is not None:
            self._share(record, numbering, frame, [*subjects, *held] if spans or frame.utc_offset_us is None else subjects, outputs)
            if spans:
                outputs.redated.append((of, record.appended_us))
        whole = len(subjects) == len(here) == 1 and record.node != UPLOAD_NODE
        if not whole and numbering.date_seq is not None:
            for subject in here:
                late(states.row(subject), from_us, to_us)
        return states.slot(here[0]) if here else -1, taken, whole

    def _held_by(self, origin: str) -> list[str]:
        """Whom samples of a bound origin may count for by its bindings, now or when they have another date."""
        return sorted({unbound_of(origin), *(b.subject for b in self._reference.bindings(origin))})

    def _share(self, record: LogRecord, numbering: Numbering, frame: Frame, subjects: Sequence[str], outputs: Outputs) -> None:
        """Let those have a frame whose activities are made elsewhere; those of undated frames must know each of them, and each date."""
        elsewhere = [subject for subject in dict.fromkeys(subjects) if not self._owns(subject)]
        if elsewhere:
            seq = frame.seq if numbering.date_seq is None else numbering.date_seq
            outputs.shared.append(Shared(record, (seq, numbering.date_offset_us), elsewhere))

    def date_copies(
        self, states: LiveStates, of: Numbered, numbering: Numbering, date: Date, record: LogRecord, position: int,
        touched: dict[str, Touched],
    ) -> None:  # fmt: skip
        """A copy tells the date of its boot: its undated frames that are here are where that says."""
        seq, offset_us = date
        if numbering.date_seq is not None and seq >= numbering.date_seq:
            return
        spans = list(numbering.undated_spans(offset_us))
        numbering.date_seq, numbering.date_offset_us = seq, offset_us
        for subject in filter(self._owns, self._held_by(of.origin)) if spans else ():
            touch(states, subject, position, max(record.appended_us, int(states.row(subject)[k.APPENDED])), touched)
            for lo, hi in spans:
                late(states.row(subject), lo, hi)
