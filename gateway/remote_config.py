"""Remote configuration: the retained document on `cfg` becomes what this box runs, or is refused whole with a reason in the state.

A document is applied by temp + fsync + rename, the previous one kept as `cfg.prev.json`. One that moves the uplink is on trial: unless the
uplink is healthy within `trial_s`, the previous one is restored; a kill during the trial restores it at the next start (`cfg.trial.json`
stands for an unfinished trial). A version that failed its trial is remembered (`cfg.failed.json`) and not tried again.
Invariant: at any instant the directory holds a document that is known to work, or none (then the settings of the process hold).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.errors import ConfigError, StoreError
from broker.nodeconfig import NodeConfig, parse_node_config

log = logging.getLogger(__name__)

MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a document: run `config`, or keep the present one because of `error` ("" when it is merely old)."""

    config: NodeConfig | None
    error: str = ""


def judge(raw: bytes, current: NodeConfig, failed_version: int) -> Verdict:
    """Whether the document in `raw` replaces `current`. A version that failed its trial is old news."""
    if len(raw) > MAX_BYTES:
        return Verdict(None, f"cfg: {len(raw)} bytes, at most {MAX_BYTES}")
    try:
        config = parse_node_config(raw, "cfg")
    except ConfigError as error:
        return Verdict(None, error.message)
    if config.version <= current.version or config.version == failed_version:
        return Verdict(None)
    return Verdict(config)


def changed_parts(old: NodeConfig, new: NodeConfig) -> frozenset[str]:
    """Names of the fields that differ, the version left out."""
    return frozenset(name for name in NodeConfig.model_fields if name != "version" and getattr(old, name) != getattr(new, name))


class RemoteConfig:
    """The configuration in force (`current`), why the last document is not (`error`), and the files behind both.

    `apply(config, changed)` makes the process run `config`; `healthy(timeout_s)` tells whether the uplink came up within that time.
    """

    def __init__(
        self,
        directory: Path,
        default: NodeConfig,
        *,
        apply: Callable[[NodeConfig, frozenset[str]], Awaitable[None]],
        healthy: Callable[[float], Awaitable[bool]],
        trial_s: float = 60.0,
    ) -> None:
        self._files = _Files(directory)
        self._apply = apply
        self._healthy = healthy
        self._trial_s = trial_s
        self._offered: bytes | None = None
        self._wake = asyncio.Event()
        self.current, self.failed_version, self.error = self._files.start(default)

    def offer(self, raw: bytes) -> None:
        """A document came. Only the newest one waits: an older one that was not looked at yet is worth nothing."""
        self._offered = raw
        self._wake.set()

    async def run(self) -> None:
        """Take documents one after the other until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            raw, self._offered = self._offered, None
            if raw:
                await self.consider(raw)

    async def consider(self, raw: bytes) -> None:
        """Judge one document and carry it through, its trial included."""
        verdict = judge(raw, self.current, self.failed_version)
        if verdict.config is None:
            if verdict.error:
                self.error = verdict.error
                log.warning("configuration refused: %s", verdict.error)
            return
        try:
            await self._carry(verdict.config)
        except OSError as error:
            self.error = f"cfg: version {verdict.config.version} cannot be written: {error.strerror}"
            log.exception("configuration not taken")

    async def _carry(self, config: NodeConfig) -> None:
        before = self.current
        changed = changed_parts(before, config)
        on_trial = "uplink" in changed
        self._files.replace(before, config, on_trial=on_trial)
        await self._switch(config, changed)
        if not on_trial or await self._healthy(self._trial_s):
            self._files.keep()
            self.failed_version, self.error = -1, ""
            log.info("configuration version %d stays", config.version)
        else:
            error = f"cfg: version {config.version} reverted: no healthy uplink within {self._trial_s:g} s"
            self._files.revert(before, config.version, error)
            self.failed_version, self.error = config.version, error
            log.warning("%s", error)
            await self._switch(before, changed)

    async def _switch(self, config: NodeConfig, changed: frozenset[str]) -> None:
        self.current = config
        if changed:
            await self._apply(config, changed)
        log.info("configuration version %d runs; changed: %s", config.version, ", ".join(sorted(changed)) or "nothing")


class _Files:
    """The four files. Every write is atomic and durable before the next one starts."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self._live = directory / "cfg.json"
        self._prev = directory / "cfg.prev.json"
        self._trial = directory / "cfg.trial.json"
        self._failed = directory / "cfg.failed.json"

    def start(self, default: NodeConfig) -> tuple[NodeConfig, int, str]:
        """(configuration to run, version that failed or -1, error to report) after a start, kills and damage included."""
        try:
            failed_version, error = self._read_failed()
            if self._trial.exists():
                version = _version(self._trial)
                error = f"cfg: version {version} reverted: the process ended during its trial"
                before = self._read(self._prev) or default
                self.revert(before, version, error)
                log.warning("%s", error)
                return before, version, error
            config = self._read(self._live)
            if config is None and self._live.exists():
                error = "cfg: cfg.json is damaged, the previous configuration runs"
                config = self._read(self._prev)
        except OSError as problem:
            raise StoreError(f"{self._dir}: {problem.strerror}", cure="make data_dir readable and writable for this user") from problem
        return config or default, failed_version, error

    def replace(self, before: NodeConfig, config: NodeConfig, *, on_trial: bool) -> None:
        self._write(self._prev, before.model_dump_json())
        if on_trial:
            self._write(self._trial, json.dumps({"version": config.version}))
        self._write(self._live, config.model_dump_json())

    def keep(self) -> None:
        self._remove(self._trial)
        self._remove(self._failed)

    def revert(self, before: NodeConfig, failed_version: int, error: str) -> None:
        self._write(self._failed, json.dumps({"version": failed_version, "error": error}))
        if before.version:
            self._write(self._live, before.model_dump_json())
        else:  # nothing was ever configured: the settings of the process hold
            self._remove(self._live)
        self._remove(self._trial)

    def _read(self, path: Path) -> NodeConfig | None:
        try:
            return parse_node_config(path.read_bytes(), path.name)
        except FileNotFoundError:
            return None
        except ConfigError as error:
            log.error("%s", error.message)  # noqa: TRY400 - the message says it all
            return None

    def _read_failed(self) -> tuple[int, str]:
        try:
            document = json.loads(self._failed.read_bytes())
            return int(document["version"]), str(document["error"])
        except FileNotFoundError:
            return -1, ""
        except (ValueError, KeyError, TypeError):
            return -1, ""  # damaged: the worst that follows is one more trial

    def _write(self, path: Path, text: str) -> None:
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        self._sync_directory()

    def _remove(self, path: Path) -> None:
        if path.exists():
            path.unlink()
            self._sync_directory()

    def _sync_directory(self) -> None:
        handle = os.open(self._dir, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _version(path: Path) -> int:
    try:
        return int(json.loads(path.read_bytes())["version"])
    except (ValueError, KeyError, TypeError):
        return -1
