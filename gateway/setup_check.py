"""Tries a credential on the broker before it is kept: TCP, TLS, name and password, and whether this node may read its acks there."""

from __future__ import annotations

import ssl
from collections import Counter
from pathlib import Path
from typing import Final

import aiomqtt

from broker.errors import ConfigError, LinkError
from broker.topics import topic
from gateway.identity import client_files
from gateway.link import LinkSettings, explain, open_link
from gateway.setup_credential import IDENTITY_FOLDER, BoxCredential

_GRANTED: Final = frozenset({0, 1, 2})


async def try_credential(credential: BoxCredential, data_dir: Path) -> LinkError | None:
    """None when the broker takes this box as a node; else why not, in words for a person, with the cure. Bounded by 20 s."""
    files = client_files(data_dir / IDENTITY_FOLDER) if credential.enrolled else None
    settings = LinkSettings(
        credential.host, credential.port, credential.username, credential.password.get_secret_value(), tls=credential.tls, files=files
    )
    try:
        async with open_link(settings, files.context() if files is not None else _context(credential), None, Counter()) as link:
            code = (await link.client.subscribe([(topic(credential.tenant, credential.node, "ack"), 1)]))[0]
    except ConfigError as error:
        return LinkError(error.message, cure=error.cure)
    except (aiomqtt.MqttError, OSError, TimeoutError) as error:
        said = explain(error, settings)
        return LinkError(said.message.removeprefix("uplink to "), cure=said.cure.partition(";")[0])  # nothing is tried again by itself here
    if getattr(code, "value", code) not in _GRANTED:
        name = credential.username
        return LinkError(f"the broker refuses {name} its own topics", cure=f"give {name!r} the permissions of a node on that broker")
    return None


def _context(credential: BoxCredential) -> ssl.SSLContext | None:
    if not credential.tls:
        return None
    try:
        return ssl.create_default_context(cadata=credential.ca_pem or None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"ca_pem: {error}", cure="paste the certificate of the authority as the platform gave it") from error
