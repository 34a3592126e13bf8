"""What people decided: rulings on efforts and activities, which athletes are one person, whose results are erased.

`apply` takes changes in log order; the last one of an entity is all there is to know of it.
"""

from __future__ import annotations

from typing import Final

from broker.reference import ErasureRef, MergeRef, Reference, RulingRef
from processors.results import Ruling

_WORDS: Final[dict[str | None, Ruling]] = {None: "", "flag": "flagged", "clear": "cleared"}


class Decisions:
    """Those of all tenants."""

    def __init__(self) -> None:
        self._rulings: dict[tuple[str, str], RulingRef] = {}
        self._into: dict[str, str] = {}  # subject: the subject he or she is
        self._erased: set[str] = set()

    def apply(self, value: Reference) -> None:
        """Take a change; other reference data is passed over."""
        if isinstance(value, RulingRef):
            if value.removed:
                self._rulings.pop((value.tenant, value.id), None)
            else:
                self._rulings[value.tenant, value.id] = value
        elif isinstance(value, MergeRef):
            if value.removed:
                self._into.pop(f"{value.tenant}/{value.id}", None)
            else:
                self._into[f"{value.tenant}/{value.id}"] = f"{value.tenant}/{value.into}"
        elif isinstance(value, ErasureRef):
            self._erased.add(f"{value.tenant}/{value.id}")

    def ruling(self, tenant: str, ident: str) -> RulingRef | None:
        """What was said of an effort or an activity."""
        return self._rulings.get((tenant, ident))

    def rulings(self, tenant: str) -> list[RulingRef]:
        """All that stand in a tenant, by id."""
        return sorted((r for (of, _), r in self._rulings.items() if of == tenant), key=lambda r: r.id)

    def ruled(self, tenant: str, effort: str, activity: str) -> Ruling:
        """The word that holds for an effort: hidden when it or its activity is, else its own decision, else that of its activity."""
        own, whole = self.ruling(tenant, effort), self.ruling(tenant, activity)
        if (own is not None and own.hidden) or (whole is not None and whole.hidden):
            return "hidden"
        said = None if own is None else own.decision
        return _WORDS[said or (None if whole is None else whole.decision)]

    def sport(self, tenant: str, activity: str) -> str | None:
        """What somebody says an activity was."""
        found = self.ruling(tenant, activity)
        return None if found is None else found.sport

    def merge(self, subject: str) -> str | None:
        """The athlete a subject is merged into, by id."""
        into = self._into.get(subject)
        return None if into is None else into.partition("/")[2]

    def person(self, subject: str) -> str:
        """The subject whose results those of a subject are. Of athletes merged in a circle, the first by name."""
        seen = [subject]
        while (into := self._into.get(seen[-1])) is not None:
            if into in seen:
                return min(seen[seen.index(into) :])
            seen.append(into)
        return seen[-1]

    def merged(self, subject: str) -> list[str]:
        """Everybody whose results are one person's with those of a subject, that one first."""
        person = self.person(subject)
        everybody = {subject, *self._into, *self._into.values()}
        return [subject, *sorted(other for other in everybody if other != subject and self.person(other) == person)]

    def is_erased(self, subject: str) -> bool:
        """Whether the results of a subject, or of the person it is, are erased."""
        return subject in self._erased or self.person(subject) in self._erased
