"""Sees that a revoked node is gone from the broker: the list is in force, its open session is ended, and it cannot come back.

A broker checks the list when a client connects, not afterwards. So two certificates of five minutes do the rest, on any broker that goes by
certificates: a canary that is on the list shows when that list is in force (it is refused), and then one in the node's own name takes over
its session, clean, and leaves.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import mqtt_codec as mqtt
from broker.errors import LinkError
from broker.pinned_tls import pinned_context
from paceline.ca_authority import Authority

WITHIN_S: Final = 60.0
CANARY: Final = "platform/canary"
_STEP_S: Final = 5.0
_AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class BrokerPlace:
    """Where the broker is reached."""

    host: str
    port: int


def revoke_everywhere(authority: Authority, name: str, broker: BrokerPlace, within_s: float = WITHIN_S) -> float:
    """Revoke `name`, and return the seconds until the broker had ended its session. Safe to repeat.

    ConfigError when it was never added; LinkError when the broker did not follow within `within_s`: the list is published all the same.
    """
    began_s = time.monotonic()
    authority.revoke(name)
    end_session(authority, name, broker, within_s)
    return time.monotonic() - began_s


def end_session(authority: Authority, name: str, broker: BrokerPlace, within_s: float = WITHIN_S) -> None:
    """Wait until the published list is in force at the broker, then end the session of `name`."""
    until_s = time.monotonic() + within_s
    canary = authority.probe(CANARY, revoked=True)
    trouble = "it still lets in whom the list names"
    while time.monotonic() < until_s:
        try:
            if not knock(broker, authority.roots(), canary):
                break
        except OSError as error:
            trouble = str(error) or type(error).__name__
        time.sleep(_AGAIN_S)
    else:
        raise LinkError(
            f"broker {broker.host}:{broker.port}: it did not follow within {within_s:.0f} s ({trouble}); {name} is revoked in the book",
            cure="start the broker (it reads the list then), or make it read its files again, and repeat this command",
        )
    if not knock(broker, authority.roots(), authority.probe(name, revoked=False)):
        raise LinkError(
            f"broker {broker.host}:{broker.port}: it refuses the authority's own certificate in the name of {name}",
            cure="give it the roots and the configuration of this platform: `paceline broker config central`",
        )


def knock(broker: BrokerPlace, roots: str, identity: bytes) -> bool:
    """Whether the broker lets in who shows `identity` (key and certificate, PEM), with a clean session that ends at once.

    OSError when the broker cannot be reached or is not of our authority.
    """
    return knock_with(broker, _context(roots, identity))


def knock_with(broker: BrokerPlace, context: ssl.SSLContext) -> bool:
    """As `knock`, for whom the context shows."""
    with socket.create_connection((broker.host, broker.port), timeout=_STEP_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=broker.host) as link:
                link.sendall(mqtt.encode_connect("probe", "probe", "", clean=True, keepalive=10))
                answer = link.recv(4)
                if answer[:1] == b"\x20" and answer[3:4] == b"\x00":
                    link.sendall(mqtt.DISCONNECT)
                    return True
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            return False  # the alert to a certificate comes as one of these, or as the end
    return False


def _context(roots: str, identity: bytes) -> ssl.SSLContext:
    """The ssl module reads keys from files only: one that only we may read, gone at once."""
    handle, name = tempfile.mkstemp(prefix="paceline-probe-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(identity)
        return pinned_context(roots, Path(name))
    finally:
        Path(name).unlink()
