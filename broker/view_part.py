"""Which tenants a view follows: all of them, or the k-th of n parts of them. Pure.

A tenant belongs to the part that murmur2 of its name says, modulo n: the hash that places keys on Kafka, the same on every machine and in
every version. Everything of a tenant is in one part, so what reads the view of that part needs no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from broker.errors import BadInputError
from broker.kafka import partition_of

MOST_PARTS: Final = 64
MOST_KNOWN: Final = 100_000  # tenants whose part is remembered
PATTERN: Final = r"^[1-9]\d?/[1-9]\d?$"
_PART: Final = re.compile(PATTERN, re.ASCII)
HEADER: Final = "Paceline-Part"


@dataclass(frozen=True, slots=True)
class ViewPart:
    """The part `number` (from 1) of `of`."""

    number: int = 1
    of: int = 1
    _known: dict[str, bool] = field(default_factory=dict[str, bool], init=False, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def is_whole(self) -> bool:
        """Whether it has every tenant."""
        return self.of == 1

    def has(self, tenant: str) -> bool:
        """Whether a tenant is in it."""
        known = self._known.get(tenant)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[tenant] = number_of(tenant, self.of) == self.number
        return known

    def has_subject(self, subject: str) -> bool:
        """Whether the tenant of `tenant/name` is in it."""
        tenant = subject.partition("/")[0]
        known = self._known.get(tenant)  # asked of every subject of every page
        return self.has(tenant) if known is None else known

    def has_key(self, key: bytes) -> bool:
        """The same of the key of a record, which begins with the tenant."""
        return self.has(key.partition(b"/")[0].decode(errors="replace"))


WHOLE: Final = ViewPart()


def number_of(tenant: str, of: int) -> int:
    """In which of so many parts a tenant is, from 1."""
    return partition_of(tenant.encode(errors="surrogateescape"), of) + 1


def part_from(text: str) -> ViewPart:
    """The part that `k/n` names, 1 <= k <= n <= 64; BadInputError for what is none."""
    if _PART.fullmatch(text):
        number, _, of = text.partition("/")
        if int(number) <= int(of) <= MOST_PARTS:
            return ViewPart(int(number), int(of))
    raise BadInputError(f"{text!r} is no part", cure=f"give k/n with 1 <= k <= n <= {MOST_PARTS}, such as 2/4; 1/1 is everything")
