"""The files of the live page and how they are sent: every file of `processors/page`, read once, under its own name.

The policy of the page lets it ask its own server only: it works without any other host.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import PurePath
from typing import Final

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """(bytes, media type) by the path below `/`; `index.html` also as the empty path."""
    found: dict[str, tuple[bytes, str]] = {}
    for item in (resources.files("processors") / "page").iterdir():
        kind = _KINDS.get(PurePath(item.name).suffix)
        if kind is not None:
            found[item.name] = (item.read_bytes(), kind)
    found[""] = found["index.html"]
    return found
