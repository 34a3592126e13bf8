"""One step of the live stage over its store, the same for the embedded runner and for a partition on Kafka."""

from __future__ import annotations

from collections.abc import Sequence

from broker.logrecord import Kind
from processors.kernel_jobs import Steps, finish
from processors.live import LiveStage
from processors.live_state import LiveStates
from processors.reference_data import ReferenceData
from processors.stage import Batch, Outputs, Wants
from processors.state_db import StateDb
from processors.track_db import stored_under


def step_live(stage: LiveStage, states: LiveStates, store: StateDb, batch: Batch, reference: ReferenceData) -> Outputs:
    """Load what a batch of frames or a wake wants, and take it."""
    return finish(live_steps(stage, states, store, batch, reference))


def live_steps(
    stage: LiveStage, states: LiveStates, store: StateDb, batch: Batch, reference: ReferenceData
) -> Steps[Outputs]:  # fmt: skip
    """`step_live`, as `LiveStage.steps`."""
    if batch.records[0].kind == Kind.WAKE:
        store.load(stage.name, states, Wants([batch.records[0].key]))
    wants = stage.wants(states, batch)
    store.load(stage.name, states, wants)
    if wants.window is not None:
        store.save_numberings(states)
    return (yield from stage.steps(states, batch, store.inputs(wants, reference)))


def fold(store: StateDb, keys: Sequence[str], reference: ReferenceData) -> None:
    """Fold the frames of these subjects into their tracks, wherever they are stored."""
    for key in keys:
        for stored in stored_under(store.db, key, reference):
            store.compact(stored)
