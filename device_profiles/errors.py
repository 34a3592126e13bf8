"""The error tree of `device_profiles`: what came from outside and cannot be used.

Invariant: the message names the file and what was found in it, and `cure` says what to do about it.
"""

from __future__ import annotations


class ProfileError(Exception):
    """Base of all errors this package raises on purpose."""


class FileError(ProfileError):
    """A file cannot be used. `path` is the file's name, `detail` what was found, `cure` what to do."""

    def __init__(self, path: str, detail: str, cure: str) -> None:
        super().__init__(f"{path}: {detail}\n  cure: {cure}")
        self.path = path
        self.detail = detail
        self.cure = cure
