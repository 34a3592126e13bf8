"""Packets of one profile from one device -> samples. Holds what goes from packet to packet: records that are split, rates, counters,
pages seen.

Pure: `t_us` is the box's monotonic arrival time, given by the caller. Invariants: no packet raises; a value that is withheld, short or
implausible is absent from the samples, never 0, and counted in `bad`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from device_profiles.deriving import start
from device_profiles.engine import EXTRA, FLAGS, SHORT, UNKNOWN_PAGE
from device_profiles.hooks import HOOKS
from device_profiles.profile import Each, Profile, SampleRule, Source
from device_profiles.samples import Identity, Sample
from device_profiles.values import Value

_TROUBLES: Final = ((SHORT, "short"), (UNKNOWN_PAGE, "unknown_page"), (EXTRA, "extra"))


class Reader:
    """Reads one profile of one device. `settings` are those of the profile (such as `wheel_m`) where the device's differ from their
    defaults."""

    def __init__(self, profile: Profile, identity: Identity | None = None, settings: Mapping[str, float] | None = None) -> None:
        self.profile: Final = profile.of(identity) if identity is not None else profile
        self.fields: dict[str, Value] = {}
        self.bad: dict[str, int] = {}
        self._decode = self.profile.decoder.decode
        chosen = {**self.profile.settings, **(settings or {})}
        self._derivings = tuple((derive.name, start(derive, chosen)) for derive in self.profile.derives)
        self._plausible = tuple((info.name, *info.plausible) for info in self.profile.fields.values() if info.plausible is not None)
        self._of_flags = frozenset(row[0] for row in self.profile.table.always if row[1] == FLAGS)
        self._hook = HOOKS.get(self.profile.hook)
        self._hook_state: dict[str, object] = {}
        self._kept: dict[str, Value] = {}
        self._held: dict[str, Value] = {}
        self._held_us = 0
        self._toggles: set[int] = set()
        self._counted: dict[tuple[int, int], Value | None] = {}

    def feed(self, payload: bytes, t_us: int) -> list[Sample]:
        """The samples this packet completes; their ages count from `t_us`. Empty while a record is not whole, or if nothing is new."""
        profile = self.profile
        fields, trouble = self._decode(payload)
        if trouble:
            for bit, word in _TROUBLES:
                if trouble & bit:
                    self._count(word)
        if profile.toggle:
            self._believe_pages(payload, fields)
        if self._hook is not None:
            self._hook(payload, fields, self._hook_state)
        samples: list[Sample] = []
        if profile.more_mask:
            samples = self._close_overdue(fields, t_us)
            if profile.decoder.page(payload) & profile.more_mask != profile.more_until:
                self._held.update(fields)
                self._held_us = t_us
                return samples
            if self._held:
                fields = {**self._held, **fields}
                self._held = {}
        samples.extend(self._record(payload, fields, t_us))
        return samples

    @property
    def is_waiting(self) -> bool:
        """Whether a record has begun whose end has not come."""
        return bool(self._held)

    def _record(self, payload: bytes, fields: dict[str, Value], t_us: int) -> list[Sample]:
        """A whole record: what is kept, derived and plausible, as samples."""
        stale: set[str] = set()
        for name in self.profile.keep:
            if name in fields:
                self._kept[name] = fields[name]
            elif name in self._kept:
                fields[name] = self._kept[name]
                stale.add(name)
        for name, deriving in self._derivings:
            value = deriving.step(fields, t_us)
            if value is not None:
                fields[name] = value
        self.fields = fields
        good = fields
        for name, low, high in self._plausible:
            value = fields.get(name)
            if value is None or isinstance(value, str | bytes):
                continue
            if isinstance(value, list):
                fitting = [one if one is not None and low <= one <= high else None for one in value]
                self._count("implausible", len(fitting) - len([one for one in fitting if one is not None]))
                good = {**good, name: fitting}
            elif not low <= value <= high:
                good = {other: good[other] for other in good if other != name}
                self._count("implausible")
        samples: list[Sample] = []
        for i, rule in enumerate(self.profile.samples):
            if rule.once_per and not self._is_new(i, rule, payload, good):
                continue
            samples.extend(_samples(rule, good, fields, stale))
        return samples

    def _close_overdue(self, fields: Mapping[str, Value], t_us: int) -> list[Sample]:
        """A held record whose end did not come: it is taken as it is, once another begins or half a period has passed."""
        if not self._held:
            return []
        late = self.profile.period_ms and t_us - self._held_us > self.profile.period_ms * 500
        if not late and self._held.keys().isdisjoint(fields.keys() - self._of_flags):  # flags stand in every packet of a record
            return []
        held, self._held = self._held, {}
        self._count("unfinished")
        age_us = t_us - self._held_us
        return [Sample(one.layout, one.age_us + age_us, one.values) for one in self._record(b"", held, self._held_us)]

    def _believe_pages(self, payload: bytes, fields: dict[str, Value]) -> None:
        """Old devices send other things where pages are now: fields of a page count once the toggle bit has been seen both ways."""
        at = self.profile.table.page_at
        if len(self._toggles) < 2:
            if len(payload) > at:
                self._toggles.add(payload[at] & self.profile.toggle)
            if len(self._toggles) < 2:
                for name in self.profile.page_fields:
                    fields.pop(name, None)

    def _is_new(self, i: int, rule: SampleRule, payload: bytes, fields: Mapping[str, Value]) -> bool:
        key = (i, self.profile.decoder.page(payload) if self.profile.decoder.head and rule.once_per in self.profile.page_fields else -1)
        value = fields.get(rule.once_per)
        if value is None or self._counted.get(key) == value:
            return False
        self._counted[key] = value
        return True

    def _count(self, word: str, times: int = 1) -> None:
        if times:
            self.bad[word] = self.bad.get(word, 0) + times


def _samples(rule: SampleRule, fields: Mapping[str, Value], all_fields: Mapping[str, Value], stale: AbstractSet[str]) -> Iterator[Sample]:
    """The samples of one rule, oldest first; none if all it has is what was kept from earlier packets."""
    values: dict[str, float] = {}
    fresh = False
    for to, sources in rule.sources:
        for source in sources:
            value = _translated(source, fields.get(source.field))
            if value is not None:
                values[to] = value
                fresh = fresh or source.field not in stale
                break
    if rule.each is not None:
        made = list(_each(rule.each, fields, all_fields))
        yield from (Sample(rule.layout, age_us, {**rule.constants, **values, **own}) for age_us, own in reversed(made))
        if made:
            return
    if fresh:
        yield Sample(rule.layout, 0, {**rule.constants, **values} if rule.constants else values)


def _each(each: Each, fields: Mapping[str, Value], all_fields: Mapping[str, Value]) -> Iterator[tuple[int, dict[str, float]]]:
    """Age and values of each sample of a list, the newest first. What is not plausible still takes its time."""
    spans, good = all_fields.get(each.field), fields.get(each.field)
    if not isinstance(spans, list):
        return
    lists = [(to, one) for to, name in each.beside if isinstance(one := fields.get(name), list)]
    age_us = 0.0
    for i in range(len(spans) - 1, -1, -1):
        one = good[i] if isinstance(good, list) else None
        if one is not None:
            own = {to: value for to, values in lists if i < len(values) and (value := values[i]) is not None}
            yield round(age_us), {each.to: one * each.mul / each.div, **own}
        age_us += (spans[i] or 0.0) * 1e6 if each.aged else each.every_us


def _translated(source: Source, value: Value | None) -> float | None:
    if not isinstance(value, int | float):
        return None
    if source.values:
        return source.values.get(int(value))
    return value * source.mul / source.div + source.add
