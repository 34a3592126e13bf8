"""Each alert fires when what it is about happens, and none while all is well: rules evaluated by Prometheus' own engine over text that our
own processes' parts write. Time is told, not waited for: a look each fifteen seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from broker.metric_list import DISK_FREE, INFLUX_SERIES, INFLUX_WAITING, VIEW_LAG
from broker.metrics import Measure
from broker.nodeconfig import NodeState
from broker.watch import Watch
from gateway.measures import of_spool
from gateway.spool import SpoolStats
from processors.ingest import IngestStats
from processors.measures import Lag, of_ingest, of_nodes, of_stage
from processors.stage_stats import StageStats
from tests.operator_check import asked
from tests.servers import PROJECT

pytestmark = pytest.mark.timeout(1_800)  # the first one may have to build the checker
RULES = PROJECT / "deploy" / "prometheus" / "alerts.yml"
STEP_S = 15.0
LOOKS = 90  # 22 minutes


class World:
    """One process whose parts a test may break, and what was seen of it when."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.watch = Watch("platform", clock=lambda: self.now_s)
        self.link_up, self.away, self.disk, self.start_s = True, False, 9e9, 0.0
        self.ingest, self.stage = IngestStats(), StageStats()
        self.behind_s = self.view_behind_s = 0.0
        self.hours_left: float | None = 30.0
        self.influx_lines, self.influx_ratio = 0, 0.1
        self.loop = self.watch.part("runner", 60.0)
        self.watch.link("kafka", lambda: self.link_up)
        self.watch.measure(lambda: of_ingest(self.ingest))
        self.watch.measure(lambda: of_stage("live", self.stage, 0, _Behind(self)))
        self.watch.measure(lambda: of_spool(self.spool()))
        self.watch.measure(lambda: of_nodes({("gym", "box"): NodeState(online=True, hours_left=self.hours_left)}))
        self.watch.measure(self.rest)
        self.seen: list[dict[str, Any]] = []

    def spool(self) -> SpoolStats:
        return SpoolStats(1, 1, 100, self.hours_left, 0, 0, 0, 0, {}, (), "", 0)

    def rest(self) -> list[Measure]:
        return [
            DISK_FREE.of(self.disk),
            INFLUX_WAITING.of(self.influx_lines),
            INFLUX_SERIES.of(self.influx_ratio, "live"),
            VIEW_LAG.of(0.0, "boards.state"),
            VIEW_LAG.of(self.view_behind_s, "live.state"),
        ]

    def look(self, moves: Callable[[World], None], looks: int = LOOKS) -> None:
        """So many looks; before each one `moves` says what happened."""
        for _ in range(looks):
            self.now_s += STEP_S
            self.loop.beat()
            moves(self)
            text = "" if self.away else self.watch.registry.text().decode()
            lines = [
                f"process_start_time_seconds {self.start_s}" if one.startswith("process_start_time_seconds ") else one
                for one in text.splitlines()
            ]
            self.seen.append(
                {"t_s": self.now_s, "labels": {"job": "paceline", "instance": "p:9100"}, "text": "\n".join([*lines, ""]) if text else ""}
            )

    def fired(self) -> dict[str, float]:
        return asked("alerts", RULES, given="\n".join(json.dumps(one) for one in self.seen))


class _Behind(Lag):
    def __init__(self, world: World) -> None:
        self._world = world

    def records(self) -> int:
        return int(self._world.behind_s)

    def seconds(self) -> float:
        return self._world.behind_s


def frames_come(world: World) -> None:
    world.ingest.frames += 100


def restarts(world: World) -> None:
    world.start_s = world.now_s // 200


def refuses(world: World) -> None:
    world.ingest.refused["bad_frame"] += 1


def fails(world: World) -> None:
    world.stage.failed("disk I/O error")


def stands_still(world: World) -> None:
    world.loop._due_s = 0.0


def set_to(name: str, value: object) -> Callable[[World], None]:
    return lambda world: setattr(world, name, value)


HAPPENS: dict[str, tuple[Callable[[World], None], set[str]]] = {
    "PacelineAway": (set_to("away", True), set()),
    "PacelineStandsStill": (stands_still, set()),
    "PacelineLinkDown": (set_to("link_up", False), {"PacelineNotReady"}),
    "PacelineNotReady": (set_to("link_up", False), {"PacelineLinkDown"}),
    "PacelineCannotStore": (lambda world: setattr(world.ingest, "alarm", "disk full"), set()),
    "PacelineStageBehind": (set_to("behind_s", 90.0), set()),
    "PacelineViewBehind": (set_to("view_behind_s", 90.0), set()),
    "PacelineStageFails": (fails, set()),
    "PacelineRefuses": (refuses, set()),
    "PacelineDiskLow": (set_to("disk", 1e9), set()),
    "PacelineSpoolFills": (set_to("hours_left", 3.0), set()),
    "PacelineRestarts": (restarts, set()),
    "PacelineInfluxBehind": (set_to("influx_lines", 200_000), set()),
    "PacelineSeriesFull": (set_to("influx_ratio", 0.9), set()),
}


def test_no_alert_fires_while_all_is_well() -> None:
    world = World()
    world.look(frames_come)
    assert world.fired() == {}


def test_every_rule_has_something_that_happens() -> None:
    assert {rule["alert"] for rule in asked("rules", RULES)} == HAPPENS.keys()


@pytest.mark.parametrize("alert", HAPPENS)
def test_alert_fires_when_it_happens_and_no_other_with_it(alert: str) -> None:
    happens, also = HAPPENS[alert]
    world = World()
    world.look(frames_come, 60)
    since_s = world.now_s
    world.look(happens, 60)
    fired = world.fired()
    assert fired.keys() == {alert} | also
    assert fired[alert] > since_s


def test_first_row_that_is_refused_for_a_reason_fires() -> None:
    world = World()
    world.look(frames_come, 60)
    refuses(world)
    world.look(frames_come, 60)
    assert world.fired().keys() == {"PacelineRefuses"}


def test_stop_on_purpose_is_no_alert_but_that_it_is_away() -> None:
    world = World()
    world.look(frames_come, 20)
    world.watch.drain()
    world.look(frames_come, 60)
    assert world.fired() == {}
