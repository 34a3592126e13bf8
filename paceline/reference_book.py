"""Segments, athletes and bindings of a site on this machine: what is known of a tenant, and the way a change gets in.

Works beside a running platform and without one. What is known is what the state file has, and what the log has beyond it; a change is a
durable record of the log (`processors.reference_writer`), which the platform takes as soon as it runs. Of a cluster, whose state file a
view keeps, that is what is known, and changes go to Kafka.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from broker.errors import ConfigError
from broker.logrecord import Kind
from broker.reference import AthleteRef, BindingRef, Reference, SegmentRef, decode_reference

if TYPE_CHECKING:
    from paceline.site import Site
    from processors.log import SqliteLog
    from processors.reference_writer import ChangeLog

_READ: Final = 4096


class ReferenceBook:
    """Build with `open_book`. Nothing here is kept up to date but by `put_all`: one book per command."""

    def __init__(self, site: Site, changes: ChangeLog, tenant: str, *, log: SqliteLog | None = None) -> None:
        """`log`: what it has beyond the state file is known too."""
        from processors.reference_writer import ReferenceWriter

        self.tenant = tenant
        self._site = site
        self._known = {(v.entity, v.id): v for v in _known(site, log, tenant)}
        mark = "" if log is not None else secrets.token_hex(2)
        self._writer = ReferenceWriter(changes, site.node_configs, standing=lambda _: self._bindings(), hearing=self._hearing, mark=mark)

    @property
    def segments(self) -> list[SegmentRef]:
        """All segments by id, removed ones too."""
        return [v for _, v in sorted(self._known.items()) if isinstance(v, SegmentRef)]

    @property
    def athletes(self) -> list[AthleteRef]:
        """The athletes that stand, by id."""
        return [v for _, v in sorted(self._known.items()) if isinstance(v, AthleteRef) and not v.removed]

    @property
    def bindings(self) -> list[BindingRef]:
        """The bindings that stand, by id: of several that cover an instant the last one wins."""
        return sorted((b for b in self._bindings() if not b.removed), key=lambda b: b.id)

    def put_all(self, values: Sequence[Reference]) -> None:
        """Make changes durable, all or none. StoreError: nothing was stored."""
        if values:
            self._writer.put_all(values)
            self._known |= {(v.entity, v.id): v for v in values}

    def new_binding_id(self) -> str:
        """An id greater than all before."""
        return self._writer.new_binding_id(self.tenant)

    def _bindings(self) -> list[BindingRef]:
        return [v for v in self._known.values() if isinstance(v, BindingRef)]

    def _hearing(self, tenant: str, device: str) -> set[str]:
        """The nodes that frames of a device came from."""
        from processors.stores import ReadStore

        if not self._site.state_db.exists():
            return set()
        store = ReadStore(self._site.state_db)
        try:
            return {node for node, heard, _ in store.counted(tenant) if heard == device}
        finally:
            store.close()


@contextmanager
def open_book(site: Site, tenant: str, *, make: bool = True) -> Generator[ReferenceBook]:
    """The book of a tenant. ConfigError when there is no log: with `make` only when its folder cannot be made."""
    from processors.log import SqliteLog

    if site.settings.kafka.bootstrap and _is_of_a_view(site):
        from processors.kafka_changes import KafkaChanges

        with KafkaChanges(site.settings.kafka) as changes:
            yield ReferenceBook(site, changes, tenant)
        return
    if make:
        try:
            site.platform_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{site.platform_dir}: {error.strerror}", cure="give a folder you may write with --data") from error
    elif not site.log_db.exists():
        raise ConfigError(f"{site.log_db}: there is no log", cure="give the data folder of `paceline run` with --data")
    with SqliteLog.open(site.log_db) as log:
        yield ReferenceBook(site, log, tenant, log=log)


def _is_of_a_view(site: Site) -> bool:
    """Whether the state file is one that a view keeps of a cluster; a site of one machine may have a Kafka too, for its events."""
    from broker.kafka_topics import REFERENCE
    from processors.stores import ReadStore

    if not site.state_db.exists():
        return False
    store = ReadStore(site.state_db)
    try:
        return store.db.execute("SELECT 1 FROM position WHERE stage=?", (f"{REFERENCE}[0]",)).fetchone() is not None
    finally:
        store.close()


def _known(site: Site, log: SqliteLog | None, tenant: str) -> Generator[Reference]:
    """Every change that is stored, the last one of each last."""
    from processors.results_db import references
    from processors.stores import ReadStore

    position = 0
    if site.state_db.exists():
        store = ReadStore(site.state_db)
        try:
            position = store.position()
            for value, _ in references(store.db, tenant):
                yield value
        finally:
            store.close()
    while log is not None:
        first, records = log.read(position, _READ)
        if not records:
            return
        for at, record in enumerate(records, first):
            if record.kind == Kind.REFERENCE and record.tenant == tenant:
                yield decode_reference(record.body, f"log position {at}")
        position = first + len(records) - 1
