"""A site as one file. SQLite files are copied by SQLite's own online backup, one moment of each.

The order matters, because it may run meanwhile: the log comes last. What left the spool since that was copied is in the log, and what is
in both is dropped as a repeat; the state, copied before the log, is followed up from it. A file that goes before its turn is left out, one
that comes meanwhile is taken too. Left out is what can be made again (`segments/`,
files set aside by an upgrade) or belongs to a running process (`metrics/`, `logs/`, locks).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Final

from broker.errors import BadInputError, ConfigError, StoreError

INDEX: Final = "backup.json"
FORMAT: Final = 1
RESTORING: Final = ".restoring"
LEFT_OUT: Final = frozenset({"metrics", "logs", "segments", "work"})
_LEFT_ENDINGS: Final = ("-wal", "-shm", ".lock", ".new")
_LAST: Final = ("platform/influx.db", "platform/state.db", "platform/log.db")
_LOOKS: Final = 3  # for files that came meanwhile
_MAGIC: Final = b"SQLite format 3\x00"


def back_up(data: Path, file: Path) -> dict[str, int]:
    """Write the site in `data` to `file`; bytes by part. StoreError when a part cannot be read or the file not be written, ConfigError for
    a device, pipe or link, which the backup would take the place of."""
    if not data.is_dir():
        raise ConfigError(f"{data}: there is no data folder", cure="give that of a site with --data")
    if file.resolve().is_relative_to(data.resolve()):
        raise ConfigError(f"{file}: is in the data folder itself", cure="give a place outside of it: a backup must not hold itself")
    if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):
        raise ConfigError(f"{file}: is no plain file", cure="give the name of a file: a backup takes the place of what is there")
    sizes: dict[str, int] = {}
    sums: dict[str, str] = {}
    try:
        with (
            tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".backup-") as work,
            os.fdopen(os.open(f"{work}/tar", os.O_RDWR | os.O_CREAT, 0o600), "wb") as out,
            tarfile.open(fileobj=out, mode="w") as archive,
        ):
            for name in _parts(data):
                copy = Path(work) / "part"
                try:
                    mode = (data / name).stat().st_mode & 0o777
                    _copy(data / name, copy)
                except (FileNotFoundError, sqlite3.OperationalError):
                    if (data / name).exists():
                        raise
                    continue  # it went before its turn
                sizes[name] = copy.stat().st_size
                sums[name] = _sum(copy)
                archive.add(copy, arcname=name, filter=lambda info, mode=mode: _with_mode(info, mode))
            index = Path(work) / INDEX
            index.write_text(json.dumps({"format": FORMAT, "sha256": sums}))
            archive.add(index, arcname=INDEX)
            archive.close()
            out.flush()
            os.fsync(out.fileno())
            Path(f"{work}/tar").replace(file)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{file}: no backup: {error}", cure="check space and rights of both folders; nothing was changed") from error
    return sizes


def bring_back(file: Path, data: Path) -> dict[str, int]:
    """Make the site in `data`; bytes by part. ConfigError when one is there, BadInputError when the file is not whole.

    All is unpacked and checked in a folder inside `data`, which may be the root of a volume, and then moved up.
    """
    making = data / RESTORING
    if making.exists():
        raise ConfigError(f"{making}: a restore was broken off", cure=f"empty {data} and start again")
    if data.exists() and any(data.iterdir()):
        raise ConfigError(f"{data}: is not empty", cure="move it away, or give another folder with --data")
    try:
        with tarfile.open(file) as archive:
            making.mkdir(parents=True)
            archive.extractall(making, filter="data")
        sizes = _checked(making, file)
        for part in sorted(making.iterdir()):
            part.rename(data / part.name)
        making.rmdir()
    except (tarfile.TarError, EOFError) as error:
        raise BadInputError(
            f"{file}: not a whole backup: {error}", cure="take another one; remove what is left in " + str(making)
        ) from error
    except OSError as error:
        raise StoreError(f"{data}: {error.strerror or error}", cure="check space and rights of the folder") from error
    return sizes


def _checked(folder: Path, file: Path) -> dict[str, int]:
    try:
        index = json.loads((folder / INDEX).read_text())
        sums: dict[str, str] = index["sha256"]
        known = index["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{file}: not a backup of a site", cure="give a file of `paceline backup`") from error
    if not known:
        raise BadInputError(
            f"{file}: of format {index['format']}, this program reads {FORMAT}", cure="restore with the version that made it"
        )
    for name, wanted in sums.items():
        path = folder / name
        if not path.is_file() or _sum(path) != wanted:
            raise BadInputError(f"{file}: {name} is damaged", cure="take another backup")
    (folder / INDEX).unlink()
    return {name: (folder / name).stat().st_size for name in sums}


def _parts(data: Path) -> Iterator[str]:
    """In the order they are copied. What came since the first look goes before those that come last."""
    taken = set[str](_LAST)
    for _ in range(_LOOKS):
        fresh = sorted(_found(data) - taken)
        yield from fresh
        taken.update(fresh)
    yield from (name for name in _LAST if (data / name).exists())


def _found(data: Path) -> set[str]:
    return {path.relative_to(data).as_posix() for path in data.rglob("*") if _belongs(path.relative_to(data)) and path.is_file()}


def _belongs(path: Path) -> bool:
    aside = path.name.startswith("state.db.") and path.name.removeprefix("state.db.").isdecimal()
    return not (
        LEFT_OUT & set(path.parts) or path.name.endswith(_LEFT_ENDINGS) or path.parts[0] == RESTORING or path.name.startswith(".") or aside
    )


def _copy(path: Path, to: Path) -> None:
    to.unlink(missing_ok=True)
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        to.write_bytes(path.read_bytes())
        return
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as source,
        closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE").fetchall()


def _with_mode(info: tarfile.TarInfo, mode: int) -> tarfile.TarInfo:
    info.mode = mode
    info.name = PurePosixPath(info.name).as_posix()
    return info


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
