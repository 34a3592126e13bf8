"""What a connection to an MQTT broker that failed means to whoever runs the client: words that name the broker, and the cure.

For every client of aiomqtt alike: a certificate that is not believed, on either side; a user name and password that are refused; a broker
that is not there. Never says a password.
"""

from __future__ import annotations

import asyncio
from typing import Final

from broker.errors import LinkError
from broker.pinned_tls import ClientFiles
from broker.tls_faults import cure_of_tls, refusal_of_ours, tls_error_in

REFUSED_CODES: Final = frozenset({132, 133, 134, 135, 138})  # protocol, client id, password, not authorised, banned


def refusal_code(error: BaseException) -> int | None:
    """The code of a CONNECT that the broker answered with a refusal which another try will not change; None: it failed otherwise."""
    code = getattr(error, "rc", None)
    code = getattr(code, "value", code)
    return code if code in REFUSED_CODES else None


async def mqtt_fault(error: BaseException, host: str, port: int, user: str, files: ClientFiles | None = None) -> LinkError:
    """The failure in our words. With `files` the broker was met by them: it is asked what it has against them when nothing else tells."""
    where = f"broker {host}:{port} as {user}"
    if refusal_code(error) is not None:
        return LinkError(f"{where}: refused: {error}", cure=f"check the user name {user!r} and its password on that broker")
    tls = tls_error_in(error)
    if tls is None and files is not None:
        tls = await asyncio.to_thread(refusal_of_ours, files.context(), host, port)
    if tls is not None:
        trusted = files.must_be_of if files is not None else "name the certificate of its authority"
        return LinkError(f"{where}: TLS failed: {tls}", cure=cure_of_tls(tls, f"{host}:{port}", trusted))
    return LinkError(f"{where}: {error or type(error).__name__}", cure="start it, or check host and port and the way to it")
