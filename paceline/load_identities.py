"""Certificates for the nodes of a load, of the site's own authority: a load goes by the same identity as the fleet it stands for.

Each node is added to the authority as `paceline node add` does, and has a key of its own; no code is typed. What is there and not due for
renewal is kept, so a second load costs nothing. `paceline node revoke` ends such a node as any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from paceline.site import Site
from paceline.site_identity import open_authority
from simulators.load_run import identity_file

FOLDER: Final = "load"


def certified(site: Site, usernames: Iterable[str]) -> tuple[Path, Path]:
    """(the folder with key and certificate of each of these nodes, the file with the roots). ConfigError for a site without authority."""
    folder = site.secrets / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_authority(site) as authority:
        for username in usernames:
            authority.keep_client(identity_file(folder, username), username)
        return folder, authority.roots_file
