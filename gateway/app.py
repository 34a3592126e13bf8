"""The gateway process: sources, intake, spool, uplink and remote configuration wired together. Wiring only.

`run` works until it is cancelled and then ends in order: sources stop, the uplink says offline, the spool commits and closes. A part that
crashes is started again while the others go on. Refuses to start without a spool, or beside another gateway on the same directory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

from broker.commands import CommandReason, CommandState, Reply, encode_answer, id_in
from broker.errors import StoreError
from broker.liveness import Liveness, Part
from broker.nodeconfig import NodeConfig, NodeState
from broker.watch import STALL_S, Watch, in_loop
from gateway.answers import Answers
from gateway.clock import EARLIEST_UTC_US
from gateway.command_book import CommandBook
from gateway.data_lock import locked_directory
from gateway.equipment import Equipment, Surroundings
from gateway.file_source import FileSource
from gateway.fleet import Fleet
from gateway.identity import client_files
from gateway.intake import Intake, read_clock
from gateway.keeping import keep_running
from gateway.link import LinkSettings, tls_context
from gateway.measures import of_counters, of_spool
from gateway.near import NearListener
from gateway.notify import Notifier, keep_told, notifier_of
from gateway.radios import Radios
from gateway.refused import RefusedStore
from gateway.remote_config import RemoteConfig
from gateway.replay_book import ReplayBook
from gateway.settings import GatewaySettings
from gateway.spool import Spool, SpoolSettings
from gateway.uplink import Uplink, UplinkSettings
from gateway.uplink_switch import UplinkSwitch

if TYPE_CHECKING:
    from gateway.identity_keeper import IdentityKeeper

log = logging.getLogger(__name__)

MAX_DEVICES_SHOWN = 500  # of the state document; the counts of all stay in the spool


async def run(
    settings: GatewaySettings,
    *,
    notifier: Notifier | None = None,
    seen: Callable[[Gateway], None] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run one gateway until cancelled. ConfigError or StoreError when it cannot start.

    `notifier` None: the service manager of the environment is told. `seen` gets the gateway once it is open; `watch` its figures.
    """
    watch = watch or Watch("gateway")
    notifier = notifier or notifier_of(os.environ, os.getpid())
    with locked_directory(settings.data_dir), RefusedStore(settings.data_dir / "refused.db") as refused:
        gateway = Gateway(settings, refused, watch.liveness)
        await gateway.open()
        gateway.show(watch)
        if seen is not None:
            seen(gateway)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_told(notifier, gateway.liveness, lambda: summary_of(gateway.state(), connected=gateway.connected)))
                tasks.create_task(gateway.serve())
        finally:
            notifier.tell("STOPPING=1")
            await gateway.close()


class Gateway:
    """The parts of one process. `await open()`, `await serve()` until cancelled, `await close()`."""

    def __init__(self, settings: GatewaySettings, refused: RefusedStore, liveness: Liveness | None = None) -> None:
        self._settings = settings
        self._refused = refused
        self._random = SystemRandom().random
        self._crashes: Counter[str] = Counter()
        self.fleet = Fleet()
        self.liveness = liveness or Liveness(time.monotonic)
        self._uplink = UplinkSwitch(self._make_uplink, self._crashes, random=self._random)
        self._config = RemoteConfig(
            settings.data_dir,
            NodeConfig(version=0, frame_ms=settings.frame_ms),
            apply=self._apply,
            healthy=self._uplink.wait_healthy,
            trial_s=settings.trial_s,
        )
        self._spool: Spool | None = None
        self._intake: Intake | None = None
        self._near: NearListener | None = None
        self._files: list[FileSource] = []
        self._radios: Radios | None = None
        self._answers = Answers()
        self._book: CommandBook | None = None
        self._equipment: Equipment | None = None
        self._identity = self._open_identity(settings.uplink.identity)

    @property
    def connected(self) -> bool:
        """The uplink has a session."""
        return self._uplink.current is not None and self._uplink.current.connected

    @property
    def uplink_error(self) -> str:
        """Why the uplink is away, with its cure; empty when there is nothing to say. What the authority said is nearer the cause."""
        error = self._uplink.current.last_error if self._uplink.current is not None else None
        if self._identity is not None and self._identity.trouble and not self.connected:
            return self._identity.trouble
        return str(error) if error is not None and not self.connected else ""

    def _athlete_at(self, device: str, utc_us: int) -> str | None:
        return self._config.current.athlete_at(device, utc_us)

    def _part(self, name: str) -> Part:
        return self.liveness.part(name, STALL_S)

    async def open(self) -> None:
        """Open the spool and build the parts; nothing runs yet."""
        tls_context(self._link())  # a certificate that cannot be read is an error now, not later
        cap_bytes, policy = self._limits(self._config.current)
        limits = SpoolSettings(cap_bytes=cap_bytes, full_policy=policy)
        self._spool = await Spool.open(self._settings.data_dir / "spool.db", limits, alive=self._part("spool"))
        settings = self._settings
        intake = self._intake = Intake(self._spool, settings.tenant, lambda: self._config.current)
        if settings.near is not None:
            self._near = NearListener(
                settings.near,
                settings.tenant,
                settings.node,
                intake,
                self._refused,
                self.fleet,
                random=self._random,
                alive=self._part("near"),
            )
        self._radios = Radios(
            settings, intake, lambda: self._config.current, crashes=self._crashes, random=self._random, alive=self._part("sensing")
        )
        self._add_radios(self._radios)
        self._equipment = self._open_equipment(self._radios)
        if settings.ant.enabled:
            from gateway.ant_source import AntSource  # brings the profiles, and pyusb for a stick on USB

            radios = self._radios
            ant = AntSource(
                settings.ant, radios.sensing, radios.sightings, radios.controllable, random=self._random, alive=self._part("ant")
            )
            radios.add("ant", ant)
        book = ReplayBook(settings.data_dir)
        self._files = [
            FileSource(
                replay, intake, settings.tenant, book=book, random_boot=lambda: secrets.randbits(64), alive=self._part(f"file_{place}")
            )
            for place, replay in enumerate(settings.files)
        ]

    def _add_radios(self, radios: Radios) -> None:
        """The sources that are on; one that is off is not even imported."""
        if self._settings.ble.enabled:
            from device_profiles.catalogue import catalogue
            from gateway.ble_source import BleSource

            ble = BleSource(
                self._settings.ble, catalogue(), radios.sensing, radios.sightings, radios.controllable,
                random=self._random, alive=self._part("ble"),
            )  # fmt: skip
            radios.add("ble", ble)

    def _open_equipment(self, radios: Radios) -> Equipment | None:
        """None when commands could not be remembered: samples are taken all the same, and every command is refused."""
        try:
            self._book = CommandBook(self._settings.data_dir / "equipment.db")
        except StoreError as error:
            log.error("no machine can be commanded: %s", error)  # noqa: TRY400 - the message says it all
            return None
        around = Surroundings(athlete_at=self._athlete_at, heard_us=radios.sensing.heard_us, connected=lambda: self.connected)
        return Equipment(self._settings.equipment, self._book, self._answers, radios.controllable, around)

    def _open_identity(self, folder: Path | None) -> IdentityKeeper | None:
        if folder is None:
            return None
        from gateway.identity_keeper import IdentityKeeper  # brings the client of the enrolment service

        return IdentityKeeper(
            folder,
            check_s=self._settings.identity_check_s,
            renewed=self._uplink.replace,
            connected=lambda: self.connected,
            random=self._random,
            alive=self._part("identity"),
        )

    def _command(self, raw: bytes) -> None:
        """A message on `cmd`."""
        if self._equipment is not None:
            self._equipment.command(raw)
            return
        ident, device = id_in(raw)
        why = CommandReason.NOT_STORED
        self._answers.put(encode_answer(Reply(id=ident, device=device, state=CommandState.REFUSED, reason=why, detail="see the box's log")))

    async def serve(self) -> None:
        """Run all parts until cancelled: what moves is stopped, the sources end, then what stores what they heard, then the uplink."""
        assert self._radios is not None
        log.info("gateway %s/%s runs in %s", self._settings.tenant, self._settings.node, self._settings.data_dir)
        async with asyncio.TaskGroup() as upward:
            upward.create_task(self._uplink.run())
            upward.create_task(keep_running("config", self._config.run, self._crashes, random=self._random))
            if self._identity is not None:
                upward.create_task(keep_running("identity", self._identity.run, self._crashes, random=self._random))
            async with asyncio.TaskGroup() as storing, asyncio.TaskGroup() as sources:
                self._radios.start(storing, sources)
                if self._near is not None:
                    sources.create_task(keep_running("near", self._near.run, self._crashes, random=self._random))
                for source in self._files:
                    name = f"file_{source.status.path.name}"
                    sources.create_task(keep_running(name, source.run, self._crashes, random=self._random))
                if self._equipment is not None:
                    await keep_running("equipment", self._equipment.run, self._crashes, random=self._random)
                await asyncio.Event().wait()

    async def close(self) -> None:
        """Commit and close the spool, and the book of commands."""
        if self._book is not None:
            self._book.close()
        if self._spool is not None:
            await self._spool.close()
        log.info("gateway %s/%s ended", self._settings.tenant, self._settings.node)

    def show(self, watch: Watch) -> None:
        """Give `watch` the figures and links of an open gateway. Without its platform it takes samples, but is not ready."""
        watch.link("uplink", lambda: self.connected, lambda: self.uplink_error)
        near, spool = self._near, self._spool
        if near is not None:
            watch.link("near", lambda: near.connected, lambda: near.last_error, connects=lambda: near.counters.connects)
        if spool is not None:
            watch.ready_when("spool", lambda: spool.alarm)
            watch.measure(in_loop(lambda: of_spool(spool.stats())))
        watch.measure(in_loop(lambda: of_counters(self._counters())))

    def state(self) -> NodeState:
        """What this node says of itself."""
        assert self._spool is not None
        stats = self._spool.stats()
        devices = sorted(stats.devices, key=lambda d: d.device)[:MAX_DEVICES_SHOWN]
        return NodeState(
            online=True,
            epoch=f"{self._spool.epoch:016x}",
            cfg_version=self._config.current.version,
            cfg_error=self._config.error,
            spool_rows=stats.rows,
            spool_bytes=stats.bytes,
            hours_left=stats.hours_left,
            counters=self._counters(),
            devices=tuple(devices),
        )

    def _counters(self) -> dict[str, int]:
        assert self._spool is not None
        assert self._intake is not None
        assert self._radios is not None
        stats = self._spool.stats()
        counters = {
            "spool_rejected": stats.rejected,
            "spool_dropped": stats.dropped,
            "spool_corrupt": stats.corrupt,
            "spool_salvaged": stats.salvaged,
            "spool_forgotten": stats.forgotten,
            "without_room": self._intake.without_room,
            "clock_unset": int(read_clock().utc_us < EARLIEST_UTC_US),
        }
        if self._near is not None:
            nodes = self.fleet.nodes()
            counters |= self._near.counters.as_dict() | {f"near_{name}": count for name, count in self._near.dropped.items()}
            counters |= {"near_nodes": len(nodes), "near_online": sum(node.online for node in nodes)}
            counters |= {f"near_refused_{reason}": rows for reason, rows in self._refused.counts.items()}
        counters |= self._radios.counters()
        if self._equipment is not None:
            counters |= self._equipment.counters
        for source in self._files:
            counters[f"files_{source.status.state}"] = counters.get(f"files_{source.status.state}", 0) + 1
        if self._identity is not None:
            counters["identity_renewals"] = self._identity.renewals
        return counters | {f"crashed_{_word(name)}": count for name, count in self._crashes.items()}

    def _make_uplink(self) -> Uplink:
        assert self._spool is not None
        return Uplink(
            self._spool,
            UplinkSettings(self._settings.tenant, self._settings.node, self._link()),
            on_cfg=self._config.offer,
            on_cmd=self._command,
            answers=self._answers,
            state=self.state,
            random=self._random,
            alive=self._part("uplink"),
        )

    def _link(self) -> LinkSettings:
        own, told = self._settings.uplink, self._config.current.uplink
        return LinkSettings(
            host=told.host if told else own.host,
            port=told.port if told else own.port,
            username=f"{self._settings.tenant}/{self._settings.node}",
            password=self._settings.password.get_secret_value(),
            tls=told.tls if told else own.tls,
            ca_file=own.ca_file,
            files=client_files(own.identity) if own.identity is not None else None,
        )

    def _limits(self, config: NodeConfig):  # noqa: ANN202 - (bytes, policy), inferred with its literals
        own = self._settings.spool
        return config.spool_cap_bytes or own.cap_bytes, config.full_policy or own.full_policy

    async def _apply(self, config: NodeConfig, changed: frozenset[str]) -> None:
        """Restart or adjust only what changed; bindings and frame length are read where they are used."""
        assert self._spool is not None
        if changed & {"spool_cap_bytes", "full_policy"}:
            self._spool.set_limits(*self._limits(config))
        if "uplink" in changed:
            self._uplink.replace()


def summary_of(state: NodeState, *, connected: bool) -> str:
    """One line for a service manager."""
    room = "room not known yet" if state.hours_left is None else f"room for {state.hours_left:.1f} h"
    return f"uplink {'up' if connected else 'away'}, {state.spool_rows} frames owed, {room}"


def _word(name: str) -> str:
    """A name that may stand in a counter: the file's own name only, bounded."""
    return Path(name).name[:64]
