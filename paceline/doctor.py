"""Doctor: what keeps a site from working, and the cure. Looks and connects as a box of its own; changes nothing that is kept.

Each check is one `Finding`: ok, or wrong with a cure. A site that has never run is looked at as far as it exists. A broker ends an older
connection of the same credential: a `paceline tap` that runs meanwhile ends, and the box's credential is only tried while no gateway runs
(with a message on `rsp`, which nobody stores); while it runs, the platform says whether the box is online.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib.metadata
import os
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from broker.errors import ConfigError, PacelineError
from broker.mqtt_faults import mqtt_fault
from broker.pinned_tls import ClientFiles
from broker.tls_faults import cure_of_tls, look_at
from broker.topics import UP_FILTERS, topic
from gateway.identity import client_files as box_files
from gateway.setup_credential import IDENTITY_FOLDER
from paceline.config import Settings
from paceline.live_client import fetch_live
from paceline.role_view import role_views
from paceline.site import Site, client_files

TIMEOUT_S: Final = 5.0
FREE_BYTES: Final = 500_000_000
_ROOM: Final = f"free space there: at least {FREE_BYTES / 1e9:.1f} GB"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
EARLIEST_S: Final = 1_767_225_600  # 2026-01-01: a clock before it is not set
SQLITE: Final = (3, 35, 0)
LIBRARIES: Final = ("aiomqtt", "msgpack", "pydantic", "numpy", "fastapi", "fitparse", "amqtt")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `found` says what was seen, `cure` what to do when it is wrong."""

    check: str
    ok: bool
    found: str
    cure: str = ""


async def examine(
    site: Site, *, running: bool, sensors: int | None = None, now_s: Callable[[], float] = time.time
) -> list[Finding]:  # fmt: skip
    """All findings of a site. `running`: its ports were published by a `paceline run`, so brokers and page are expected to answer.

    `sensors`: how many there shall be, for what is said of radios; None: as many as the gateway knows.
    """
    findings = [*versions(), clock(now_s()), *folder(site.data), *tracks_folder(site.settings), *secrets(site)]
    findings += await radios(site, sensors)
    findings += await asyncio.to_thread(servers, site.settings, now_s)
    if site.settings.central.by_certificate:
        from paceline.ca_doctor import identity_findings  # brings the library of certificates

        findings += await asyncio.to_thread(identity_findings, site)
    held = lock_holder(site.gateway_dir / "gateway.lock")
    findings.append(Finding("gateway lock", True, f"held by process {held}" if held else "free: no gateway runs"))
    if running:
        findings += [await connects(site, "central"), await connects(site, "near")]
        if not held:
            findings.append(await may_send(site))
        findings.append(await page(site))
        findings += await asyncio.to_thread(processes, site)
    else:
        if site.settings.central.kind == "external" and (site.secrets / "secrets.json").exists():
            findings.append(await connects(site, "central"))
        here = await asyncio.to_thread(processes, site)  # a role of a cluster: the ports are its own
        findings += here or [port(name, host, number) for name, host, number in _ports(site)]
    return findings


def versions() -> list[Finding]:
    """Python, SQLite and the libraries of the settings this installation is for."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    sqlite = tuple(int(part) for part in sqlite3.sqlite_version.split("."))
    found = [
        Finding("python", (3, 11) <= sys.version_info < (3, 14), python, "use Python 3.11, 3.12 or 3.13"),
        Finding("sqlite", sqlite >= SQLITE, sqlite3.sqlite_version, f"use a Python with SQLite {'.'.join(map(str, SQLITE))} or newer"),
    ]
    for name in LIBRARIES:
        try:
            found.append(Finding(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, False, "not installed", 'pip install "paceline[gateway,processors]"'))
    return found


def clock(now_s: float) -> Finding:
    """Whether the system clock is set: an unset one dates nothing."""
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    return Finding("clock", now_s >= EARLIEST_S, said, "set the clock (timedatectl set-ntp true): samples are kept, but undated")


def folder(data: Path) -> list[Finding]:
    """Rights and free space where the data lies."""
    place = next((p for p in (data, *data.absolute().parents) if p.exists()), Path("/"))
    return _usable("data folder", place, data, "give a folder you may write with --data, or make it writable", "disk space")


def tracks_folder(settings: Settings) -> list[Finding]:
    """The same of the folder of tracks that stages share, where they have one of their own."""
    tracks = settings.stages.tracks
    if not tracks or tracks.startswith("s3://"):
        return []
    cure = "make the folder, or mount it, for the user of the stages; or set stages.tracks"
    return _usable("tracks folder", Path(tracks), Path(tracks), cure, "space for tracks")


def _usable(check: str, place: Path, named: Path, cure: str, space: str) -> list[Finding]:
    """Whether a folder can be written, and has room; `place` is what there is of it, `named` how its user calls it."""
    try:
        _try_writing(place)
    except OSError as error:
        return [Finding(check, False, f"{place}: {error.strerror}", _ROOM if error.errno in _FULL else cure)]
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free where {place} is"
    return [Finding(check, True, f"{named} can be written"), Finding(space, free >= FREE_BYTES, said, _ROOM)]


def _try_writing(place: Path) -> None:
    probe = place / f".doctor-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def secrets(site: Site) -> list[Finding]:
    """Whether the secrets are there and nobody else may read them."""
    if not site.secrets.exists():
        return [Finding("secrets", True, "not drawn yet: the first `paceline run` does")]
    loose = [path.name for path in (site.secrets, *site.secrets.iterdir()) if path.stat().st_mode & 0o077]
    cure = f"chmod -R go= {site.secrets}"
    return [Finding("secrets", not loose, f"others may read {', '.join(loose)}" if loose else "for this user only", cure)]


def lock_holder(path: Path) -> str:
    """The process that holds the lock of a data directory, empty when nobody does."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(20).decode(errors="replace").strip() or "unknown"
    except OSError:
        pass
    return ""


def servers(settings: Settings, now_s: Callable[[], float] = time.time) -> list[Finding]:
    """The servers beyond this machine that the settings name."""
    from paceline.doctor_services import clocks, influx, kafka

    found = [kafka(settings.kafka)] if settings.kafka.bootstrap else []
    if settings.influx.url:
        from paceline.parts import influx_settings

        found += [*influx(influx_settings(settings)), *clocks(influx_settings(settings), now_s)]
    return found


def _ports(site: Site) -> list[tuple[str, str, int]]:
    s = site.settings
    parts = (("central", s.central), ("near", s.near))
    brokers = [(f"{name} broker port", part.host, part.port) for name, part in parts if part.kind != "external"]
    return [one for one in (*brokers, ("page port", s.api.host, s.api.port)) if one[2]]


def port(name: str, host: str, number: int) -> Finding:
    """Whether a port that a run will need is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return Finding(name, False, f"{host}:{number}: {error.strerror}", "stop what uses it, or set another port")
    return Finding(name, True, f"{host}:{number} is free")


async def radios(site: Site, sensors: int | None) -> list[Finding]:
    """Whether the radios that are on can be used, and how many there must be."""
    from paceline.doctor_radio import ant_sticks, bluetooth, enough

    ble, ant = site.settings.gateway.ble, site.settings.gateway.ant
    there, adapters = await bluetooth(ble) if ble.enabled else ([], None)
    sticks = await ant_sticks(ant) if ant.enabled else []
    return [*there, *sticks, *enough(site.gateway_dir, ble.slots, adapters, sensors)]


async def connects(site: Site, broker: Literal["central", "near"]) -> Finding:
    """Whether the broker lets the platform's listening principal in and grants it what it listens to."""
    name = f"{broker} broker"
    central, near = site.settings.central, site.settings.near
    host, number = (central.link_host, central.port) if broker == "central" else (near.host, near.port)
    at = f"{host}:{number}"
    files = _files(site, "platform/tap") if broker == "central" else None
    try:
        granted = await _subscribe(host, number, "platform/tap", site.secret(broker, "platform/tap"), files)
    except PacelineError as error:
        return Finding(name, False, error.message, error.cure)
    except TimeoutError:
        return Finding(name, False, f"{at}: no answer within {TIMEOUT_S:.0f} s", "is the network between here and there up?")
    except OSError as error:
        return Finding(name, False, f"{at}: {error.strerror or error}", f"start it: `paceline run`, and see {site.logs}")
    if not granted:
        return Finding(name, False, f"{at}: refuses the topics of the platform", _ACL_CURE)
    if files is not None and (doubt := await asyncio.to_thread(look_at, at, str(files.roots_file))) is not None:  # we look at no dates
        return Finding(name, False, f"{at} answers us, and not who looks at dates: {doubt}", cure_of_tls(doubt, at, files.must_be_of))
    return Finding(name, True, f"{at} answers")


_ACL_CURE: Final = "write its access rules anew: `paceline broker config mosquitto`"


def _files(site: Site, user: str) -> ClientFiles | None:
    """What the central broker is shown for a user of ours; None where it goes by passwords."""
    files = client_files(site, user)
    return box_files(site.gateway_dir / IDENTITY_FOLDER) if files is not None and user == site.box_user else files


async def _subscribe(host: str, port: int, user: str, secret: str, files: ClientFiles | None) -> bool:
    import aiomqtt

    await _reach(host, port)
    tls = files.context() if files is not None else None
    try:
        async with aiomqtt.Client(
            host, port, username=user, password=secret, identifier=user, timeout=TIMEOUT_S, tls_context=tls
        ) as client:
            codes = await client.subscribe(UP_FILTERS[0], qos=1)
            return all(_code(code) < 0x80 for code in codes)
    except aiomqtt.MqttError as error:
        raise await _refused(host, port, user, error, files) from error


def _code(code: object) -> int:
    value = getattr(code, "value", code)
    return value if isinstance(value, int) else 0x80


async def _reach(host: str, port: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _refused(host: str, port: int, user: str, error: Exception, files: ClientFiles | None) -> PacelineError:
    if files is not None:
        return await mqtt_fault(error, host, port, user, files)
    return ConfigError(
        f"{host}:{port} refuses {user}: {error}",
        cure="the secret in secrets/secrets.json is not the one of this broker: give the broker's password file that user anew",
    )


async def may_send(site: Site) -> Finding:
    """Whether the box gets in and what it publishes on its own topics arrives. Nothing is stored."""
    import aiomqtt

    central, user = site.settings.central, site.box_user
    tenant, _, node = user.partition("/")
    listens, sends = _files(site, "platform/tap"), _files(site, user)
    try:
        secret = site.secret("central", user)
        listening, sending = (files.context() if files is not None else None for files in (listens, sends))
        await _reach(central.link_host, central.port)
        async with (
            asyncio.timeout(2 * TIMEOUT_S),
            aiomqtt.Client(
                central.link_host, central.port, username="platform/tap", password=site.secret("central", "platform/tap"),
                identifier="platform/tap", timeout=TIMEOUT_S, tls_context=listening,
            ) as listener,
        ):  # fmt: skip
            await listener.subscribe(topic(tenant, node, "rsp"), qos=1)
            async with aiomqtt.Client(
                central.link_host,
                central.port,
                username=user,
                password=secret,
                identifier=user,
                timeout=TIMEOUT_S,
                clean_session=True,
                tls_context=sending,
            ) as box:
                await box.publish(topic(tenant, node, "rsp"), b'{"doctor":true}', qos=1)
            async for _ in listener.messages:
                return Finding("rights of the box", True, f"{user} may publish its topics")
    except PacelineError as error:
        return Finding("rights of the box", False, error.message, error.cure)
    except aiomqtt.MqttError as error:
        refused = await _refused(central.link_host, central.port, user, error, sends)
        return Finding("rights of the box", False, refused.message, refused.cure)
    except TimeoutError:
        return Finding("rights of the box", False, f"what {user} publishes does not arrive", _ACL_CURE)
    except OSError as error:
        return Finding("rights of the box", False, f"{central.host}:{central.port}: {error.strerror or error}", "start the central broker")
    return Finding("rights of the box", False, f"what {user} publishes does not arrive", _ACL_CURE)


def processes(site: Site) -> list[Finding]:
    """Whether every process that runs here lives, and is ready."""
    found: list[Finding] = []
    for view in role_views(site.data):
        name, cure = f"{view.role} ready", f"see {site.logs / view.role}.log"
        try:
            if view.role_there() != view.role:  # of another container, which shares this folder and not this address
                continue
            still, reasons = view.stands_still(), view.reasons()
        except OSError as error:
            found.append(Finding(name, False, f"{view.host}:{view.port}: {error}", f"it is away: `paceline run` starts it again; {cure}"))
            continue
        said = [f"{part} stands still" for part in still] + [f"{part}: {why}" for part, why in reasons.items()]
        found.append(Finding(name, not said, "; ".join(said) or "lives, links up, caught up", cure))
    return found


async def page(site: Site) -> Finding:
    """Whether the platform answers, and whether its node is online."""
    api = site.settings.api
    found = await fetch_live(site)
    if found is None:
        return Finding("platform", False, f"{api.host}:{api.port} does not answer", f"start it: `paceline run`, and see {site.logs}")
    online = any(node["online"] for node in found["nodes"])
    return Finding("platform", online, "answers, box online" if online else "answers, no box online", f"see {site.logs / 'gateway.log'}")
