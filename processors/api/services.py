"""What the routes work with, and how a route gets at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from broker.nodeconfig import NodeState
from broker.view_part import WHOLE, ViewPart
from processors.api.access import Guard, Viewer, is_loopback
from processors.api.board_reads import BoardReads
from processors.api.live import Latest, LiveView
from processors.api.problems import RefusedError
from processors.api.tokens import Access
from processors.equipment import EquipmentDesk
from processors.reads import Reads
from processors.reference_writer import ReferenceWriter
from processors.snapshot import for_screens
from processors.uploads import Uploads
from processors.wall import wall_us

MAX_TENANTS: Final = 1_000  # with a live view at once


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Where to listen, whose data the site's own token shows, that token, the file of the other tokens, the time zone of "today", and of
    which tenants the state file is."""

    tenant: str
    host: str = "127.0.0.1"
    port: int = 8800
    token: str = ""
    token_file: Path | None = None
    zone: str = "UTC"
    part: ViewPart = WHOLE

    @property
    def url(self) -> str:
        """The address of the page; carries the token when a reader needs it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + ("" if is_loopback(self.host) else f"?token={self.token}")

    @property
    def screen_url(self) -> str:
        """The page as everybody may see it, without names that are not to be shown; empty when a screen needs a token of its own."""
        return f"{self.url}?as=screen" if is_loopback(self.host) else ""


@dataclass(slots=True)
class Services:
    """What an API serves. Without `writer` or `uploads` it only reads, without `desk` it commands no equipment."""

    view: LiveView
    reads: Reads
    writer: ReferenceWriter | None = None
    uploads: Uploads | None = None
    nodes: Callable[[], dict[tuple[str, str], NodeState]] = field(default_factory=lambda: dict)
    clock_us: Callable[[], int] = wall_us
    desk: EquipmentDesk | None = None


class Feeds:
    """The live view of each tenant somebody asked for."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._latest: dict[str, Latest] = {}
        self.hang_up: Callable[[Any], None] = lambda _client: None

    def of(self, tenant: str) -> Latest:
        """RefusedError (503) when too many tenants are shown at once."""
        found = self._latest.get(tenant)
        if found is None:
            if len(self._latest) >= MAX_TENANTS:
                raise RefusedError(503, "too many tenants are shown here", "ask again later")
            directory = self._services.reads.directory
            found = self._latest[tenant] = Latest(self._services.view, tenant, lambda state: for_screens(state, directory.of(tenant)))
        return found

    def close(self) -> None:
        for latest in self._latest.values():
            latest.close()


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything behind a request."""

    options: ApiOptions
    services: Services
    guard: Guard
    feeds: Feeds
    boards: BoardReads

    @property
    def reads(self) -> Reads:
        return self.services.reads


async def parts_of(request: Request) -> Parts:
    """The parts of the application that got this request."""
    return request.app.state.parts


PartsOf = Annotated[Parts, Depends(parts_of)]


async def reading(request: Request, parts: PartsOf) -> Access:
    """Whoever may read."""
    return parts.guard.access(request.scope)


async def viewing(parts: PartsOf, access: Annotated[Access, Depends(reading)]) -> Viewer:
    """Whoever may read, with what is known of their tenant."""
    known = await parts.reads.run(lambda _store: parts.reads.directory.of(access.tenant))
    return Viewer(access, known)


async def staff(viewer: Annotated[Viewer, Depends(viewing)]) -> Viewer:
    """Staff only."""
    if not viewer.staff:
        raise RefusedError(403, "a screen may not do this", "use a token with the role staff")
    return viewer


Reader = Annotated[Access, Depends(reading)]
Viewing = Annotated[Viewer, Depends(viewing)]
Staff = Annotated[Viewer, Depends(staff)]
APPLIED_S: Final = 2.0


def writer_of(parts: Parts) -> ReferenceWriter:
    """RefusedError (503) when this API only reads."""
    if parts.services.writer is None:
        raise RefusedError(503, "this API only reads", "ask the one of the platform (`paceline run`)")
    return parts.services.writer


async def applied(parts: Parts, tenant: str, position: int) -> bool:
    """Whether what stands at a log position shows in the stores, waiting up to two seconds for it."""
    deadline = asyncio.get_running_loop().time() + APPLIED_S
    while asyncio.get_running_loop().time() < deadline:
        if (await parts.reads.run(lambda _store: parts.reads.directory.of(tenant))).version >= position:
            return True
        await asyncio.sleep(0.02)
    return False
