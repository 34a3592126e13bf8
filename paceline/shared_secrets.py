"""Secrets of servers that are not ours: a file each, in the folder that only that server mounts. Drawn once, never changed.

Files are readable by all (the servers run as users of their own); who may mount the folder is who may read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from broker.credentials import new_secret
from broker.errors import StoreError
from broker.replace_file import replace_file

FILES: Final = ("influx/admin_password", "influx/admin_token", "grafana/admin_password")


def draw(folder: Path) -> list[Path]:
    """Make the files that are missing; returns which. StoreError when the folder cannot be written."""
    made: list[Path] = []
    for name in FILES:
        path = folder / name
        if not path.exists():
            keep(path, new_secret())
            made.append(path)
    return made


def drawn(path: Path) -> str:
    """The secret in a file, which is drawn if it is missing. StoreError when it can be neither read nor written."""
    if not path.exists():
        keep(path, new_secret())
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: {error}", cure="let this user read it, or remove it: another one is drawn") from error


def keep(path: Path, secret: str) -> None:
    """Leave a secret in its file. StoreError when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, secret.encode(), mode=0o444)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="give a folder you may write") from error
