"""What stages look up, in memory: athletes, bindings and the segments of each tenant with their index.

`apply` takes changes in log order. Lookups are functions of the changes so far, so a replay looks up the same at the same position.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.ids import unbound_of
from broker.reference import AthleteRef, BindingRef, Reference, SegmentRef
from processors.copies import stamp_of
from processors.decisions import Decisions
from processors.live_kernel import HR_REF, fresh_row
from processors.segment_file import SegmentFiles
from processors.segments import FOLD_AT, SegmentIndex
from processors.tracks import Track, picked

UNKNOWN_HR_MAX_BPM: Final = int(fresh_row()[HR_REF])


class ReferenceData:
    """Everything of all tenants."""

    def __init__(self, files: SegmentFiles | None = None) -> None:
        self._files = files
        self._athletes: dict[str, AthleteRef] = {}
        self._segments: dict[str, dict[str, SegmentRef]] = {}
        self._indexes: dict[str, SegmentIndex] = {}
        self._changed: dict[str, dict[str, SegmentRef]] = {}  # segments of a tenant that its index does not know yet
        self._bindings: dict[tuple[str, str], BindingRef] = {}
        self._standing: dict[str, tuple[BindingRef, ...]] = {}  # by origin, the greatest id first; empty once all were undone
        self._bound: dict[str, dict[str, None]] = {}  # subject: origins that stand or stood bound to it
        self._given: dict[str, dict[str, BindingRef]] = {}  # by origin and id, undone ones too
        self.decisions = Decisions()

    def take_stored(self, stored: Iterable[tuple[Reference, int]]) -> None:
        """Take all that is committed, each with the log position of its last change. Large indexes are mapped from the files of segments,
        and such a file is made when there is none that serves; only the writer of the state may have `files`."""
        positions: dict[str, dict[str, int]] = {}
        for value, position in stored:
            self.apply(value)
            if isinstance(value, SegmentRef):
                positions.setdefault(value.tenant, {})[value.id] = position
        for tenant, known in positions.items():
            if self._files is not None and len(known) >= self._files.file_at:
                held, newest = self._changed.pop(tenant), max(known.values())

                def after(
                    position: int, held: dict[str, SegmentRef] = held, known: dict[str, int] = known
                ) -> list[SegmentRef]:  # fmt: skip
                    return [ref for ident, ref in held.items() if known[ident] > position]

                found = self._files.index(tenant, newest, after, whole=True)
                if found is None or len(found.upper) >= FOLD_AT:
                    found = self._files.keep(tenant, newest, SegmentIndex.build(held.values()) if found is None else found)
                self._indexes[tenant] = found

    def apply(self, value: Reference) -> Reference | None:
        """Take a change; returns the value before it."""
        if isinstance(value, AthleteRef):
            subject = f"{value.tenant}/{value.id}"
            before = self._athletes.get(subject)
            self._athletes[subject] = value
        elif isinstance(value, SegmentRef):
            held = self._segments.setdefault(value.tenant, {})
            before = held.get(value.id)
            held[value.id] = value
            self._changed.setdefault(value.tenant, {})[value.id] = value
        elif isinstance(value, BindingRef):
            before = self.binding(value.tenant, value.id)
            self._bindings[value.tenant, value.id] = value
            for origin in {value.origin, value.origin if before is None else before.origin}:
                others = [b for b in self._standing.get(origin, ()) if b.id != value.id]
                standing = [*others, value] if origin == value.origin and not value.removed else others
                self._standing[origin] = tuple(sorted(standing, key=lambda b: b.id, reverse=True))
                self._given.setdefault(origin, {}).pop(value.id, None)
            self._given[value.origin][value.id] = value
            self._bound.setdefault(value.subject, {})[value.origin] = None
        else:
            self.decisions.apply(value)
            before = None
        return before

    def athlete(self, subject: str) -> AthleteRef | None:
        """The athlete of a subject, None for a device or somebody nobody described."""
        found = self._athletes.get(subject)
        return None if found is None or found.removed else found

    def hr_max_bpm(self, subject: str) -> int:
        """The highest heart rate of a subject, that of an unknown one when nobody said."""
        found = self.athlete(subject)
        return found.hr_max_bpm if found else UNKNOWN_HR_MAX_BPM

    def use_index(self, tenant: str, index: SegmentIndex) -> None:
        """Take segments that were indexed elsewhere for those of a tenant; later changes lie above them."""
        self._indexes[tenant] = index

    def share_indexes(self, of: ReferenceData, but: Container[str]) -> None:
        """Look segments up in the indexes of another, except in those of some tenants: the same segments are not indexed twice."""
        for tenant in [tenant for tenant in self._changed if tenant not in but]:
            of.index(tenant)
            self._indexes[tenant] = of._indexes[tenant]
            del self._changed[tenant]

    def index(self, tenant: str) -> SegmentIndex | None:
        """The segments of a tenant, None when it has none."""
        found, changed = self._indexes.get(tenant), self._changed.pop(tenant, None)
        if changed is not None:
            found = SegmentIndex.build(changed.values()) if found is None else found.changed(changed.values())
            self._indexes[tenant] = found
        return found if found is not None and found.segments else None

    def has_segments(self, tenant: str) -> bool:
        """Whether a tenant has a segment."""
        return self.index(tenant) is not None

    def segment(self, tenant: str, name: str) -> SegmentRef | None:
        """The last value of a segment, removed or not."""
        return self._segments.get(tenant, {}).get(name)

    def binding(self, tenant: str, name: str) -> BindingRef | None:
        """The last value of a binding, undone or not."""
        return self._bindings.get((tenant, name))

    def bindings(self, origin: str) -> tuple[BindingRef, ...]:
        """All bindings of an origin that stand, the one that wins first."""
        return self._standing.get(origin, ())

    def counts_for(self, key: str, origin: str, t_us: int) -> str:
        """Whom samples of `origin` at `t_us` that were stored under `key` count for."""
        for binding in self._standing.get(origin, ()):
            if binding.covers(t_us):
                return binding.subject
        return unbound_of(origin) if any(b.gives_back(t_us) for b in self.stamping(key, origin)) else stamp_of(key)

    def stamping(self, key: str, origin: str) -> list[BindingRef]:
        """The bindings, undone ones too, by which a box may have stamped frames of `origin` that are stored under `key`."""
        stamp = stamp_of(key)
        return [b for b in self._given.get(origin, {}).values() if b.subject == stamp]

    def counting_for(self, key: str, origin: str, from_us: int, to_us: int) -> list[str]:
        """Everybody whom samples of `origin` between two times (both included) that were stored under `key` may count for."""
        edges = [from_us]
        for b in self._given.get(origin, {}).values():
            edges += [at_us for at_us in (b.from_us, b.to_us) if at_us is not None and from_us < at_us <= to_us]
        return list(dict.fromkeys(self.counts_for(key, origin, at_us) for at_us in edges))

    def origins_of(self, subject: str) -> list[str]:
        """Origins with a standing binding to a subject."""
        return sorted(o for o in self._bound.get(subject, ()) if any(b.subject == subject for b in self._standing[o]))

    def is_bound(self, origin: str) -> bool:
        """Whether any binding was ever made for an origin."""
        return origin in self._standing


Mask = npt.NDArray[np.bool_]


def attributed(track: Track, key: str, subject: str, reference: ReferenceData) -> Track:
    """The samples of a track stored under `key` that count for `subject`: sample by sample, by the bindings of their origins."""
    if key == subject and not any(reference.is_bound(origin) for origin, _ in track.sources):
        return track
    mine = np.full(len(track), stamp_of(key) == subject)
    for number, (origin, _) in enumerate(track.sources):
        for binding in reference.stamping(key, origin):
            inside = track.source == number
            if binding.removed:
                inside &= _within(track, binding)
            else:
                inside &= track.t_us >= binding.to_us if binding.to_us is not None else False
            mine[inside] = unbound_of(origin) == subject
        for binding in reversed(reference.bindings(origin)):
            mine[(track.source == number) & _within(track, binding)] = binding.subject == subject
    return track if mine.all() else picked(track, mine)


def _within(track: Track, binding: BindingRef) -> Mask:
    """Which samples of a track lie in the span of a binding."""
    inside = np.ones(len(track), np.bool_)
    if binding.from_us is not None:
        inside &= track.t_us >= binding.from_us
    if binding.to_us is not None:
        inside &= track.t_us < binding.to_us
    return inside
