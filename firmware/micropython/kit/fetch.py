"""A file over HTTP from some byte on, without blocking and without holding it: HTTP/1.1, `Range`, answers with a `Content-Length`.

A server that knows no ranges sends all of it: what was there already is passed over. Nothing of the answer is trusted; what is fetched is
checked by signature and hash.
"""

import asyncio

from kit.stream import open_stream

MAX_HEAD = 1024
SILENT_S = 20


class HttpError(OSError):
    """The answer is none that can be used; `status` is its number, 0 if it is no HTTP."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


class Answer:
    """`feed(data)` gives the part of the body in these bytes that is wanted, b"" while there is none; `done` once the body is whole."""

    def __init__(self, offset=0):
        self.status = 0
        self.left = -1  # bytes of the body to come
        self.done = False
        self._offset = offset
        self._skip = 0
        self._head = b""

    def feed(self, data):
        """HttpError for what is no usable answer."""
        if self.left < 0:
            self._head += bytes(data)
            at = self._head.find(b"\r\n\r\n")
            if at < 0:
                if len(self._head) > MAX_HEAD:
                    raise HttpError(0, "the head of the answer does not end")
                return b""
            self._read(self._head[:at])
            data = memoryview(self._head)[at + 4 :]
            self._head = b""
        data = data[: self.left]
        self.left -= len(data)
        self.done = self.left == 0
        passed = min(self._skip, len(data))
        self._skip -= passed
        return data[passed:]

    def _read(self, head):
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ")
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not _is_number(words[1]):
            raise HttpError(0, "no HTTP")
        self.status = int(words[1])
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[bytes(name).lower()] = bytes(value).strip()
        if self.status not in (200, 206):
            raise HttpError(self.status, "the server answers %d" % self.status)
        length = fields.get(b"content-length", b"")
        if not _is_number(length):
            raise HttpError(self.status, "the answer has no Content-Length")
        if self.status == 206:
            if not fields.get(b"content-range", b"").startswith(b"bytes %d-" % self._offset):
                raise HttpError(206, "another part than was asked for")
        else:
            self._skip = self._offset
        self.left = int(length)


def request(host, path, offset):
    """The bytes of the question."""
    part = "Range: bytes=%d-\r\n" % offset if offset else ""
    return ("GET %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n" % (path, host, part)).encode()


def place_of(url):
    """(host, port, path) of `http://host[:port][/path]`, the path without a slash at its end. ValueError for anything else."""
    scheme, mark, rest = url.partition("://")
    if scheme != "http" or not mark:
        raise ValueError("update_url %s: give http://host:port" % url)
    where, _, path = rest.partition("/")
    host, _, port = where.partition(":")
    if not host or (port and not _is_number(port.encode())):
        raise ValueError("update_url %s: give http://host:port" % url)
    return host, int(port or 80), "/" + path.strip("/") if path.strip("/") else ""


async def fetch(host, port, path, take, offset=0, buffer_bytes=1024):
    """Give `take(view)` all bytes of the file from `offset` on, in order. OSError (HttpError one of them) or EOFError when it ends early: go on
    from there.
    """
    try:
        await _fetch(host, port, path, take, offset, buffer_bytes)
    except asyncio.TimeoutError:
        raise HttpError(0, "%s:%d says nothing" % (host, port)) from None


async def _fetch(host, port, path, take, offset, buffer_bytes):
    stream = await open_stream(host, port)
    try:
        question = memoryview(request(host, path, offset))
        while len(question):
            count = stream.write(question)
            question = question[count:]
            if not count:
                await asyncio.wait_for(stream.writable(), SILENT_S)
        answer = Answer(offset)
        view = memoryview(bytearray(buffer_bytes))
        while not answer.done:
            count = stream.read(view)
            if count:
                part = answer.feed(view[:count])
                if len(part):
                    take(part)
                await asyncio.sleep(0)
            else:
                await asyncio.wait_for(stream.readable(), SILENT_S)
    finally:
        stream.close()


def _is_number(text):
    return 0 < len(text) <= 10 and all([48 <= digit <= 57 for digit in text])
