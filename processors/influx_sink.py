"""The sink: a process that follows the platform's stores and keeps InfluxDB up to date, whatever becomes of either.

Two loops over one outbox: a collector that turns what is new into batches, and a sender with a lane a bucket. What the server says is in
`influx.json` beside the outbox, for `paceline influx status`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from broker.cancellation import in_own_task
from broker.errors import PacelineError
from broker.influx import InfluxSettings
from broker.replace_file import replace_file
from broker.view_part import WHOLE, ViewPart
from processors.influx_collector import Collector
from processors.influx_outbox import Outbox
from processors.influx_sender import Eraser, Sender
from processors.influx_wire import WriteLink
from processors.pulse import NAME as PULSE
from processors.wall import wall_us

_log = logging.getLogger(__name__)

POLL_S: Final = 0.1  # what is new waits so long at most; a look that finds nothing takes 50 us
STATUS_S: Final = 2.0
FIRST_AGAIN_S: Final = 1.0
LAST_AGAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class SinkFiles:
    """The platform's folder, and in it what the sink reads and writes."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state.db"

    @property
    def log(self) -> Path:
        return self.folder / "log.db"

    @property
    def pulse(self) -> Path:
        return self.folder / PULSE

    @property
    def outbox(self) -> Path:
        return self.folder / "influx.db"

    @property
    def status(self) -> Path:
        return self.folder / "influx.json"


def named(node: str, part: ViewPart) -> str:
    """What a sink is called in `ops`: several on one machine must not overwrite each other."""
    return node if part.is_whole else f"{node}-{part.number}of{part.of}"


def open_outbox(settings: InfluxSettings, files: SinkFiles) -> Outbox:
    """The outbox with its bounds."""
    return Outbox(files.outbox, cap_bytes=settings.outbox_mb * 1_000_000, drop_oldest=settings.when_full == "drop_oldest")


class Sink:
    """One sink, of a `part` of the tenants; `node` names this machine in `ops`. `pace` scales its waits."""

    def __init__(
        self, settings: InfluxSettings, files: SinkFiles, node: str, eraser: Eraser, *, pace: float = 1.0, part: ViewPart = WHOLE
    ) -> None:  # fmt: skip
        self._files, self._pace = files, pace
        self.outbox = open_outbox(settings, files)
        self.collector = Collector(self.outbox, files.state, files.log, files.pulse, named(node, part), part)
        self.sender = Sender(self.outbox, lambda: WriteLink(settings), eraser, pace=pace)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._collect(), name="influx-collect")
                group.create_task(self.sender.run(), name="influx-send")
                group.create_task(self._tell(), name="influx-status")
        finally:
            self.collector.close()
            self.outbox.close()

    async def _collect(self) -> None:
        again_s = FIRST_AGAIN_S
        while True:
            before = self.outbox.batches
            try:
                more = await in_own_task(asyncio.to_thread(self.collector.look, wall_us()))
                again_s = FIRST_AGAIN_S
            except PacelineError as error:
                _log.error("influx: cannot collect: %s; again in %.0f s", error, again_s)
                await asyncio.sleep(again_s * self._pace)
                again_s = min(again_s * 2, LAST_AGAIN_S)
                continue
            if self.outbox.batches != before:
                self.sender.look()
            await asyncio.sleep(0 if more else POLL_S * self._pace)

    async def _tell(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._write_status)
            except (OSError, PacelineError) as error:
                _log.warning("influx: no status is written: %s", error)
            await asyncio.sleep(STATUS_S)

    def _write_status(self) -> None:
        replace_file(self._files.status, json.dumps({"t_us": wall_us(), **self.status()}).encode())

    def status(self) -> dict[str, Any]:
        """Counters, the state of each bucket's series, and how each lane does."""
        return {
            "counters": self.outbox.counters(),
            "series": self.collector.series_states,
            "lanes": {bucket: asdict(lane) for bucket, lane in self.sender.lanes.items()},
        }


def read_status(files: SinkFiles) -> dict[str, Any] | None:
    """What a running sink said last; None when none ever did."""
    try:
        return json.loads(files.status.read_bytes())
    except (OSError, ValueError):
        return None
