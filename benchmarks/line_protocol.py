"""Lines for InfluxDB: CPU of this process per million rows of eight fields, made, and made and written all in.

A row is a sample of 1,000 athletes, twenty seconds of one after the other, 20,000 a request. *Written* is the whole way of the sink:
believed samples to columns, the guard of series, lines, compression, the outbox, a POST on a kept connection, forgetting what was sent; a
process of its own answers as InfluxDB does. `plain_*` is the same without numba and ISA-L, in a process that has neither. Baselines of
the same run: the official client's Point, made and written in its default way (batches of 1,000) and compressed as it does. The least of
several turns: neighbours on a shared core only ever add.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from benchmarks.machine import cpu_s, machine

ATHLETES, SECONDS = 1_000, 20
ROWS = ATHLETES * SECONDS
T0_US = 1_790_000_000_000_000


def run(quick: bool) -> dict[str, object]:
    """All figures; about 15 s when `quick`, else a minute."""
    turns = 3 if quick else 10
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-lines-") as folder, _answerer() as url:
        ours = measure(Path(folder), url, turns)
        plain = _plain(turns, url)
        point = _points(2_000 if quick else 10_000, url)
    return {
        "name": "line_protocol",
        "figures": {
            "cpu_s_per_million_rows": ours["made"],
            "cpu_s_per_million_rows_written": ours["written"],
            "ratio_to_point": round(point["made"] / ours["made"], 1),
            "ratio_to_point_written": round(point["written"] / ours["written"], 1),
            "plain_cpu_s_per_million_rows": plain["made"],
            "plain_cpu_s_per_million_rows_written": plain["written"],
            "bytes_per_row": ours["bytes"],
            "bytes_per_row_sent": ours["sent_bytes"],
        },
        "baseline": {"point_cpu_s_per_million_rows": point["made"], "point_cpu_s_per_million_rows_written": point["written"]},
        "machine": machine(),
    }


def measure(folder: Path, url: str, turns: int) -> dict[str, float]:
    """CPU-seconds per million rows, made and written, of what is installed in this process; bytes a row."""
    from broker.influx import InfluxSettings
    from processors.influx_lines import LineMaker
    from processors.influx_outbox import Change, Outbox
    from processors.influx_points import tele_points
    from processors.influx_schema import BUCKETS
    from processors.influx_sender import Sender
    from processors.influx_wire import WriteLink
    from processors.line_protocol import encode_lines
    from processors.series_guard import SeriesGuard

    settings = InfluxSettings.model_validate({"url": url, "token": "bench"})
    outbox = Outbox(folder / "influx.db", cap_bytes=1_000_000_000)
    sender = Sender(outbox, lambda: WriteLink(settings), _Nothing(), clock_us=lambda: T0_US)
    guard, link = SeriesGuard({bucket: {} for bucket in BUCKETS}), WriteLink(settings)
    made, written, sizes = float("inf"), float("inf"), (0, 0)
    for turn in range(turns + 1):
        block = _block(turn)
        points = tele_points(block)
        start = cpu_s()
        lines = encode_lines(points)
        if turn:  # the first one warms up
            made = min(made, cpu_s() - start)
        start = cpu_s()
        change = Change()
        maker = LineMaker(guard, T0_US, change)
        maker.add(tele_points(block))
        maker.seal()
        outbox.commit(change)
        assert sender.send_one("live", link)
        if turn:
            written = min(written, cpu_s() - start)
        sizes = len(lines), sum(len(batch.body) for batch in change.batches)
    assert outbox.counters()["sent"] == ROWS * (turns + 1)
    link.close()
    outbox.close()
    return {
        "made": round(made / ROWS * 1e6, 3), "written": round(written / ROWS * 1e6, 3), "bytes": round(sizes[0] / ROWS, 1),
        "sent_bytes": round(sizes[1] / ROWS, 1),
    }  # fmt: skip


def _block(turn: int):
    """Twenty seconds of everybody."""
    from processors.believed import GPS, Believed

    rng = np.random.default_rng(turn)
    of = np.tile(np.arange(ATHLETES), SECONDS)
    second = np.repeat(np.arange(SECONDS), ATHLETES) + turn * SECONDS
    heading = of * 0.7
    north, east = (5 * second * np.cos(heading) * 90, 5 * second * np.sin(heading) * 130)

    def noise(spread: float) -> np.ndarray:
        return rng.normal(0, spread, ROWS)

    columns = (
        of, T0_US + second * 1_000_000, np.full(ROWS, GPS),
        470_000_000 + of * 1000 + north + noise(8), 80_000_000 + of * 900 + east + noise(8),
        4_000 + of % 100 + noise(1), 500 + noise(15), 140 + of % 30 + noise(1), 210 + of % 50 + noise(12), 85 + noise(2),
        second * 5_000_000, np.arange(ROWS),
    )  # fmt: skip
    subjects = [f"gym/athlete-{i:05d}" for i in range(ATHLETES)]
    return Believed(subjects, *(np.asarray(np.rint(c), np.int64) for c in columns), appended_us=T0_US)


class _Nothing:
    def erase(self, _bucket: str, _tenant: str, _athlete: str) -> bool:
        return True


def _plain(turns: int, url: str) -> dict[str, float]:
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "benchmarks.line_protocol", "plain", str(turns), url]
    return json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=600).stdout)


def _points(rows: int, url: str) -> dict[str, float]:
    """The official client: a Point a row; written by its batching writer."""
    from influxdb_client import InfluxDBClient, Point, WriteOptions

    block = _block(0)
    columns = [
        getattr(block, name).tolist()
        for name in ("subject_of", "t_us", "lat", "lon", "altitude_dm", "speed_cmps", "hr_bpm", "power_w", "cadence_rpm", "dist_um")
    ]
    samples = list(zip(*(column[:rows] for column in columns), strict=True))

    def point(s: tuple[int, ...]) -> Point:
        made = Point("tele").tag("ath", f"athlete-{s[0]:05d}").tag("kind", "smooth").tag("tenant", "gym").time(s[1], "us")
        made.field("dist", s[9] / 1e6).field("lat", s[2] / 1e7).field("lon", s[3] / 1e7).field("ele", s[4] / 10).field("spd", s[5] / 100)
        return made.field("hr", s[6]).field("pw", s[7]).field("cad", s[8])

    start = cpu_s()
    for one in samples:
        point(one).to_line_protocol()
    made = cpu_s() - start
    start = cpu_s()
    with InfluxDBClient(url, "bench", org="bench", enable_gzip=True) as client, client.write_api(WriteOptions(batch_size=1_000)) as writer:
        for one in samples:
            writer.write("live", "bench", point(one), write_precision="us")
    return {"made": round(made / rows * 1e6, 2), "written": round((cpu_s() - start) / rows * 1e6, 2)}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


class _answerer:  # noqa: N801 - used as a context
    """A process that answers 204 to everything."""

    def __enter__(self) -> str:
        command = [sys.executable, "-m", "benchmarks.line_protocol", "answer"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        return f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=30)


def _answer() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        _answer()
    else:
        sys.modules["isal"] = None  # type: ignore[assignment]
        with tempfile.TemporaryDirectory(dir=".", prefix=".bench-lines-") as folder:
            print(json.dumps(measure(Path(folder), sys.argv[3], int(sys.argv[2]))))
