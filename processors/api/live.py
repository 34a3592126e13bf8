"""The latest state of each tenant, as one body for all its readers and as server-sent events.

A state is taken at most every 250 ms and only while somebody asks. A stream sends the latest one each time its reader is ready, so a slow
reader skips forward and nothing is queued for it; one that takes nothing for 30 s is cut off. A stream ends with its token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from fastapi.responses import Response

from broker.errors import PacelineError
from processors.api.tokens import Role

_log = logging.getLogger(__name__)

SNAPSHOT_EVERY_S: Final = 0.25
STILL_S: Final = 1.0  # when only the clock went on, it is sent so often
HEARTBEAT_S: Final = 5.0
STUCK_S: Final = 30.0
_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class LiveView(Protocol):
    """The read side of the stores."""

    def snapshot(self, tenant: str) -> dict[str, Any]:
        """`processors.api.live_models.LiveState` of a tenant as staff may see it, JSON-ready. Called in a thread."""
        ...


Mask = Callable[[dict[str, Any]], dict[str, Any]]
"""What screens may see of a snapshot."""


class Latest:
    """The newest state of one tenant, shared by all its readers. Of one event loop."""

    def __init__(self, view: LiveView, tenant: str, mask: Mask) -> None:
        self._view = view
        self._tenant = tenant
        self._mask = mask
        self._taking = asyncio.Lock()
        self._roles: set[Role] = set()
        self._bodies: dict[Role, bytes] = {}
        self._events: dict[Role, bytes] = {}
        self._version = 0
        self._said = b""
        self._taken_s = self._changed_s = float("-inf")
        self._news = asyncio.Event()
        self._readers = 0
        self._ticking: asyncio.Task[None] | None = None
        self.closed = False

    async def get(self, role: Role) -> tuple[int, bytes]:
        """(version, JSON): not older than 250 ms."""
        async with self._taking:
            if role not in self._bodies or time.monotonic() - self._taken_s >= SNAPSHOT_EVERY_S:
                self._roles.add(role)
                await self._take()
            return self._version, self._bodies[role]

    async def next(self, role: Role, after: int) -> tuple[int, bytes]:
        """The latest state as an event once it is newer than version `after`; a comment when there is none for 5 s. Needs `reading`."""
        if self._version <= after or role not in self._bodies:
            self._roles.add(role)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
        if self.closed or self._version <= after or role not in self._bodies:
            return after, b": still here\n\n"
        return self._version, self._events[role]

    @contextlib.contextmanager
    def reading(self) -> Any:
        """While in this block, new states are taken for `next`."""
        self._readers += 1
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            self._readers -= 1

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._news.set()

    async def _tick(self) -> None:
        while self._readers and not self.closed:
            before = self._version
            try:
                async with self._taking:
                    if time.monotonic() - self._taken_s >= SNAPSHOT_EVERY_S or not self._roles <= self._bodies.keys():
                        await self._take()
            except PacelineError as error:
                _log.warning("live view of %s: %s", self._tenant, error)
            except Exception:  # one bad state must not end the streams of a hall
                _log.exception("live view of %s", self._tenant)
            if self._version != before:
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(SNAPSHOT_EVERY_S)

    async def _take(self) -> None:
        wanted = set(self._roles)
        said, bodies = await asyncio.to_thread(self._made, wanted)
        now_s = time.monotonic()
        self._taken_s = now_s
        if said != self._said or now_s - self._changed_s >= STILL_S or wanted != self._bodies.keys():
            self._said, self._bodies, self._changed_s = said, bodies, now_s
            self._version += 1
            self._events = {role: b"id: %d\ndata: %b\n\n" % (self._version, body) for role, body in bodies.items()}

    def _made(self, roles: set[Role]) -> tuple[bytes, dict[Role, bytes]]:
        """(What was said but for the time, the body of each role)."""
        state = self._view.snapshot(self._tenant)
        bodies: dict[Role, bytes] = {role: _json(state if role == "staff" else self._mask(state)) for role in roles}
        return _json({**state, "t_us": 0}), bodies


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


class EventStream(Response):
    """The response of a stream. `allowed` is asked again every few seconds; `hang_up` cuts the connection of a stuck reader."""

    def __init__(self, latest: Latest, role: Role, allowed: Callable[[], bool], hang_up: Callable[[Any], None]) -> None:
        super().__init__(media_type="text/event-stream")
        self._latest = latest
        self._role: Role = role
        self._allowed = allowed
        self._hang_up = hang_up

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            with self._latest.reading():
                await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
                if await self._run(send, gone):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    self._hang_up(scope.get("client"))
                    await asyncio.wait({gone}, timeout=1.0)
        finally:
            gone.cancel()

    async def _run(self, send: Any, gone: asyncio.Future[None]) -> bool:
        """Send until an end; False when the reader is stuck."""
        event, version = b"retry: 1000\n\n", 0
        checked_s = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(STUCK_S):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except TimeoutError:
                return False
            if gone.done() or self._latest.closed:
                return True
            version, event = await self._latest.next(self._role, version)
            now_s = time.monotonic()
            if now_s - checked_s >= HEARTBEAT_S:
                checked_s = now_s
                if not self._allowed():
                    return True


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
