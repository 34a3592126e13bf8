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


class BadProfileError(ProfileError):
    """A sensor profile cannot be used. `line` counts from 1, `field` is the place in the profile, such as
    `treadmill_data.fields.speed_kmh`."""

    def __init__(self, file: str, line: int, field: str, detail: str, cure: str) -> None:
        where = f"{file}:{line}: {field}: " if field else f"{file}:{line}: "
        super().__init__(f"{where}{detail}\n  cure: {cure}")
        self.file = file
        self.line = line
        self.field = field
        self.detail = detail
        self.cure = cure


class CommandError(ProfileError):
    """A command cannot be put into bytes: not known, an argument is missing, unknown or outside its limits. The message says which."""
