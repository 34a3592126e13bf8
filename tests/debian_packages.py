"""Programs of Debian for the tests; see `simulators.debian_packages`, which the demo uses too."""

from __future__ import annotations

from simulators.debian_packages import (
    PROJECT,
    TOOLS,
    check_libraries,
    check_libraries_in,
    cure,
    find_or_unpack,
    library_environment,
    only_one,
    own_lists,
    unpack_packages,
    unpacked_once,
)
from simulators.debian_packages import ToolUnavailableError as ServerUnavailableError

__all__ = [
    "PROJECT",
    "TOOLS",
    "ServerUnavailableError",
    "check_libraries",
    "check_libraries_in",
    "cure",
    "find_or_unpack",
    "library_environment",
    "only_one",
    "own_lists",
    "unpack_packages",
    "unpacked_once",
]
