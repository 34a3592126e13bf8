"""One connection to the write API of InfluxDB, and what its answers mean. Of the API only what 1.8, 2.x and 3 Core share: /api/v2/write.

A request holds whole lines, compressed, and may go again at any time: the same lines overwrite themselves. What an answer means is pure
(`judge`); a connection that breaks, an answer that is cut off or takes too long is a `LinkError`.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final
from urllib.parse import urlencode, urlsplit

from broker.errors import BadInputError, LinkError
from broker.influx import InfluxSettings

MOST_ANSWER: Final = 256 * 1024
MOST_WAIT_S: Final = 600.0
_CLOSE_S: Final = 5.0


class Meaning(Enum):
    """What to do after an answer."""

    DONE = auto()
    AGAIN = auto()  # the same, later
    SPLIT = auto()  # too large: in halves
    BAD = auto()  # some of its lines are wrong
    EXPIRED = auto()  # all that was left out is older than the bucket keeps
    STOPPED = auto()  # nothing of ours can be written until somebody helps


@dataclass(frozen=True, slots=True)
class Verdict:
    """A meaning; how long the server wants to be left alone (None: it does not say); what it said, or what helps."""

    meaning: Meaning
    wait_s: float | None = None
    said: str = ""
    cure: str = ""


def judge(status: int, said: str, retry_after: str | None, now_s: float) -> Verdict:
    """What an answer to a write means."""
    if status in (200, 204):
        return Verdict(Meaning.DONE)
    if status in (429, 503):
        return Verdict(Meaning.AGAIN, _seconds(retry_after, now_s), said)
    if status >= 500 or status in (408, 425):
        return Verdict(Meaning.AGAIN, None, said)
    if status == 413:
        return Verdict(Meaning.SPLIT, None, said)
    if status in (400, 422):
        old = "beyond retention" in said or "outside retention policy" in said  # in the words of 1.8, of 2.7
        expired = old and "unable to parse" not in said and "conflict" not in said
        return Verdict(Meaning.EXPIRED if expired else Meaning.BAD, None, said)
    return Verdict(Meaning.STOPPED, None, said, _CURES.get(status, "check influx.url: this does not look like InfluxDB"))


_CURES: Final = {
    401: "the token is wrong: `paceline influx setup` makes one, or set influx.token (PACELINE_INFLUX__TOKEN)",
    403: "the token may not write this bucket: `paceline influx setup` makes one that may",
    404: "there is no such bucket or organisation: `paceline influx setup` makes the buckets; check influx.org and influx.bucket",
}


def _seconds(retry_after: str | None, now_s: float) -> float | None:
    """Retry-After in seconds: a number or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MOST_WAIT_S)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now_s, 0.0), MOST_WAIT_S)
    except ValueError:
        return None


class WriteLink:
    """A connection that is kept. Not safe for several threads at once, but `close` may come from any."""

    def __init__(self, settings: InfluxSettings) -> None:
        """BadInputError when the CA file cannot be read."""
        self._settings = settings
        where = urlsplit(settings.url)
        self._host, self._port = where.hostname or "", where.port or (443 if where.scheme == "https" else 8086)
        self._path = where.path.rstrip("/")
        self._tls = _tls(settings) if where.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False
        self._busy = threading.Lock()
        self.connects = 0

    def write(self, bucket: str, unit: str, body: bytes) -> Verdict:
        """Post compressed lines to one of our buckets. LinkError when no whole answer came."""
        s = self._settings
        query = urlencode({"org": s.org, "bucket": s.named(bucket), "precision": unit})
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8", "Authorization": _token(s)}
        status, said, retry_after = self._post(f"{self._path}/api/v2/write?{query}", body, headers)
        return judge(status, said, retry_after, time.time())

    def close(self) -> None:
        """Break the connection for good, also under a request that waits."""
        self._closed = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        if self._busy.acquire(timeout=_CLOSE_S):  # a request under way ends now, and closes what it used
            self._drop()
            self._busy.release()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, str | None]:
        with self._busy:
            return self._posted(path, body, headers)

    def _posted(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, str | None]:
        fresh = self._connection is None
        try:
            return self._asked(path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if fresh or self._closed or isinstance(error, TimeoutError):
                raise self._broken(error) from error
        try:  # the server may have ended a connection that was idle
            return self._asked(path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise self._broken(error) from error

    def _asked(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, str | None]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        connection.request("POST", path, body, dict(headers))
        with connection.getresponse() as answer:
            raw = answer.read(MOST_ANSWER)
            if answer.length:  # cut off, or longer than any answer of InfluxDB: what it means is not known
                raise http.client.IncompleteRead(raw, answer.length)
            return answer.status, _said(raw), answer.getheader("Retry-After")

    def _connect(self) -> http.client.HTTPConnection:
        self.connects += 1
        timeout_s = self._settings.timeout_s
        if self._tls is None:
            made = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        else:
            made = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)
        made.connect()
        made.auto_open = 0  # a connection that was closed meanwhile is an error and not a new one
        return made

    def _broken(self, error: Exception) -> LinkError:
        return LinkError(
            f"InfluxDB at {self._settings.url}: {type(error).__name__}: {error}",
            cure="start it, or check influx.url; lines wait on disk meanwhile",
        )


def _token(settings: InfluxSettings) -> str:
    return f"Token {settings.token.get_secret_value()}"


def _tls(settings: InfluxSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.cafile or None)
    except OSError as error:
        raise BadInputError(f"influx.cafile {settings.cafile}: {error}", cure="name the certificate of your authority") from error


def _said(raw: bytes) -> str:
    """The message of an answer: of its JSON, else its text."""
    text = raw.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        return text[:2000]
    if isinstance(found, dict):
        return str(found.get("message") or found.get("error") or text)[:2000]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return text[:2000]
