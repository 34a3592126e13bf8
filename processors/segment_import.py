"""Segments of the lines somebody gives, each under an id of its own. Pure.

Giving the same line again makes no second segment, and a removed one stands again under its old id, with its efforts. What cannot be
matched is refused with its reason, line by line.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.errors import BadInputError
from broker.reference import SegmentRef
from processors.segment_rules import segment_ref

Line = tuple[str, Sequence[tuple[float, float]]]
"""A name (may be empty) and `(lat, lon)` in degrees."""


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a line: `ref` and whether it stood before, or why it is refused."""

    name: str
    ref: SegmentRef | None = None
    known: bool = False
    refusal: BadInputError | None = None


def segments_given(tenant: str, lines: Iterable[Line], held: Iterable[SegmentRef], sport: str = "any") -> list[Given]:
    """One answer per line, in order. `held` are the segments of the tenant, removed ones too."""
    by_id = {ref.id: ref for ref in held}
    by_shape = {(ref.name, ref.points): ref for ref in sorted(by_id.values(), key=lambda ref: not ref.removed)}  # one that stands wins
    made: list[Given] = []
    for k, (called, points) in enumerate(lines):
        name = called.strip()[:80] or f"segment {k + 1}"
        ident = free_id(name, by_id)
        try:
            ref = segment_ref(tenant, ident, name, sport, points)
        except BadInputError as refusal:
            made.append(Given(name, refusal=refusal))
            continue
        same = by_shape.get((ref.name, ref.points))
        if same is not None:
            ref = ref.model_copy(update={"id": same.id})
        made.append(Given(name, ref, known=ref == same))
        by_id[ref.id] = by_shape[ref.name, ref.points] = ref
    return made


def free_id(name: str, taken: Iterable[str]) -> str:
    """An id that reads like the name and that nobody has."""
    held = set(taken)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:26].rstrip("-") or "segment"
    ident, count = stem, 1
    while ident in held:
        count += 1
        ident = f"{stem}-{count}"
    return ident
