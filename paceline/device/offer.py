"""Signed images for devices over HTTP: `/HARDWARE.manifest` is the newest of a hardware, `/HARDWARE-VERSION.image` its bytes, with ranges.

What is offered is read and checked once, at the start. Nothing secret is served, and nothing must be kept from changing on the way: devices
check the signature and the hash. Any web server that knows ranges can serve the same files.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from broker.errors import BadInputError, ConfigError
from paceline.device.manifest import Release, read

log = logging.getLogger(__name__)
_RANGE: Final = re.compile(r"bytes=(\d{1,10})-(\d{1,10})?")
_SILENT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One release with its bytes."""

    release: Release
    manifest: bytes
    image: bytes

    @property
    def image_path(self) -> str:
        return f"/{self.release.hardware}-{self.release.version}.image"


def load_offer(manifest: Path) -> Offer:
    """The manifest of a file and the image beside it (same name, `.romfs` or `.bin`). BadInputError when they do not belong together."""
    try:
        raw = manifest.read_bytes()
    except OSError as error:
        raise BadInputError(f"{manifest}: {error.strerror}", cure="give the file that `paceline firmware sign` wrote") from error
    release, size, digest = read(raw)
    for suffix in (".romfs", ".bin"):
        path = manifest.with_suffix(suffix)
        if path.exists() and len(image := path.read_bytes()) == size and hashlib.sha256(image).digest() == digest:
            return Offer(release, raw, image)
    raise BadInputError(f"{manifest}: no image beside it is the one that was signed", cure="keep both together, or sign the image again")


def by_path(offers: Sequence[Offer]) -> dict[str, bytes]:
    """What each path serves. Of one hardware the newest manifest counts; older images can still be finished."""
    served: dict[str, bytes] = {}
    for offer in sorted(offers, key=lambda one: one.release.version):
        served[f"/{offer.release.hardware}.manifest"] = offer.manifest
        if served.setdefault(offer.image_path, offer.image) != offer.image:
            raise ConfigError(
                f"{offer.release.hardware}: two images of version {offer.release.version}", cure="give the newer one a version of its own"
            )
    return served


def part_of(body: bytes, header: str | None) -> tuple[HTTPStatus, int, int]:
    """(status, first, after the last) of the bytes a `Range` header asks for. What cannot be read is ignored, as RFC 9110 has it."""
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return HTTPStatus.OK, 0, len(body)
    first, last = int(found[1]), min(int(found[2] or len(body)), len(body) - 1)
    if first > last:
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
    return HTTPStatus.PARTIAL_CONTENT, first, last + 1


def server_of(offers: Sequence[Offer], host: str, port: int) -> ThreadingHTTPServer:
    """A server on `host`:`port` (0: any free one), not yet running. ConfigError when the port is taken."""
    served = by_path(offers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _SILENT_S

        def do_GET(self) -> None:
            body = served.get(self.path)
            if body is None:
                self.send_error(HTTPStatus.NOT_FOUND, "nothing is offered here")
                return
            status, first, end = part_of(body, self.headers.get("Range"))
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(end - first))
            self.send_header("Accept-Ranges", "bytes")
            if status is HTTPStatus.PARTIAL_CONTENT:
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(body)}")
            elif status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            self.wfile.write(body[first:end])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            log.info("%s: %s", self.address_string(), format % args)

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: {error.strerror}", cure="give another address with --host or --port") from error
