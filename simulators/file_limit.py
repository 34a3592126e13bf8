"""How many files, and so connections, a process may have open: raised as far as the system lets it, else an error that names the cure."""

from __future__ import annotations

import resource
from typing import Final

from broker.errors import ConfigError

OWN_FILES: Final = 64  # besides connections: pipes, modules, the loop


def allow_connections(connections: int) -> None:
    """See that this process may hold so many; ConfigError when the hard limit is lower."""
    needed = connections + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise ConfigError(
                f"{connections} connections need {needed} open files, and a process may have {hard}",
                cure=f"raise the hard limit (ulimit -Hn {needed}, or LimitNOFILE of the service), or take more --processes",
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
