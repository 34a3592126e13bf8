"""When the samples of a load can be asked for in InfluxDB: those of some athletes, by its query API."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Final

from broker.errors import ConfigError, LinkError
from broker.events.models import utc_us
from broker.influx import InfluxSettings
from processors.influx_admin import InfluxAdmin
from processors.influx_schema import TELE
from processors.line_protocol import tag_text
from simulators.load_plan import LoadPlan
from simulators.load_sightings import Sightings
from simulators.swarm import wall_us

PROBES: Final = 20  # athletes that are asked about
ASK_EACH_S: Final = 0.1
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
        wanted = " or ".join(f"r.ath == {json.dumps(tag_text(athlete))}" for athlete in athletes)
        self._query = (
            f"from(bucket: {json.dumps(self._influx.named('live'))}) |> range(start: {plan.start_us // 1_000_000 - 60})"
            f' |> filter(fn: (r) => r._measurement == "{TELE.name}" and r._field == "dist" and ({wanted}))'
            ' |> last() |> keep(columns: ["_time", "ath"])'
        )
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
                for row in self._admin.query(self._query):
                    newest[row["ath"]] = max(newest.get(row["ath"], 0), _influx_us(row["_time"]))
                now_us = wall_us()
                for athlete, t_us in newest.items():
                    self.sightings["influx"].see(f"{self._tenant}/{athlete}", t_us, now_us)


def _influx_us(text: str) -> int:
    """Microseconds of a time as InfluxDB prints it: any number of decimals."""
    whole, _, decimals = text.removesuffix("Z").partition(".")
    return utc_us(f"{whole}.{decimals[:6]:0<6}Z")
