"""A real InfluxDB 2.7 for nightly tests: influxd 2.7.12, its own process on loopback.

Go builds it from its module; the Flux in it is Rust, which the builder of InfluxDB has cargo build on the way. That Flux denies all
warnings, and today's compiler knows more of them than it did: a wrapper caps them, and nothing of its source is changed. A quarter of an
hour of a core, once, into `.cache/tools`; so `make test` runs 1.8 (`influx_server`) and documented answers of 2.7 (`influx_two`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paceline.supervise import free_port
from tests.debian_packages import TOOLS, ServerUnavailableError, only_one
from tests.servers import end_process

INFLUX: Final = "2.7.12"
MODULE: Final = "github.com/influxdata/influxdb/v2"
BUILDER: Final = "github.com/influxdata/pkg-config@v0.2.14"  # what `go build` asks where Flux is
REPLACED: Final = (
    "github.com/nats-io/nats-streaming-server v0.11.2 => github.com/influxdata/nats-streaming-server v0.11.3-0.20201112040610-c277f7560803"
)
TAGS: Final = "sqlite_foreign_keys,sqlite_json"
BUILD_S: Final = 3 * 3600.0
START_S: Final = 600.0
ORG, TOKEN = "paceline", "all-access"
WRAPPER: Final = '#!/bin/sh\ncase " $* " in *" --cap-lints "*) exec "$@" ;; *) exec "$@" --cap-lints warn ;; esac\n'


def find_influxd_two() -> Path:
    """The server, built on the first call. ServerUnavailableError without Go and cargo, or when they cannot build it."""
    target = TOOLS / f"influxd-{INFLUX}"
    with only_one("influxd2"):
        if not target.exists():
            _build(target)
    return target


def _build(target: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None or shutil.which("cargo") is None:
        raise ServerUnavailableError(f"influxd {INFLUX} is built by Go and cargo: apt install golang cargo, or put them on the PATH")
    making = target.with_name(f".{target.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    (making / "rustc").write_text(WRAPPER)
    (making / "rustc").chmod(0o755)
    (making / "go.mod").write_text(f"module tests\n\ngo 1.23\n\nrequire {MODULE} v{INFLUX}\n\nreplace {REPLACED}\n")
    environment = {
        **os.environ, "GOBIN": str(making), "GOFLAGS": "-modcacherw -mod=mod", "CGO_ENABLED": "1", "PKG_CONFIG": str(making / "pkg-config"),
        "RUSTC_WRAPPER": str(making / "rustc"), "RUSTUP_TOOLCHAIN": "stable",
    }  # fmt: skip
    _run([go, "install", BUILDER], making, environment | {"GOFLAGS": "-modcacherw"})
    made = making / "influxd"
    _run([go, "build", "-tags", TAGS, "-ldflags", "-s -w", "-o", str(made), f"{MODULE}/cmd/influxd"], making, environment)
    made.rename(target)
    shutil.rmtree(making)


def _run(command: list[str], cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["nice", "-n", "15", *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode:
        raise ServerUnavailableError(f"influxd {INFLUX} could not be built: {done.stderr.strip()[-2000:]}")


@dataclass(frozen=True, slots=True)
class InfluxTwo:
    """A server that was set up: its address, and the token of an administrator."""

    url: str
    token: str = TOKEN
    org: str = ORG


@asynccontextmanager
async def start_influx_two(folder: Path) -> AsyncIterator[InfluxTwo]:
    """A running server without buckets of ours."""
    binary = await asyncio.to_thread(find_influxd_two)
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    places = ["--bolt-path", "i.bolt", "--sqlite-path", "i.sqlite", "--engine-path", "engine"]
    command = [str(binary), "run", "--http-bind-address", f"127.0.0.1:{port}", *places, "--reporting-disabled"]
    with (folder / "out").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while not await asyncio.to_thread(_answers, url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError(f"influxd {INFLUX} did not start: {(folder / 'out').read_text()[-4000:]}")
            await asyncio.sleep(0.1)
        said = {"username": "admin", "password": "nobody-knows", "org": ORG, "bucket": "first", "token": TOKEN}
        asked = urllib.request.Request(f"{url}/api/v2/setup", json.dumps(said).encode())
        await asyncio.to_thread(lambda: urllib.request.urlopen(asked, timeout=60).close())
        yield InfluxTwo(url)
    finally:
        await end_process(process, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except OSError:
        return False
    return True
