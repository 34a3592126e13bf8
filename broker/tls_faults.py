"""What a TLS handshake that failed means to whoever runs the client: its words, and the cure."""

from __future__ import annotations

import socket
import ssl
from typing import Final

_LOOK_S: Final = 3.0
_ALERT_S: Final = 1.0
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64  # OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID and the like
_OURS: Final = {
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew it",
    "CERTIFICATE_REVOKED": "our certificate is revoked: get another one",
    "UNKNOWN_CA": "our certificate is not of the authority it trusts: get one that is",
    "CERTIFICATE_REQUIRED": "it asks for a certificate of ours: give one",
}


def cure_of_tls(error: ssl.SSLError, server: str, trusted: str) -> str:
    """What to do about a failed handshake with `server` (`host:port`); `trusted` says where the authority it needs is configured."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _EXPIRED:
            return f"the certificate of {server} has expired: give it a new one (or set the clock of this machine)"
        if error.verify_code == _NOT_YET:
            return f"the certificate of {server} is not valid yet: set the clocks of it and of this machine"
        if error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
            return f"the certificate of {server} has another name: use a name that is in it, or give it one with this name"
        return f"the certificate of {server} is not of an authority that is trusted here: {trusted}"
    reason = (error.reason or "").upper()
    return next((cure for word, cure in _OURS.items() if word in reason), f"check that {server} speaks TLS, and its certificate")


def tls_error_in(error: BaseException | None) -> ssl.SSLError | None:
    """The failed handshake that an error tells of, however a client wrapped it; None: it is of something else."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def look_at(server: str, cafile: str) -> ssl.SSLError | None:
    """Shake hands with `host:port` once; the error when that fails for want of trust, None when it does not, or nobody answers."""
    host, _, port = server.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=cafile or None)
        with (
            socket.create_connection((host.strip("[]"), int(port)), _LOOK_S) as link,
            context.wrap_socket(link, server_hostname=host.strip("[]")),
        ):
            return None
    except ssl.SSLError as error:
        return error
    except (OSError, ValueError):
        return None


def refusal_of_ours(context: ssl.SSLContext, host: str, port: int) -> ssl.SSLError | None:
    """Shake hands once with our certificate, and wait a moment for what the server says of it; None: nothing.

    With TLS 1.3 it says so after the handshake, which is where most clients lose it.
    """
    try:
        with socket.create_connection((host, port), _LOOK_S) as link, context.wrap_socket(link, server_hostname=host) as secure:
            secure.settimeout(_ALERT_S)
            secure.recv(1)
            return None
    except ssl.SSLError as error:
        return error
    except OSError:
        return None
