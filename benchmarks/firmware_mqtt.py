"""The device kit's MQTT client beside umqtt.simple: QoS 1 through a mosquitto of ours, messages of 200 bytes, both on MicroPython.

The unix port with a heap of 128 K words. `messages_per_s`, `messages_per_s_tls`: the kit, 16 messages under way (`..._one`: one).
`ratio_to_umqtt`, `ratio_to_umqtt_tls`: over umqtt.simple 1.3.4 in the same run, which waits for each answer and writes a packet in five
pieces. `resume_s`: the worst of some broker restarts, from the broker listening to a publish acknowledged. TLS: both show certificates.
umqtt.simple comes from the package index, as pip is set up to find it, into `.cache/tools`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from tests.debian_packages import TOOLS, ServerUnavailableError, only_one
from tests.firmware import KIT, command, environment
from tests.servers import ServedBroker, make_certificates, start_mosquitto

LANES = Path(__file__).parent / "micropython"
UMQTT = "micropython-umqtt-simple==1.3.4"
UMQTT_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
USER, SIZE, WINDOW = "gym/watch-7", 200, 16
TIMEOUT_S = 300.0


def find_or_fetch_umqtt(tools: Path = TOOLS) -> Path:
    """The folder that holds `umqtt/simple.py`. pip finds the archive but cannot take it (it has no setup.py), so we do."""
    home = tools / "umqtt"
    with only_one("umqtt", tools):
        if not (home / "umqtt" / "simple.py").exists():
            _fetch(home)
    return home


def _fetch(home: Path) -> None:
    asked = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(home), UMQTT]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=300, check=False)
    found = re.search(r"https://\S+\.tar\.gz", said.stdout + said.stderr)
    if found is None:
        raise ServerUnavailableError(f"pip does not find {UMQTT}: {said.stderr.strip()[-300:]}; let this machine reach a package index")
    with urllib.request.urlopen(found[0], timeout=60) as answer:
        archive = answer.read()
    if hashlib.sha256(archive).hexdigest() != UMQTT_SHA256:
        raise ServerUnavailableError(f"{UMQTT} is not the archive it was: delete {home} and try again")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        source = tar.extractfile("micropython-umqtt.simple-1.3.4/umqtt/simple.py")
        assert source is not None
        (home / "umqtt").mkdir(parents=True, exist_ok=True)
        (home / "umqtt" / "simple.py").write_bytes(source.read())


class Bench:
    """One broker, plain or with TLS, and clients of it as processes of their own."""

    def __init__(self, folder: Path, broker: ServedBroker, *, tls: bool) -> None:
        self.folder, self.broker = folder, broker
        self.files: dict[str, str] = {}
        if tls:
            made = make_certificates(folder / "mosquitto-tls" / "tls", name="watch-7")
            self.files = {"ca": str(made.cafile), "cert": str(made.certfile), "key": str(made.keyfile)}

    def line(self, script: str, **more: Any) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of a client."""
        config = {"host": self.broker.host, "port": self.broker.port, "user": USER, "password": self.broker.password(USER), "size": SIZE}
        path = self.folder / f"{script}.json"
        path.write_text(json.dumps({**config, "topic": f"pl/1/{USER}/up", "window": WINDOW, **self.files, **more}))
        return command("micropython", LANES / script, str(path)), {
            **environment("micropython"),
            "MICROPYPATH": f"{KIT}:{find_or_fetch_umqtt()}:.frozen",
        }

    async def rate(self, script: str, messages: int, window: int = WINDOW) -> float:
        """Messages a second that were acknowledged."""
        line, names = self.line(script, messages=messages, window=window)
        process = await asyncio.create_subprocess_exec(*line, env=names, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, errors = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        if process.returncode or not out.startswith(b"RATE"):
            raise RuntimeError(f"{script}: {errors.decode()[-1000:]}{self.broker.log()[-500:]}")
        return messages * 1000 / max(1, int(out.split()[1]))

    async def resume_s(self, restarts: int) -> float:
        """The longest time from a broker that listens again to a publish that it acknowledged."""
        line, names = self.line("kit_client.py", stay=True)
        process = await asyncio.create_subprocess_exec(*line, env=names, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        worst = 0.0
        try:
            await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)
            for _ in range(restarts):
                await self.broker.kill()
                await self.broker.start()
                start = time.perf_counter()
                await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)
                worst = max(worst, time.perf_counter() - start)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return worst


async def measured(quick: bool, *, tls: bool) -> tuple[float, float, float, float]:
    """(kit, kit with one under way, umqtt, resume): the best of three rates of the kit, one of umqtt."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "mosquitto-tls" / "tls"
        config = f"cafile {home / 'ca.crt'}\nrequire_certificate true\n" if tls else ""
        async with start_mosquitto(folder, users=(USER,), tls=tls, extra_config=config) as broker:
            bench = Bench(folder, broker, tls=tls)
            kit, one = [
                max([await bench.rate("kit_client.py", 5_000 if quick else 30_000, window) for _ in range(3)]) for window in (WINDOW, 1)
            ]
            umqtt = await bench.rate("umqtt_client.py", 60 if quick else 300)
            return kit, one, umqtt, await bench.resume_s(3 if quick else 10)


def run(quick: bool) -> dict[str, Any]:
    """See the module."""
    plain, one, umqtt, resume_s = asyncio.run(measured(quick, tls=False))
    over_tls, one_tls, umqtt_tls, resume_tls_s = asyncio.run(measured(quick, tls=True))
    figures = {
        "messages_per_s": round(plain),
        "messages_per_s_tls": round(over_tls),
        "messages_per_s_one": round(one),
        "messages_per_s_tls_one": round(one_tls),
        "ratio_to_umqtt": round(plain / umqtt, 1),
        "ratio_to_umqtt_tls": round(over_tls / umqtt_tls, 1),
        "resume_s": round(resume_s, 2),
        "resume_tls_s": round(resume_tls_s, 2),
    }
    baseline = {"umqtt_simple_messages_per_s": round(umqtt, 1), "umqtt_simple_messages_per_s_tls": round(umqtt_tls, 1)}
    return {"name": "firmware_mqtt", "figures": figures, "baseline": baseline, "machine": machine()}
