"""Reads the live snapshot of a running platform over its own HTTP API."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request
from typing import Any, cast

from paceline.site import Site

_TIMEOUT_S = 5.0


async def fetch_live(site: Site) -> dict[str, Any] | None:
    """The latest snapshot; None while the platform does not answer (it may be starting again)."""
    return await asyncio.to_thread(_fetch, site, "/api/live")


async def fetch_board(site: Site, segment: str, lines: int) -> dict[str, Any] | None:
    """The first lines of a segment's board; None while the platform does not answer."""
    return await asyncio.to_thread(_fetch, site, f"/api/v1/segments/{segment}/board?limit={lines}")


def _fetch(site: Site, path: str) -> dict[str, Any] | None:
    api = site.settings.api
    request = urllib.request.Request(
        f"http://{api.host}:{api.port}{path}", headers={"Authorization": f"Bearer {api.token.get_secret_value()}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - as above
            return cast("dict[str, Any]", json.load(response))
    except (OSError, ValueError, http.client.HTTPException):  # it may end in the middle of an answer
        return None
