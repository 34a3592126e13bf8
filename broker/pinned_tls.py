"""TLS between parts of one platform: only the roots of its own authority are trusted, and a certificate of it is shown.

Names are checked, dates of the other side are not: a node may have no clock, the roots are ours alone, and what a date would end, a
revocation ends. Files are read at each connection, because certificates are renewed while processes run.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from broker.errors import ConfigError

NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module does not name
_CURE: Final = "start `paceline run` there once, or enrol again with a code of `paceline node add`"


def pinned_context(roots: str, node_file: Path | None = None) -> ssl.SSLContext:
    """TLS that trusts `roots` (PEM) only and, if given, shows `node_file` (key and certificate). ConfigError when they cannot be used."""
    try:
        context = ssl.create_default_context(cadata=roots)
        context.verify_flags |= NO_CHECK_TIME
        if node_file is not None:
            context.load_cert_chain(node_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{node_file or 'roots'}: {error}", cure=_CURE) from error
    return context


class ClientFiles(BaseModel):
    """Key and certificate of a client in one PEM file, and the roots of its platform."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    node_file: Path
    roots_file: Path

    @property
    def must_be_of(self) -> str:
        """What to do about a server that is not believed: whose certificate it must have."""
        return f"it must be of an authority in {self.roots_file}"

    def context(self) -> ssl.SSLContext:
        """The context of the next connection. ConfigError names the file that cannot be read."""
        try:
            roots = self.roots_file.read_text("ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.roots_file}: {error}", cure=_CURE) from error
        return pinned_context(roots, self.node_file)
