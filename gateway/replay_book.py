"""Replay book: under which number and from which instant each unfinished replay with moved times goes, so that a restart goes on with it.

One JSON file, replaced by temp + fsync + rename: written before the first frame of a replay, when the gateway ends in order, and when the
replay is done (its entry goes, a later start is a new recording). A page knows a replay by its settings and the bytes of its file. Frames
taken after the last write are taken again under the same numbers and count once. A damaged book is set aside and begun anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.errors import ConfigError, StoreError
from broker.frames import MAX_U64, Clock
from gateway.settings import FileReplay

log = logging.getLogger(__name__)

NAME: Final = "replays.json"
MAX_PAGES: Final = 256  # replays taken out of the settings unfinished: the oldest are forgotten
_STRICT: Final = ConfigDict(extra="forbid", frozen=True)


class Page(BaseModel):
    """One unfinished replay.

    `replay` and `content` are hashes of its settings and of the bytes of its file; `began_utc_us` is the system time of its start; `utc_us`
    the UTC time of the recording's first instant (None: undated, `clock` UNKNOWN); `samples` of a frame; `frames` taken durably, at least.
    """

    model_config = _STRICT
    replay: str
    content: str
    device: str
    boot: int = Field(ge=0, le=MAX_U64)
    began_utc_us: int
    utc_us: int | None
    clock: Clock
    samples: int = Field(ge=1)
    frames: int = Field(default=0, ge=0)


class _Document(BaseModel):
    model_config = _STRICT
    version: int = Field(default=1, ge=1, le=1)
    pages: tuple[Page, ...] = ()


def key_of(replay: FileReplay) -> str:
    """What a replay is known by: all its settings."""
    return hashlib.sha256(replay.model_dump_json().encode()).hexdigest()[:32]


def read_pages(directory: Path) -> tuple[Page, ...]:
    """The unfinished replays of a data directory, oldest first. ConfigError names the file when it cannot be read as one."""
    path = directory / NAME
    try:
        return _Document.model_validate_json(path.read_bytes()).pages
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="make it readable for this user") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {error.errors()[0]['msg']}", cure="remove it: unfinished replays then begin anew") from error


class ReplayBook:
    """The book of one data directory (which is locked)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = asyncio.Lock()
        self._pages: dict[tuple[str, str], Page] = {}
        try:
            self._pages = {(page.replay, page.content): page for page in read_pages(directory)}
        except ConfigError as error:
            log.error("%s: set aside, unfinished replays begin anew", error.message)  # noqa: TRY400 - the message says it all
            _set_aside(directory / NAME)

    def begun(self, replay: FileReplay) -> bool:
        """Whether any page is of this replay: then it does not wait for its start again."""
        return any(key == key_of(replay) for key, _ in self._pages)

    def find(self, replay: FileReplay, content: str) -> Page | None:
        """The page of this replay of a file with this hash."""
        return self._pages.get((key_of(replay), content))

    async def put(self, page: Page) -> None:
        """Keep `page` durably, in place of an older one of the same replay. StoreError when it cannot be written."""
        async with self._lock:
            kept = {key: old for key, old in self._pages.items() if old.replay != page.replay}
            kept[page.replay, page.content] = page
            for key in list(kept)[:-MAX_PAGES]:
                log.warning("an unfinished replay of %s is forgotten: more than %d are", kept.pop(key).device, MAX_PAGES)
            await self._keep(kept)

    async def finish(self, page: Page) -> None:
        """Forget the page durably: the replay is done. StoreError when that cannot be written."""
        async with self._lock:
            await self._keep({key: old for key, old in self._pages.items() if key != (page.replay, page.content)})

    async def _keep(self, pages: dict[tuple[str, str], Page]) -> None:
        await asyncio.to_thread(_write, self._directory / NAME, _Document(pages=tuple(pages.values())))
        self._pages = pages


def _write(path: Path, document: _Document) -> None:
    temporary = path.with_name(f".{NAME}.new")
    try:
        with temporary.open("wb") as file:
            file.write(document.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="free space, or make the data_dir writable") from error


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(f"{NAME}.damaged"))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="make the data_dir writable for this user") from error
