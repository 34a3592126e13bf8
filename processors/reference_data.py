"""What stages look up, in memory: athletes, bindings and the segments of each tenant with their index.

`apply` takes changes in log order. Lookups are functions of the changes so far, so a replay looks up the same at the same position.
"""

from __future__ import annotations

import numpy as np

from broker.reference import AthleteRef, BindingRef, Reference, SegmentRef
from processors.segments import SegmentIndex
from processors.tracks import Track, picked


class ReferenceData:
    """Everything of all tenants."""

    def __init__(self) -> None:
        self._athletes: dict[str, AthleteRef] = {}
        self._segments: dict[str, dict[str, SegmentRef]] = {}
        self._indexes: dict[str, SegmentIndex] = {}
        self._bindings: dict[str, dict[str, BindingRef]] = {}
        self._origins: dict[tuple[str, str], str] = {}

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
            self._indexes.pop(value.tenant, None)
        elif isinstance(value, BindingRef):
            name = (value.tenant, value.id)
            before = self._bindings.get(self._origins.get(name, ""), {}).pop(value.id, None)
            self._origins[name] = value.origin
            self._bindings.setdefault(value.origin, {})[value.id] = value
        else:
            before = None
        return before

    def athlete(self, subject: str) -> AthleteRef | None:
        """The athlete of a subject, None for a device or somebody nobody described."""
        found = self._athletes.get(subject)
        return None if found is None or found.removed else found

    def index(self, tenant: str) -> SegmentIndex | None:
        """The segments of a tenant, None when it has none."""
        found = self._indexes.get(tenant)
        if found is None:
            standing = [s for s in self._segments.get(tenant, {}).values() if not s.removed]
            if not standing:
                return None
            found = self._indexes[tenant] = SegmentIndex.build(standing)
        return found

    def has_segments(self, tenant: str) -> bool:
        """Whether a tenant has a segment."""
        return self.index(tenant) is not None

    def bindings(self, origin: str) -> list[BindingRef]:
        """All bindings of an origin that stand, by id."""
        return [b for _, b in sorted(self._bindings.get(origin, {}).items()) if not b.removed]

    def counts_for(self, key: str, origin: str, t_us: int) -> str:
        """Whom samples of `origin` at `t_us` that were stored under `key` count for."""
        held = self._bindings.get(origin)
        if held:
            for _, binding in sorted(held.items(), reverse=True):
                if binding.covers(t_us):
                    return binding.subject
        return key

    def origins_of(self, subject: str) -> list[str]:
        """Origins with a standing binding to a subject."""
        return sorted(o for o, held in self._bindings.items() if any(b.subject == subject and not b.removed for b in held.values()))

    def is_bound(self, origin: str) -> bool:
        """Whether any binding was ever made for an origin."""
        return origin in self._bindings


def attributed(track: Track, key: str, subject: str, reference: ReferenceData) -> Track:
    """The samples of a track stored under `key` that count for `subject`: sample by sample, by the bindings of their origins."""
    if key == subject and not any(reference.is_bound(origin) for origin, _ in track.sources):
        return track
    mine = np.full(len(track), key == subject)
    for number, (origin, _) in enumerate(track.sources):
        for binding in reference.bindings(origin):
            inside = track.source == number
            if binding.from_us is not None:
                inside &= track.t_us >= binding.from_us
            if binding.to_us is not None:
                inside &= track.t_us < binding.to_us
            mine[inside] = binding.subject == subject
    return track if mine.all() else picked(track, mine)
