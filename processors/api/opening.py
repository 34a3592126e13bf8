"""Opens what an API serves, over the log and the state file of a platform."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.nodeconfig import NodeState
from broker.reference import UploadRef, decode_reference
from processors.api.services import Services
from processors.dead_letters import dead_counts
from processors.equipment import EquipmentDesk
from processors.log import Appender, SqliteLog
from processors.reads import Reads
from processors.reference_writer import ChangeLog, ReferenceWriter
from processors.snapshot import SnapshotView
from processors.stores import ReadStore
from processors.uploads import Uploads
from processors.wall import wall_us

Nodes = Callable[[], dict[tuple[str, str], NodeState]]


@dataclass(frozen=True, slots=True)
class LogParts:
    """What an API wants of a log: where changes and the frames of files go, and how many rows of a tenant were refused.

    `mark`: what the ids of bindings made here end with, where other processes make some at the same time.
    """

    changes: ChangeLog
    frames: Appender
    dead_letters: Callable[[str], int]
    mark: str = ""


@contextmanager
def open_services(
    log: SqliteLog | LogParts,
    state: Path,
    node_configs: Path,
    tenant: str,
    *,
    nodes: Nodes,
    latency: Callable[[], dict[str, float]],
    clock_us: Callable[[], int] = wall_us,
    desk: EquipmentDesk | None = None,
) -> Generator[Services]:
    """`tenant` is the site's: it is shown all that was refused and changed here. Without `desk` no equipment can be commanded.

    StoreError when there is no state file yet.
    """
    parts = log if isinstance(log, LogParts) else LogParts(log, log, lambda of: dead_letters_of(log, of, tenant))
    reads = Reads(state)
    store = ReadStore(state)  # of the threads that write, one at a time
    view = SnapshotView(reads, nodes=nodes, latency=latency, dead_letters=parts.dead_letters, site_tenant=tenant, clock_us=clock_us)

    def hearing(of: str, device: str) -> set[str]:
        said = {node for (one, node), state in nodes().items() if one == of and any(d.device == device for d in state.devices)}
        return said | {node for node, heard, _ in store.counted(of) if heard == device}

    uploads = Uploads(parts.frames, find=lambda of, ident: upload_of(reads.state, of, ident), clock_us=clock_us)
    try:
        writer = ReferenceWriter(
            parts.changes,
            node_configs,
            standing=lambda of: reads.directory.of(of).bindings.values(),
            hearing=hearing,
            clock_us=clock_us,
            mark=parts.mark,
        )
        yield Services(view, reads, writer, uploads, nodes, clock_us, desk)
    finally:
        uploads.close()
        reads.close()
        view.close()
        store.close()


def dead_letters_of(log: SqliteLog, tenant: str, site_tenant: str) -> int:
    """How many rows of a tenant were refused; of the site's: how many in all, the forgotten ones too."""
    if tenant == site_tenant:
        return dead_counts(log).total
    with log.reading() as db:
        return db.execute("SELECT count(*) FROM dead WHERE tenant=?", (tenant,)).fetchone()[0]


def upload_of(state: Path, tenant: str, ident: str) -> UploadRef | None:
    """What the stores have of an uploaded file."""
    store = ReadStore(state)
    try:
        row = store.db.execute("SELECT body FROM reference WHERE entity='upload' AND tenant=? AND id=?", (tenant, ident)).fetchone()
    finally:
        store.close()
    found = None if row is None else decode_reference(row[0], f"stored upload {tenant}/{ident}")
    return found if isinstance(found, UploadRef) else None
