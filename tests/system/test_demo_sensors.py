"""`paceline demo --sensors`: virtual straps and machines over a private D-Bus and a virtual ANT stick, the real gateway, the page, the proof."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from tests.system.test_demo import KEYS, Program, live, until

SENSOR_KEYS = ["devices", "reports", "samples", "stored", "lost", "duplicated", "wrong", "out_of_order"]


def test_demo_with_sensors_shows_them_and_loses_none(tmp_path: Path) -> None:
    options = ["--sensors", "--athletes", "2", "--port", "0", "--no-table", "--json", str(tmp_path / "out.json")]
    demo = Program(tmp_path, "demo", *options, group=True)
    try:
        url = demo.wait_for(r"page: (http://\S+)")[1]

        def shown() -> dict[str, dict[str, object]]:
            return {one["subject"]: one for one in live(url)["athletes"]}

        until(lambda: (shown().get("demo/s01") or {}).get("hr_bpm"), 60, "a strap on the page")
        until(lambda: (shown().get("demo/s02") or {}).get("distance_m"), 60, "a machine on the page")
        until(lambda: any("ble-" in subject for subject in shown()), 60, "the strap of nobody on the page")
        until(lambda: any(one.get("hr_bpm") for name, one in shown().items() if name.startswith("demo/a")), 60, "a strap of the stick")
        until(lambda: live(url)["frames_stored"] > 400, 60, "400 frames")
        os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does: everybody in the foreground hears it
        assert demo.process.wait(240) == 0, demo.text()
    finally:
        demo.process.kill()
        demo.process.wait()
    figures = json.loads((tmp_path / "out.json").read_text())
    assert list(figures) == [*KEYS, "sensors"]
    assert [figures[key] for key in ("lost", "duplicated", "refused", "dead_letters")] == [0, 0, 0, 0]
    sensors = figures["sensors"]
    assert list(sensors) == SENSOR_KEYS
    assert [sensors[key] for key in ("lost", "duplicated", "wrong", "out_of_order")] == [0, 0, 0, 0]
    assert sensors["stored"] == sensors["samples"] > 100
    assert re.search(r"sensors: \d+ heard", demo.text())
