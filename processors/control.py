"""Control-rate MQTT of the platform: publishes the desired configuration of each node and hears what the nodes say of themselves.

The desired configurations are files `<folder>/<tenant>/<node>.json` (`broker.nodeconfig.NodeConfig`); a changed file is published within
a second, a wrong one is logged once and left out. All are published again on every connection, so that a broker may forget them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import Final

import aiomqtt
from pydantic import SecretStr, ValidationError

from broker.cancellation import heard, in_own_task
from broker.errors import ConfigError
from broker.nodeconfig import NodeState, parse_node_config
from broker.topics import ROOT, parse_topic, topic

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0
MAX_QUEUED: Final = 10_000
TIMEOUT_S: Final = 10.0
_USER: Final = "platform/control"


class Control:
    """`nodes` maps (tenant, node) to the last state each node reported."""

    def __init__(self, folder: Path, host: str, port: int, password: SecretStr) -> None:
        self._folder = folder
        self._host, self._port, self._password = host, port, password
        self._published: dict[Path, float] = {}
        self.nodes: dict[tuple[str, str], NodeState] = {}

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await in_own_task(self._session())
            except* (aiomqtt.MqttError, OSError) as group:  # of the session's tasks; OSError: a configuration file that just went
                _log.warning("control: broker %s:%d: %s", self._host, self._port, "; ".join(str(e) for e in group.exceptions))
            await asyncio.sleep(0.2 + random.random())

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
            max_queued_incoming_messages=MAX_QUEUED,
            logger=_log,
        ) as client:
            await client.subscribe(f"{ROOT}/+/+/state", qos=1)
            self._published.clear()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(client))
                group.create_task(self._publish_changes(client))

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            address = parse_topic(message.topic.value)
            if address is None:
                continue
            try:
                self.nodes[address.tenant, address.node] = NodeState.model_validate_json(message.payload)
            except ValidationError as error:
                _log.warning("control: %s: not a node state: %s", message.topic.value, error.errors()[0]["msg"])
        raise aiomqtt.MqttError("the connection ended")

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
