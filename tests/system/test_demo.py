"""`paceline demo` and `run` as a newcomer starts them: real processes, the page, the publish lines, a kill, a port in use, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_profiles.files import read_recording
from gateway.replay_book import read_pages
from paceline.verify import pending, read_stored
from processors.log import SqliteLog
from processors.results_db import finals
from processors.runner import Runner, replay
from processors.stores import ReadStore, fingerprint, results_fingerprint

pytestmark = pytest.mark.timeout(600)
KEYS = [
    "seconds", "frames_sent", "frames_stored", "lost", "duplicated", "refused", "samples", "activities", "efforts", "board_changes", "events",
    "dead_letters", "latency_ms",
]  # fmt: skip


class Program:
    """A `paceline` command with its output in a file."""

    def __init__(self, folder: Path, *args: str, group: bool = False) -> None:
        self.out = folder / "out.txt"
        with self.out.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "paceline", *args], stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=group
            )

    def text(self) -> str:
        return self.out.read_text("utf-8", "replace")

    def wait_for(self, pattern: str, timeout_s: float = 90.0) -> re.Match[str]:
        found = until(lambda: re.search(pattern, self.text()), timeout_s, f"{pattern!r} in {self.text()}")
        assert found is not None
        return found


def until(get: Callable[[], Any], timeout_s: float, what: str) -> Any:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        value = get()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
        return response.read()


def post(url: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def live(url: str) -> dict[str, Any]:
    try:
        return json.loads(get(url + "api/live"))
    except OSError:
        return {"athletes": [], "frames_stored": 0, "nodes": []}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def launch(*args: str) -> Program:
        folder = tmp_path / f"p{len(started)}"
        folder.mkdir()
        started.append(Program(folder, *args))
        return started[-1]

    yield launch
    for program in started:
        if program.process.poll() is None:
            program.process.terminate()
        try:
            program.process.wait(30)
        except subprocess.TimeoutExpired:
            program.process.kill()
            program.process.wait()


def children(pid: int) -> dict[str, int]:
    """Role name to process id of a supervisor's children."""
    found: dict[str, int] = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        found[" ".join(word for word in words[3:] if word)] = int(child)
    return found


def test_demo_with_a_guest_and_a_killed_gateway_loses_nothing(start: Callable[..., Program], tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    demo = start("demo", "--seconds", "17", "--athletes", "6", "--port", "0", "--json", str(summary), "--data", str(tmp_path / "data"))
    url = demo.wait_for(r"page: (\S+)").group(1)
    own, other = (line.strip() for line in demo.wait_for(r"(paceline node send .*)\nor.*:\n(.*)\n").groups())

    screen = demo.wait_for(r"screen for everybody .*: (\S+)").group(1)
    assert screen == f"{url}?as=screen"
    assert json.loads(get(f"{url}api/v1/live?as=screen"))["role"] == "screen"
    page = get(url).decode()
    assert page == get(screen).decode()
    assert "<title>Paceline</title>" in page
    assert b"import" in get(url + "app.js")
    assert b"http://" not in get(url + "style.css") + get(url + "app.js") + page.encode()
    assert json.loads(get(url + "api/health"))["status"] == "ok"

    words = shlex.split(own.replace("--seconds 30", "--seconds 1"))
    subprocess.run([sys.executable, "-m", *words], check=True, timeout=90, capture_output=True)
    until(lambda: "demo/you" in {a["subject"] for a in live(url)["athletes"]}, 90, "the guest on the board")
    before = next(d["stored"] for d in live(url)["devices"] if d["device"] == "you")
    if subprocess.run(["which", "mosquitto_pub"], capture_output=True, check=False).returncode == 0:
        subprocess.run(["bash", "-c", other], check=True, timeout=90)
        until(lambda: next(d["stored"] for d in live(url)["devices"] if d["device"] == "you") > before, 90, "the guest's second frame")

    # the strap that nobody owns gets a name and its samples, and is free again after a while
    until(lambda: any(a["unknown"] and a["device"] == "strap-1" for a in live(url)["athletes"]), 90, "the grey tile")
    bound = post(url + "api/v1/bindings", {"device": "strap-1", "athlete": "cleo", "name": "Cleo"})
    os.kill(children(demo.process.pid)["gateway"], signal.SIGKILL)
    until(lambda: "Cleo" in {a["name"] for a in live(url)["athletes"]}, 90, "the strap under its new name")
    post(f"{url}api/v1/bindings/{bound['id']}/end", None)

    assert demo.process.wait(240) == 0, demo.text()
    assert "gateway died and was started again 1 times" in demo.text()

    figures = json.loads(summary.read_text())
    assert list(figures) == KEYS
    assert list(figures["latency_ms"]) == ["p50", "p95", "p99"]
    assert (figures["lost"], figures["duplicated"], figures["refused"], figures["dead_letters"]) == (0, 0, 0, 0)
    assert figures["frames_sent"] == figures["frames_stored"] >= 6 * 10
    assert figures["samples"] >= figures["frames_stored"]
    assert figures["board_changes"] > 0
    after_her = "demo/@strap-1" in read_stored(tmp_path / "data" / "platform" / "state.db").samples
    assert figures["activities"] == 6 + 3 + after_her  # six members, the rider, the guest and Cleo; the strap once she has left it


def test_box_killed_in_the_middle_of_the_ride_stores_exactly_the_file(start: Callable[..., Program], tmp_path: Path) -> None:
    data, summary = tmp_path / "data", tmp_path / "summary.json"
    demo = start("demo", "--seconds", "12", "--athletes", "2", "--port", "0", "--json", str(summary), "--data", str(data))
    url = demo.wait_for(r"page: (\S+)").group(1)
    until(lambda: {d["device"]: d["stored"] for d in live(url).get("devices", ())}.get("ride", 0) >= 2, 90, "the ride under way")
    assert len(read_pages(data / "gateway")) == 1
    os.kill(children(demo.process.pid)["gateway"], signal.SIGKILL)
    assert demo.process.wait(240) == 0, demo.text()
    figures = json.loads(summary.read_text())
    assert (figures["lost"], figures["duplicated"], figures["dead_letters"]) == (0, 0, 0)

    ride = read_recording(data / "ride.fit")
    held = read_stored(data / "platform" / "state.db")
    assert len([key for key in held.frames if key[0] == "demo/ride"]) == 1
    assert held.samples["demo/rider"] == len(ride.points) + len(ride.beats)
    assert read_pages(data / "gateway") == ()

    again = start("demo", "--seconds", "5", "--port", "0", "--data", str(data))
    assert again.process.wait(240) == 2
    assert "holds an earlier run" in again.text()


def test_platform_killed_twice_in_the_middle_ends_like_a_replay_of_its_log(start: Callable[..., Program], tmp_path: Path) -> None:
    data, summary = tmp_path / "data", tmp_path / "summary.json"
    demo = start("demo", "--seconds", "18", "--athletes", "16", "--port", "0", "--json", str(summary), "--data", str(data))
    url = demo.wait_for(r"page: (\S+)").group(1)
    until(lambda: live(url).get("efforts", 0) >= 1, 90, "an effort")
    os.kill(children(demo.process.pid)["process"], signal.SIGKILL)
    until(lambda: not live(url)["athletes"], 90, "the platform gone")
    until(lambda: live(url)["athletes"], 90, "the platform back")
    os.kill(children(demo.process.pid)["process"], signal.SIGKILL)
    assert demo.process.wait(240) == 0, demo.text()
    assert "platform died and was started again 2 times" in demo.text()

    figures = json.loads(summary.read_text())
    assert (figures["lost"], figures["duplicated"], figures["refused"], figures["dead_letters"]) == (0, 0, 0, 0)
    assert figures["frames_sent"] == figures["frames_stored"] >= 16 * 15
    assert figures["activities"] == 16 + 2  # the rider of the file, and the strap that nobody owns
    assert figures["efforts"] > 0
    assert figures["events"] > figures["efforts"]
    assert figures["board_changes"] > figures["efforts"]

    lived, made = data / "platform", tmp_path / "made"
    made.mkdir()
    shutil.copy(lived / "log.db", made / "log.db")  # the platform has ended: no -wal beside it
    with SqliteLog.open(made / "log.db") as log:
        replay(log, made / "state.db", max_records=97).close()
    assert pending(lived / "state.db") == 0
    assert fingerprint(made / "state.db", versions=True) == fingerprint(lived / "state.db", versions=True)
    assert results_fingerprint(made / "state.db") == results_fingerprint(lived / "state.db")
    stored = read_stored(made / "state.db")
    assert stored.efforts == figures["efforts"]  # what the events fold to is in the fingerprint; how many tell it depends on the cut

    ends = [an_hour_later(folder) for folder in (lived, made)]
    assert ends[0] == ends[1]
    assert "demo/@strap-1" in stored.samples
    assert ends[0][1] == figures["activities"]


def an_hour_later(folder: Path) -> tuple[str, int]:
    """Everything closed and finished: the fingerprint of the results and the number of finished activities."""
    with SqliteLog.open(folder / "log.db") as log:
        runner = Runner(log, folder / "state.db", clock_us=lambda: time.time_ns() // 1000 + 3_600_000_000)
        runner.drain()
        while runner.fire_wakes():
            runner.drain()
        runner.close()
    store = ReadStore(folder / "state.db")
    count = len(finals(store.db))
    store.close()
    return results_fingerprint(folder / "state.db"), count


def test_ctrl_c_ends_the_demo_with_its_summary_and_leaves_no_process(start: Callable[..., Program]) -> None:
    demo = start("demo", "--athletes", "2", "--port", "0", "--no-table")
    demo.wait_for(r"[1-9]\d* stored")
    pids = children(demo.process.pid)
    assert set(pids) == {"broker serve central", "broker serve near", "process", "gateway"}
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(90) == 0, demo.text()
    assert " 0 lost, 0 counted twice" in demo.text()
    assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]


def test_port_in_use_is_said_with_the_option(start: Callable[..., Program]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start("demo", "--seconds", "5", "--port", str(port))
        assert demo.process.wait(240) == 2
    assert f"port {port} on 127.0.0.1 is in use" in demo.text()
    assert "--port" in demo.text()
    assert "Traceback" not in demo.text()


def test_run_heals_keeps_its_secrets_and_dies_whole(start: Callable[..., Program], tmp_path: Path) -> None:
    data = tmp_path / "site"
    run = start("run", "--data", str(data), "--port", "0")
    url = run.wait_for(r"page: (\S+)").group(1)
    assert run.wait_for(r"screen for everybody: (\S+)").group(1) == f"{url}?as=screen"
    assert (data / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (data / "secrets").iterdir()} == {0o600}
    until(lambda: any(node["online"] for node in live(url)["nodes"]), 90, "the box online")

    def paceline(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "paceline", *args, "--data", str(data)], capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = paceline("simulate", "--members", "3", "--seconds", "3", "--json")
    assert json.loads(first)["drained"] is True
    for name in ("process", "broker serve near", "broker serve central", "gateway"):
        os.kill(children(run.process.pid)[name], signal.SIGKILL)
    until(lambda: any(node["online"] for node in live(url)["nodes"]), 60, "the box online again")
    second = paceline("simulate", "--members", "3", "--seconds", "3", "--name", "late", "--seed", "2", "--json")
    assert json.loads(second)["drained"] is True
    until(lambda: live(url)["frames_stored"] >= json.loads(first)["frames_made"] + json.loads(second)["frames_made"], 90, "all stored")

    seen = paceline("tap", "--seconds", "2", "--json")
    assert {json.loads(line)["leaf"] for line in seen.splitlines()} >= {"state"}
    assert json.loads(paceline("dlq", "list", "--json"))["letters"] == []
    assert "password" in paceline("node", "add", "watch-1")

    pids = children(run.process.pid)
    run.process.kill()
    run.process.wait()
    until(lambda: not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()], 90, "the parts end with the supervisor")

    secrets = (data / "secrets" / "secrets.json").read_text()
    again = start("run", "--data", str(data), "--port", "0")
    again.wait_for(r"page: (\S+)")
    assert (data / "secrets" / "secrets.json").read_text() == secrets
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(240) == 0, again.text()


def test_api_beyond_loopback_asks_for_the_token(start: Callable[..., Program], tmp_path: Path) -> None:
    data = tmp_path / "site"
    config = tmp_path / "site.toml"
    config.write_text('[api]\nhost = "0.0.0.0"\nport = 0\n')
    run = start("run", "--data", str(data), "--config", str(config))
    url = run.wait_for(r"page: http://0\.0\.0\.0:(\d+)/\?token=(\S+)")
    port, token = url.groups()
    base = f"http://127.0.0.1:{port}/"
    run.wait_for(rf"screen for everybody: with a token of .* token add gym --role screen --data {re.escape(str(data))}\n")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(base + "api/live")
    assert json.loads(get(f"{base}api/live?token={token}"))["tenant"] == "gym"
    assert json.loads(get(base + "api/live", Authorization=f"Bearer {token}"))["tenant"] == "gym"
