"""Writes the dashboards of Grafana: `python -m deploy.dashboards`. A panel is a title and its questions; the JSON around them is made.

What a dashboard asks of InfluxDB and Prometheus is held against the code by tests/unit/test_compose.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "grafana" / "dashboards"
Query = tuple[str, str, str]  # (data source, legend, question)


def prom(question: str, legend: str = "") -> Query:
    """A question to Prometheus."""
    return "prometheus", legend, question


def flux(bucket: str, measurement: str, field: str, by: str = "", more: str = "") -> Query:
    """The mean of a field over time, in series by a tag."""
    keep = ["_time", "_value", *([by] if by else [])]
    lines = [
        f'from(bucket: "paceline_{bucket}")',
        "range(start: v.timeRangeStart, stop: v.timeRangeStop)",
        f'filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}")',
        *([more] if more else []),
        f"group(columns: [{json.dumps(by) if by else ''}])",
        "aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)",
        f"keep(columns: {json.dumps(keep)})",
    ]
    return "influxdb", "", "\n  |> ".join(lines)


DASHBOARDS: Final[dict[str, tuple[str, Sequence[tuple[str, str, Sequence[Query]]]]]] = {
    "pipeline": (
        "Pipeline",
        (
            ("Ready", "short", [prom("paceline_ready", "{{instance}}")]),
            ("Links up", "short", [prom("min by (link) (paceline_link_up)", "{{link}}")]),
            ("Frames stored a second", "short", [prom("sum(rate(paceline_ingest_frames_total[1m]))", "frames")]),
            ("Lag of the stages", "s", [prom("max by (stage) (paceline_stage_lag_seconds)", "{{stage}}")]),
            ("Records not taken yet", "short", [prom("sum by (stage) (paceline_stage_lag_records)", "{{stage}}")]),
            ("Lag of the view", "s", [prom("max by (topic) (paceline_view_lag_seconds)", "{{topic}}")]),
            ("Records the view has not taken yet", "short", [prom("max by (topic) (paceline_view_lag_records)", "{{topic}}")]),
            ("Records processed a second", "short", [prom("sum by (stage) (rate(paceline_stage_records_total[1m]))", "{{stage}}")]),
            ("Busy, of a core", "percentunit", [prom("sum by (stage) (rate(paceline_stage_busy_seconds_total[1m]))", "{{stage}}")]),
            ("Refused rows a minute", "short", [prom("sum by (reason) (rate(paceline_ingest_refused_rows_total[5m])) * 60", "{{reason}}")]),
            (
                "Sample to board, p99", "s",
                [prom("histogram_quantile(0.99, sum by (le) (rate(paceline_sample_to_board_seconds_bucket[5m])))", "p99")],
            ),
            ("Free disk", "bytes", [prom("min by (instance) (paceline_disk_free_bytes)", "{{instance}}")]),
            ("Lines waiting for InfluxDB", "short", [prom("paceline_influx_waiting_lines", "lines")]),
            ("Series of the buckets", "percentunit", [prom("paceline_influx_series_ratio", "{{bucket}}")]),
            ("CPU", "percentunit", [prom('rate(process_cpu_seconds_total{job="paceline"}[1m])', "{{instance}}")]),
            ("Memory", "bytes", [prom('process_resident_memory_bytes{job="paceline"}', "{{instance}}")]),
        ),
    ),
    "fleet": (
        "Fleet health",
        (
            ("Frames owed", "short", [prom("paceline_spool_rows", "{{instance}}")]),
            ("Room left", "h", [prom("paceline_spool_left_hours", "{{instance}}")]),
            ("Spool used", "percentunit", [prom("paceline_spool_size_bytes / paceline_spool_cap_bytes", "{{instance}}")]),
            ("Frames lost by a spool", "short", [prom("sum by (reason) (increase(paceline_spool_lost_rows_total[1h]))", "{{reason}}")]),
            ("Crashes of parts", "short", [prom("sum by (part) (increase(paceline_part_crashes_total[1h]))", "{{part}}")]),
            ("Boxes online", "short", [prom("paceline_nodes", "{{state}}"), flux("dev", "health", "online", "gw")]),
            ("Room left, as boxes report it", "h", [flux("dev", "health", "hours_left", "gw")]),
            ("Battery of devices", "percent", [flux("dev", "health", "bat", "kind")]),
            ("Signal of devices", "dBm", [flux("dev", "health", "rssi", "kind")]),
            ("Drops", "short", [flux("dev", "health", "drop", "gw")]),
        ),
    ),
    "class": (
        "Live class",
        (
            ("Heart rate", "short", [flux("live", "tele", "hr", "ath")]),
            ("Power", "watt", [flux("live", "tele", "pw", "ath")]),
            ("Speed", "velocityms", [flux("live", "tele", "spd", "ath")]),
            ("Distance", "lengthm", [flux("live", "tele", "dist", "ath")]),
            ("Board: time of the first places", "ms", [flux("seg", "board", "ms", "place")]),
            ("Board: gap to the leader", "ms", [flux("seg", "board", "gap", "place")]),
            ("Board: held (1) and vacant (0) places", "short", [flux("seg", "board", "stands", "place")]),
            ("Efforts", "ms", [flux("seg", "effort", "ms", "seg", "filter(fn: (r) => r._value > 0)")]),
            ("Athletes a minute", "short", [flux("agg", "act_1m", "athletes", "sport")]),
        ),
    ),
}  # fmt: skip


def document(name: str) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"paceline-{name}",
        "title": title,
        "tags": ["paceline"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, title: str, unit: str, queries: Sequence[Query]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
        "datasource": {"uid": "-- Mixed --"},
        "fieldConfig": {"defaults": {"unit": unit, "custom": {"lineWidth": 2, "fillOpacity": 5}}, "overrides": []},
        "targets": [_target(place, *query) for place, query in enumerate(queries)],
    }


def _target(place: int, source: str, legend: str, question: str) -> dict[str, Any]:
    key = "expr" if source == "prometheus" else "query"
    return {
        "refId": "ABCDEF"[place],
        "datasource": {"uid": source, "type": source},
        key: question,
        **({"legendFormat": legend} if legend else {}),
    }


def text(name: str) -> str:
    """One dashboard as a file."""
    return json.dumps(document(name), indent=1) + "\n"


if __name__ == "__main__":
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard}.json").write_text(text(dashboard), "utf-8")
