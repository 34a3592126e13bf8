"""Who and what a reader may ask about: the athletes, segments and bindings of each tenant as the state file has them now.

Followed by versions: a change reads only what changed. One directory serves all threads; what `of` returns never changes.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Final

from broker.reference import AthleteRef, BindingRef, ErasureRef, MergeRef, Reference, RulingRef, SegmentRef, decode_reference
from processors.decisions import Decisions
from processors.segment_file import SEGMENT_FOLDER, SegmentFiles
from processors.segments import SegmentIndex
from processors.state_db import connect, state_id

ALIAS: Final = "~"  # no id starts with it
_ALIAS_KEY: Final = secrets.token_bytes(32)  # of this process: an id cannot be guessed from its alias


@dataclass(frozen=True)
class Known:
    """The reference data of one tenant at a version (the log position of the last change). Removed athletes stay, for their `show`."""

    tenant: str
    version: int = 0
    athletes: dict[str, AthleteRef] = field(default_factory=dict[str, AthleteRef])  # by subject
    segments: dict[str, SegmentRef] = field(default_factory=dict[str, SegmentRef])  # removed ones too
    bindings: dict[str, BindingRef] = field(default_factory=dict[str, BindingRef])  # removed ones too
    decided: dict[tuple[str, str], Reference] = field(default_factory=dict[tuple[str, str], Reference])  # by entity and id
    files: SegmentFiles | None = None
    changed_at: dict[str, int] = field(default_factory=dict[str, int])  # of segments: the log position of their last change

    @cached_property
    def index(self) -> SegmentIndex:
        """The segments ready to be matched; many of them from the file that the writer of the state keeps."""
        found = None
        if self.files is not None and len(self.segments) >= self.files.file_at:
            found = self.files.index(self.tenant, self.version, self._changed_after)
        return SegmentIndex.build(self.segments.values()) if found is None else found

    def _changed_after(self, position: int) -> list[SegmentRef]:
        return [ref for ident, ref in self.segments.items() if self.changed_at[ident] > position]

    @cached_property
    def decisions(self) -> Decisions:
        """Rulings, who is one person, whose results are erased."""
        made = Decisions()
        for value in self.decided.values():
            made.apply(value)
        return made

    @cached_property
    def _by_alias(self) -> dict[str, str]:
        return {alias_of(subject): subject for subject, athlete in self.athletes.items() if athlete.show != "yes"}

    def athlete(self, subject: str) -> AthleteRef | None:
        """Who somebody described, None for anybody else."""
        found = self.athletes.get(subject)
        return None if found is None or found.removed else found

    def segment(self, ident: str) -> SegmentRef | None:
        """A segment that stands."""
        found = self.segments.get(ident)
        return None if found is None or found.removed else found

    def aliased(self, alias: str) -> str | None:
        """The subject behind an alias."""
        return self._by_alias.get(alias)


def alias_of(subject: str) -> str:
    """The made-up id of somebody who is not to be named."""
    return ALIAS + blake2b(subject.encode(), key=_ALIAS_KEY, digest_size=6).hexdigest()


class Directory:
    """The tenants of one state file."""

    def __init__(self, state: Path) -> None:
        self._db = connect(state, write=False)
        self._files = SegmentFiles(state.parent / SEGMENT_FOLDER, state=state_id(self._db))
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._stamps: dict[str, int] = {}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def of(self, tenant: str) -> Known:
        """What is known of a tenant now (of one nobody heard of: nothing)."""
        with self._lock:
            stamp = self._db.execute("PRAGMA data_version").fetchone()[0]
            held = self._known.get(tenant)
            if held is not None and self._stamps[tenant] == stamp:
                return held
            held = self._known[tenant] = _followed(self._db, held or Known(tenant, files=self._files))
            self._stamps[tenant] = stamp
            return held


def _followed(db: sqlite3.Connection, held: Known) -> Known:
    changed = db.execute(
        "SELECT id, body, version FROM reference WHERE tenant=? AND version>? ORDER BY version", (held.tenant, held.version)
    ).fetchall()
    if not changed:
        return held
    athletes, segments, bindings, decided = dict(held.athletes), dict(held.segments), dict(held.bindings), dict(held.decided)
    changed_at = dict(held.changed_at)
    for ident, body, version in changed:
        value: Reference = decode_reference(body, f"stored reference {held.tenant}/{ident}")
        if isinstance(value, AthleteRef):
            athletes[f"{value.tenant}/{value.id}"] = value
        elif isinstance(value, SegmentRef):
            segments[value.id], changed_at[value.id] = value, version
        elif isinstance(value, BindingRef):
            bindings[value.id] = value
        elif isinstance(value, RulingRef | MergeRef | ErasureRef):
            decided[value.entity, value.id] = value
    made = Known(held.tenant, changed[-1][2], athletes, segments, bindings, decided, held.files, changed_at)
    index = held.__dict__.get("index")  # once asked for, it goes on by what changed
    if index is not None:
        touched = [segments[ident] for ident in segments if changed_at[ident] > held.version]
        made.__dict__["index"] = index.changed(touched) if touched else index
    return made
