"""One MQTT connection of a node by aiomqtt, with what aiomqtt 2.5 leaves open: a bounded inbox, and an end that really ends.

The inbox drops its oldest message when full and counts it (an ack that is lost so is asked for again by a re-send). A connection attempt
that fails or is cancelled leaves no socket, reader or task behind, and a blocked socket does not delay the end.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from broker.errors import ConfigError, LinkError
from broker.mqtt_faults import refusal_code
from broker.pinned_tls import ClientFiles
from broker.tls_faults import cure_of_tls, tls_error_in

_log = logging.getLogger(__name__)
_INBOX_MESSAGES: Final = 512
_LEAVE_TIMEOUT_S: Final = 1.0
_UNSPECIFIED: Final = 128  # what paho says of any connection the other side ended


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where and as whom to connect. Client id and user name are `username` (`tenant/node`). Times in seconds.

    A dead connection is noticed within 2 x `keepalive_s` + 1, or `answer_timeout_s` after something was published.
    """

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    tls: bool = False
    ca_file: Path | None = None  # None: the system's certificates
    files: ClientFiles | None = None  # an enrolled node: its own certificate, and the roots of its platform instead of `ca_file`
    keepalive_s: int = 6
    connect_timeout_s: float = 3.0
    answer_timeout_s: float = 10.0
    max_unconfirmed: int = 16


def tls_context(settings: LinkSettings) -> ssl.SSLContext | None:
    """The context of a TLS link, None for plain; ConfigError names the file that cannot be used."""
    if settings.files is not None:
        return settings.files.context()
    if not settings.tls:
        return None
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    except OSError as error:
        raise ConfigError(f"uplink ca_file {settings.ca_file}: {error}", cure="give a readable PEM file") from error


class _Witness(logging.Handler):
    """Listens to paho: its log is the only place that tells a reset connection from one closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.saw_reset = False
        self.alert: ssl.SSLError | None = None  # what the broker has against our certificate: TLS 1.3 tells after the handshake

    def emit(self, record: logging.LogRecord) -> None:
        for argument in record.args if isinstance(record.args, tuple) else ():
            self.saw_reset |= isinstance(argument, OSError)
            if isinstance(argument, ssl.SSLError):
                self.alert = argument
        _log.debug("mqtt: %s", record.getMessage())


class Link:
    """An established connection. `client` is aiomqtt's; use its `publish`, `subscribe` and `messages`."""

    def __init__(self, client: aiomqtt.Client, witness: _Witness) -> None:
        self.client = client
        self._witness = witness

    def closed_in_order(self, failure: BaseException) -> bool:
        """Whether `failure` came of the broker closing the connection in order (not a reset, not a timeout)."""
        cause = failure.__cause__ or failure
        code = getattr(getattr(cause, "rc", None), "value", None)
        return code == _UNSPECIFIED and not self._witness.saw_reset


@asynccontextmanager
async def open_link(
    settings: LinkSettings, context: ssl.SSLContext | None, will: aiomqtt.Will | None, counters: Counter[str]
) -> AsyncGenerator[Link]:
    """Connect (MqttError when that fails), and close without delay: in order when the body ended well, else at once (the will goes out)."""

    class Inbox(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if self.full():
                self.get_nowait()
                counters["inbox_dropped"] += 1
            super().put_nowait(item)

    witness = _Witness()
    logger = logging.Logger("paceline.mqtt", logging.WARNING)  # noqa: LOG001 - one a connection, so that witnesses do not mix
    logger.addHandler(witness)
    client = aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=settings.password,
        identifier=settings.username,
        clean_session=True,
        will=will,
        keepalive=settings.keepalive_s,
        timeout=settings.answer_timeout_s,
        tls_context=context,
        queue_type=Inbox,
        max_queued_incoming_messages=_INBOX_MESSAGES,
        max_inflight_messages=settings.max_unconfirmed + 4,
        logger=logger,
    )
    client.pending_calls_threshold = settings.max_unconfirmed + 4
    _paho(client).connect_timeout = settings.connect_timeout_s
    try:
        await _enter(client, settings, witness)
        yield Link(client, witness)
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await client.__aexit__(None, None, None)
    finally:
        ended = client._disconnected  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if ended.done() and not ended.cancelled():
            ended.exception()  # seen: else asyncio reports it as never retrieved
        _paho(client)._sock_close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - drops socket, reader, writer and timer, whatever their state


async def _enter(client: aiomqtt.Client, settings: LinkSettings, witness: _Witness) -> None:
    """Connect. TCP and TLS run in a thread that cannot be interrupted: a cancelled caller waits for it, bounded by its timeout.

    aiomqtt does not notice a connection that ends before CONNACK and would wait for its whole timeout: we listen in.
    """
    loop = asyncio.get_running_loop()
    lost = asyncio.Event()
    forward = _paho(client).on_disconnect

    def listen(*arguments: object) -> None:
        if forward is not None:
            cast("Callable[..., None]", forward)(*arguments)
        loop.call_soon_threadsafe(lost.set)

    _paho(client).on_disconnect = listen
    entering = asyncio.ensure_future(client.__aenter__())
    losing = asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait({entering, losing}, timeout=2 * settings.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        said = client._connected.done()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - CONNACK came, and then the end
        if not entering.done():  # what it said is on its way, however late the thread that connected is heard
            await asyncio.wait({entering}, timeout=settings.connect_timeout_s if said else 0.0)
    except asyncio.CancelledError:
        await asyncio.wait({entering, losing}, timeout=settings.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        raise
    finally:
        _paho(client).on_disconnect = forward
        losing.cancel()
        answered = entering.done()
        entering.cancel()
        await asyncio.wait({entering, losing}, timeout=1.0)
        if entering.done() and not entering.cancelled():
            entering.exception()  # seen: raised below, or nobody waits for it any more
    if not answered:
        how = (
            "the connection ended before CONNACK" if lost.is_set() else f"no answer to CONNECT within {2 * settings.connect_timeout_s:g} s"
        )
        raise aiomqtt.MqttError(how) from witness.alert
    entering.result()


def _paho(client: aiomqtt.Client):  # noqa: ANN202 - paho's own type, inferred
    return client._client  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - aiomqtt has no public way to it


def is_refusal(failure: BaseException) -> bool:
    """Whether the broker answered CONNECT with a refusal that another try will not change."""
    return isinstance(failure, MqttConnectError) and refusal_code(failure) is not None


def explain(failure: BaseException, settings: LinkSettings) -> LinkError:
    """The failure in our words, with host, port, credential and cure; never the password."""
    where = f"uplink to {settings.host}:{settings.port} as {settings.username}"
    if is_refusal(failure):
        return LinkError(
            f"{where}: refused: {failure}",
            cure=f"check the credential {settings.username!r} and its password on that broker; trying on slowly",
        )
    cause = failure.__cause__ or failure
    text = str(cause) or type(cause).__name__
    if getattr(getattr(cause, "rc", None), "value", None) == _UNSPECIFIED:
        text = "the connection was closed"
    tls = tls_error_in(failure)
    if settings.files is not None and not isinstance(tls, ssl.SSLCertVerificationError) and (cure := _identity_cure(text.lower())):
        return LinkError(f"{where}: TLS failed: {text}", cure=cure)
    if tls is not None:
        return LinkError(f"{where}: TLS failed: {text}", cure=cure_of_tls(tls, f"{settings.host}:{settings.port}", _trusted(settings)))
    return LinkError(f"{where}: {text}", cure="check host, port and network; trying again by itself")


def _trusted(settings: LinkSettings) -> str:
    """What to do about a broker that is not believed."""
    if settings.files is not None:
        return f"{settings.files.must_be_of}; else enrol again with a code of `paceline node add` of that platform"
    named = f"is {settings.ca_file}" if settings.ca_file else "is not set: the system's certificates are taken"
    return f"name that authority's with uplink ca_file, which {named}"


def _identity_cure(said: str) -> str:
    """What to do when the broker does not take the certificate of an enrolled node; empty: something else."""
    if "revoked" in said:
        return "this node was revoked: enrol it again with a new code of `paceline node add`"
    if "expired" in said:
        return "this node's certificate expired: it renews by itself once it reaches the enrolment service"
    if "unknown ca" in said:
        return "broker and node are not of one authority: enrol again with a code of `paceline node add` of that platform"
    return ""
