"""When the samples of a load can be asked for in InfluxDB: those of some athletes, by its query API."""

from __future__ import annotations

import contextlib
import threading
from typing import Final

from broker.errors import ConfigError, LinkError
from broker.influx import InfluxSettings
from processors.influx_admin import InfluxAdmin
from processors.influx_schema import TELE
from processors.line_protocol import tag_text
from simulators.load_plan import LoadPlan
from simulators.load_sightings import Sightings
from simulators.swarm import wall_us

PROBES: Final = 20  # athletes that are asked about
ASK_EACH_S: Final = 0.05
_END_S: Final = 60.0


class InfluxWatch:
    """Asks again and again for the last points. A latency is told too long by the time between two questions at most."""

    def __init__(self, influx: InfluxSettings) -> None:
        if not influx.url:
            raise ConfigError("influx.url is empty", cure="give the server's address, or do not watch `influx`")
        self.sightings: dict[str, Sightings] = {}
        self._influx = influx
        self._admin = InfluxAdmin(influx)
        self._stopped = threading.Event()
        self._query = ""
        self._tenant = ""
        self._thread = threading.Thread(target=self._run, name="influx watch")

    def begin(self, plan: LoadPlan, from_us: int) -> None:
        """Ask from now on."""
        count = min(PROBES, plan.connections)
        athletes = [plan.athlete(number * plan.connections // count, 0) for number in range(count)]
        wanted = " OR ".join(f"ath = '{tag_text(athlete)}'" for athlete in athletes)
        since = f"time >= {plan.start_us // 1_000_000 - 60}s"
        self._query = f"SELECT last(dist) FROM {TELE.name} WHERE {since} AND ({wanted}) GROUP BY ath"
        self._tenant = plan.tenant
        self.sightings["influx"] = Sightings(plan, from_us, newest_only=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._query:
            self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stopped.wait(ASK_EACH_S):
            with contextlib.suppress(LinkError):  # asked again; what comes later counts as later
                newest: dict[str, int] = {}  # an athlete may have several series, one of them from before the activity was known
                for row in self._admin.query_influxql("live", self._query):
                    athlete = row["tags"].removeprefix("ath=")
                    newest[athlete] = max(newest.get(athlete, 0), int(row["time"]))
                now_us = wall_us()
                for athlete, t_us in newest.items():
                    self.sightings["influx"].see(f"{self._tenant}/{athlete}", t_us, now_us)
