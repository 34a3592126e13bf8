"""Runs a mosquitto with our configuration and makes it read its files again whenever one of them changed.

mosquitto 2.0.11 reads on SIGHUP: certificate and key, roots, lists of the revoked, ACL and passwords (measured; TLS sessions cannot be
resumed over it). A SIGHUP before it says that it runs ends it, and it overhears one that comes while it still reads for the one before: so
the signal waits for the first, and is sent until the log says that it was heard after the change. Open sessions stay: ending one is the
authority's work (`ca_revocation`). The child dies with us.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.errors import ConfigError, StoreError
from broker.mosquitto import ACL_NAME, RELOADED, RUNNING, MosquittoSettings, password_path, write_config
from paceline.supervise import require_free

POLL_S: Final = 0.25
AGAIN_S: Final = 2.0
START_S: Final = 15.0  # a mosquitto that has not said by now that it runs says it in other words
STOP_S: Final = 8.0
_PR_SET_PDEATHSIG: Final = 1
_PLACES: Final = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


def find_mosquitto(named: Path | None = None) -> Path:
    """The program: the one named, else the system's. ConfigError when there is none."""
    for place in (named, shutil.which("mosquitto"), *_PLACES):
        if place and Path(place).exists():
            return Path(place)
    said = f"central.program {named}" if named else "mosquitto"
    raise ConfigError(f"{said}: not on this machine", cure="apt install mosquitto, or name it as central.program")


def watched_files(settings: MosquittoSettings) -> list[Path]:
    """What mosquitto reads again on SIGHUP."""
    tls = settings.tls
    files = [settings.directory / ACL_NAME, password_path(settings)]
    return files if tls is None else [*files, *(path for path in (tls.certfile, tls.keyfile, tls.cafile, tls.crlfile) if path is not None)]


class MosquittoKeeper:
    """`await run()` until cancelled: one mosquitto, its log on our standard error. StoreError when it ends by itself, ConfigError when its
    port is taken.
    """

    def __init__(self, settings: MosquittoSettings, program: Path) -> None:
        self._settings = settings
        self._program = program
        self._reloads = 0
        self._runs = False

    async def run(self) -> None:
        """Start it, keep it up to its files, and end it in order."""
        config = write_config(self._settings)
        await self._wait_for_port()
        seen = _stamps(watched_files(self._settings))
        process = await asyncio.create_subprocess_exec(
            self._program, "-c", config, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, preexec_fn=_die_with_us
        )
        listening = asyncio.create_task(self._listen(process))
        watching = asyncio.create_task(self._watch(process, seen))
        try:
            await asyncio.wait({listening, watching}, return_when=asyncio.FIRST_COMPLETED)
            code = await process.wait()
            raise StoreError(f"mosquitto ended with {code}", cure=f"its reason stands above; its settings are in {config}")
        finally:
            watching.cancel()
            await _end(process)
            listening.cancel()
            await asyncio.wait({listening, watching})

    async def _wait_for_port(self) -> None:
        """The mosquitto of a keeper that was killed may still be ending."""
        until_s = asyncio.get_running_loop().time() + STOP_S
        while True:
            try:
                require_free(self._settings.host, self._settings.port, "central.port")
            except ConfigError:
                if asyncio.get_running_loop().time() > until_s:
                    raise
            else:
                return
            await asyncio.sleep(POLL_S)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            text = line.decode("utf-8", "replace")
            self._runs = self._runs or text.endswith(RUNNING)
            if RELOADED in text:
                self._reloads += 1
            sys.stderr.write(text)
            sys.stderr.flush()

    async def _watch(self, process: asyncio.subprocess.Process, seen: Sequence[tuple[int, int, int]]) -> None:
        files = watched_files(self._settings)
        loop = asyncio.get_running_loop()
        wanted, asked_s, began_s = 0, 0.0, loop.time()
        while process.returncode is None:
            now = _stamps(files)
            if now != seen:
                seen, wanted, asked_s = now, self._reloads + 1, 0.0
            hears = self._runs or loop.time() - began_s > START_S
            if hears and wanted > self._reloads and loop.time() - asked_s >= AGAIN_S:
                process.send_signal(signal.SIGHUP)
                asked_s = loop.time()
            await asyncio.sleep(POLL_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _stamps(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    """What changes when a file is replaced; a missing one has zeros."""
    found: list[tuple[int, int, int]] = []
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return found


def _die_with_us() -> None:
    """In the child: the kernel ends it when we are gone (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def run_as() -> str:
    """The account mosquitto keeps: ours. Started by root it would change to one that cannot read our files."""
    return "root" if os.geteuid() == 0 else ""
