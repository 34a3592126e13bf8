"""When the engine of the stages on Kafka makes a checkpoint: never without what the shards have to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from quixstreams.processing import ProcessingContext

from paceline.config import StagesPart
from processors.quix_fencing import transaction_ms
from processors.quix_parts import FlushingContext


class Checkpoint:
    """One of Quix whose time runs out when it was asked `lasts` times."""

    def __init__(self, done: list[str], lasts: int) -> None:
        self._done, self._lasts = done, lasts
        self._tp_offsets = {("telemetry.frames", 0): 7}

    def expired(self) -> bool:
        self._lasts -= 1
        return self._lasts < 0

    def empty(self) -> bool:
        return False

    def commit(self, *, revoking: bool) -> None:
        self._done.append("revoked" if revoking else "committed")


def context_of(done: list[str], lasts: int) -> FlushingContext:
    nobody = cast("Any", None)
    made = FlushingContext.of(ProcessingContext(1.0, nobody, nobody, nobody, nobody, nobody), lambda last: done.append(f"written {last}"))
    made._checkpoint = cast("Any", Checkpoint(done, lasts))
    made.init_checkpoint = cast("Callable[[], None]", lambda: done.append("begun"))
    return made


@pytest.mark.parametrize("lasts", range(3))
def test_whenever_its_time_runs_out_a_checkpoint_has_the_cells_before_it_is_committed(lasts: int) -> None:
    done: list[str] = []
    context = context_of(done, lasts)
    for _ in range(lasts):
        context.commit_checkpoint()
    assert done == []
    context.commit_checkpoint()
    assert done == ["written False", "committed", "begun"]


def test_partitions_that_go_away_are_committed_at_once() -> None:
    done: list[str] = []
    context_of(done, 9).commit_checkpoint(force=True, revoking=True)
    assert done == ["written True", "revoked", "begun"]


@pytest.mark.parametrize(("offsets", "asked"), [({("telemetry.frames", 0): 7}, True), ({}, False)])
def test_a_group_that_took_an_offset_has_this_process_for_a_member(offsets: dict[tuple[str, int], int], asked: bool) -> None:
    context = context_of([], 0)
    cast("Any", context.checkpoint)._tp_offsets = offsets
    context.member_s = 0.0
    context.commit_checkpoint()
    assert (context.member_s > 0.0) is asked


@pytest.mark.parametrize(("commit_s", "ms"), [(StagesPart().commit_s, 10_000), (5.0, 10_000), (60.0, 120_000)])
def test_a_transaction_may_be_open_for_longer_than_a_checkpoint_takes_to_come(commit_s: float, ms: int) -> None:
    assert transaction_ms(StagesPart(commit_s=commit_s).commit_s) == ms
