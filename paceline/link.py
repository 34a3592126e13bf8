"""Control-rate MQTT of the front door: listen as a platform principal, or publish as a node. aiomqtt, imported when used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.mqtt_faults import mqtt_fault
from broker.pinned_tls import ClientFiles

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """A broker and the credential to use on it (the client id is the user name). With `files` it is met by TLS and a certificate."""

    host: str
    port: int
    user: str
    secret: str
    files: ClientFiles | None = None


async def messages(link: Link, pattern: str, *, qos: int) -> AsyncIterator[tuple[str, bytes]]:
    """Topic and payload of every message that matches, until cancelled. LinkError when the broker refuses or goes away."""
    import aiomqtt

    try:
        tls = link.files.context() if link.files is not None else None
        async with aiomqtt.Client(
            link.host, link.port, username=link.user, password=link.secret, identifier=link.user, timeout=_TIMEOUT_S, tls_context=tls
        ) as client:
            await client.subscribe(pattern, qos=qos)
            async for message in client.messages:
                yield str(message.topic), message.payload
    except aiomqtt.MqttError as error:
        raise await mqtt_fault(error, link.host, link.port, link.user, link.files) from error


@asynccontextmanager
async def publishing(link: Link) -> AsyncGenerator[Callable[[str, bytes], Awaitable[None]]]:
    """A function that publishes with QoS 1 and waits for the broker to take it. LinkError when it does not."""
    import aiomqtt

    async def publish(name: str, payload: bytes) -> None:
        await client.publish(name, payload, qos=1)

    try:
        tls = link.files.context() if link.files is not None else None
        async with aiomqtt.Client(
            link.host, link.port, username=link.user, password=link.secret, identifier=link.user, timeout=_TIMEOUT_S, tls_context=tls
        ) as client:
            yield publish
    except aiomqtt.MqttError as error:
        raise await mqtt_fault(error, link.host, link.port, link.user, link.files) from error
