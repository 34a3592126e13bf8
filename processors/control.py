"""Control-rate MQTT of the platform: publishes the desired configuration of each node and commands to equipment, and hears what the nodes
say of themselves and answer.

The desired configurations are files `<folder>/<tenant>/<node>.json` (`broker.nodeconfig.NodeConfig`); a changed file is published within
a second, a wrong one is logged once and left out. All are published again on every connection, so that a broker may forget them.
Commands are those of the `desk`, published until they are answered.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Final

import aiomqtt
from pydantic import SecretStr, ValidationError

from broker.cancellation import heard, in_own_task
from broker.commands import decode_answer
from broker.errors import BadInputError, ConfigError, StoreError
from broker.mqtt_faults import mqtt_fault
from broker.nodeconfig import NodeState, parse_node_config
from broker.pinned_tls import ClientFiles
from broker.topics import ROOT, Address, parse_topic, topic
from processors.equipment import EquipmentDesk, Outgoing
from processors.wall import wall_us

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0
COMMAND_POLL_S: Final = 0.05  # a coach waits for it
FORGET_S: Final = 3_600.0
MAX_QUEUED: Final = 10_000
TIMEOUT_S: Final = 10.0
_USER: Final = "platform/control"


class Control:
    """`nodes` maps (tenant, node) to the last state each node reported; `connected` while the broker lets it in, `last_error` says why not.

    With `files` the broker is met by TLS and a certificate.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        port: int,
        password: SecretStr,
        desk: EquipmentDesk | None = None,
        files: ClientFiles | None = None,
    ) -> None:
        self._folder = folder
        self._host, self._port, self._password = host, port, password
        self._desk = desk
        self._files = files
        self._published: dict[Path, float] = {}
        self._commanded: dict[tuple[str, bytes], float] = {}  # when it was published last
        self.nodes: dict[tuple[str, str], NodeState] = {}
        self.connected = False
        self.last_error = ""

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await in_own_task(self._session())
            except* (aiomqtt.MqttError, OSError) as group:  # of the session's tasks; OSError: a configuration file that just went
                await self._tell(group)
            finally:
                self.connected = False
            await asyncio.sleep(0.2 + random.random())

    async def _tell(self, group: BaseExceptionGroup[Exception]) -> None:
        """Remember why there is no connection, and log it when it is another reason than before."""
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        told: BaseException = error
        if isinstance(error, aiomqtt.MqttError):
            told = await mqtt_fault(error, self._host, self._port, _USER, self._files)
        if str(told) != self.last_error:
            _log.warning("control: %s", told)
        self.last_error = str(told)

    async def _session(self) -> None:
        async with aiomqtt.Client(
            self._host,
            self._port,
            username=_USER,
            password=self._password.get_secret_value(),
            identifier=_USER,
            clean_session=True,
            keepalive=20,
            timeout=TIMEOUT_S,
            tls_context=self._files.context() if self._files is not None else None,
            max_queued_incoming_messages=MAX_QUEUED,
            logger=_log,
        ) as client:
            await client.subscribe([(f"{ROOT}/+/+/state", 1), (f"{ROOT}/+/+/rsp", 1)])
            self.connected, self.last_error = True, ""
            self._published.clear()
            self._commanded.clear()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(client))
                group.create_task(self._publish_changes(client))
                if self._desk is not None:
                    group.create_task(self._publish_commands(client, self._desk))

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            address = parse_topic(message.topic.value)
            if address is None:
                continue
            if address.leaf == "rsp":
                await self._answered(address, message.payload)
                continue
            try:
                self.nodes[address.tenant, address.node] = NodeState.model_validate_json(message.payload)
            except ValidationError as error:
                _log.warning("control: %s: not a node state: %s", message.topic.value, error.errors()[0]["msg"])
        raise aiomqtt.MqttError("the connection ended")

    async def _answered(self, address: Address, raw: bytes) -> None:
        if self._desk is None:
            return
        try:
            await asyncio.to_thread(self._desk.answered, address.tenant, address.node, decode_answer(raw), wall_us())
        except (BadInputError, StoreError) as error:
            _log.warning("control: %s/%s: answer not taken: %s", address.tenant, address.node, error.message)

    async def _publish_commands(self, client: aiomqtt.Client, desk: EquipmentDesk) -> None:
        looked_s = forgot_s = -inf
        while True:
            now_s = time.monotonic()
            if desk.changed.is_set() or now_s - looked_s >= POLL_S:
                looked_s = now_s
                try:
                    due = await asyncio.to_thread(desk.due, wall_us())
                    if now_s - forgot_s >= FORGET_S:
                        forgot_s = now_s
                        await asyncio.to_thread(desk.forget, wall_us())
                except StoreError as error:
                    _log.error("control: no command is sent: %s", error)
                    due = []
                await self._publish_due(client, due, now_s)
            await asyncio.sleep(COMMAND_POLL_S)

    async def _publish_due(self, client: aiomqtt.Client, due: Sequence[Outgoing], now_s: float) -> None:
        known = {(one.topic, one.payload): self._commanded.get((one.topic, one.payload), -inf) for one in due}
        for one in due:
            key = (one.topic, one.payload)
            if now_s - known[key] >= one.again_s:
                await heard(client.publish(one.topic, one.payload, qos=1))
                known[key] = now_s
        self._commanded = known

    async def _publish_changes(self, client: aiomqtt.Client) -> None:
        while True:
            for path in sorted(self._folder.glob("*/*.json")):
                changed = path.stat().st_mtime
                if self._published.get(path) != changed:
                    self._published[path] = changed
                    await self._publish(client, path)
            await asyncio.sleep(POLL_S)

    async def _publish(self, client: aiomqtt.Client, path: Path) -> None:
        name = topic(path.parent.name, path.stem, "cfg")
        raw = await asyncio.to_thread(path.read_bytes)
        try:
            if parse_topic(name) is None:
                raise ConfigError(f"{path}: {name} is no topic of a node", cure="name the file <tenant>/<node>.json")
            parse_node_config(raw, str(path))
        except ConfigError as error:
            _log.error("control: not published: %s", error)
            return
        started = time.monotonic()
        await heard(client.publish(name, raw, qos=1, retain=True))
        _log.info("control: published %s in %.0f ms", name, (time.monotonic() - started) * 1000)
