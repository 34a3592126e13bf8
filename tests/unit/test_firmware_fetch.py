"""Images over HTTP: resumed where the line was cut, from our own server and from one without ranges, believed only when they are what was signed."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.esp32 import Chip, Esp32
from fakes.flash import Nor
from hypothesis import given
from hypothesis import strategies as st
from kit import fetch as fetches
from kit import taking as takings
from kit import updater as updaters
from kit.fetch import Answer, HttpError, fetch, place_of, request
from kit.slots import NONE, Slots
from kit.updater import Updater

from paceline.device.manifest import Release, sign
from paceline.device.offer import Offer, server_of

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
HARDWARE = "esp32-strap_bridge"
NOW_S = 1_800_000_000
PARTS = ((1, 0x40, 0, 3, "boot"), (1, 0x41, 3, 8, "app_a"), (1, 0x41, 11, 8, "app_b"))


def image_of(version: int) -> bytes:
    return random.Random(version).randbytes(20_000 + version)


def offer_of(version: int, image: bytes | None = None, key: Ed25519PrivateKey = KEY) -> Offer:
    release = Release("application", version, 0, NOW_S + 1000, HARDWARE)
    return Offer(release, sign(release, image_of(version), key), image_of(version) if image is None else image)


class Notes:
    """The log of a device."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.info = self.warning = self.lines.append


class Device:
    def __init__(self, url: str, running: int = 0) -> None:
        self.nor = Nor(19)
        self.esp32 = Esp32(Chip(self.nor, PARTS))
        self.resets = 0
        self.notes = Notes()
        self.start(url, running)

    def start(self, url: str, running: int = 0) -> int | None:
        self.slots = Slots(self.esp32.Partition("boot"))
        chosen = self.slots.choose()
        self.updater = Updater(
            url,
            {1: self.slots},
            {1: lambda n: self.esp32.Partition(("app_a", "app_b")[n])},
            [KEY.public_key().public_bytes_raw()],
            HARDWARE,
            lambda: NOW_S * 1_000_000,
            running,
            self._reset,
            self.notes,
        )
        return chosen

    def _reset(self) -> None:
        self.resets += 1

    def content(self, slot: int, size: int) -> bytes:
        return bytes(self.nor.image[(3 + 8 * slot) * 4096 :][:size])


@asynccontextmanager
async def offering(*offers: Offer) -> AsyncIterator[str]:
    server = server_of(offers, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


async def test_newer_version_is_fetched_and_confirmed_by_the_first_ack() -> None:
    async with offering(offer_of(5)) as url:
        device = Device(url, running=4)
        assert await device.updater.ask()
        assert device.start(url, 4) == 0
        assert device.content(0, 20_005) == image_of(5)
        assert device.updater.on_trial
        device.updater.acknowledged()
        assert (device.slots.version, device.slots.trial) == (5, NONE)
        assert not await device.updater.ask()
        assert device.updater.last == "older"


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (offer_of(5, key=Ed25519PrivateKey.from_private_bytes(b"x" * 32)), "bad_signature"),
        (offer_of(3), "older"),
        (offer_of(5, image=image_of(5)[:-1] + b"?"), "the image is not the one that was signed"),
    ],
)
async def test_what_is_not_right_is_not_taken_and_said(offer: Offer, why: str) -> None:
    async with offering(offer) as url:
        device = Device(url, running=4)
        assert not await device.updater.ask()
        assert device.updater.last == why
        assert device.slots.trial == NONE


async def test_no_answer_fills_the_memory_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    async def endless(host: str, port: int, path: str, take: Callable[[bytes], None]) -> None:
        for _ in range(1000):
            take(b"P" * 1024)

    def judge(raw: bytearray, *_: object) -> tuple[None, str]:
        kept.append(len(raw))
        return None, "bad_manifest"

    monkeypatch.setattr(takings, "fetch", endless)
    monkeypatch.setattr(takings.manifests, "judge", judge)
    assert not await Device("http://127.0.0.1").updater.ask()
    assert kept == [157]  # one byte more than a manifest, which is enough to refuse it


async def test_truncated_image_never_gets_on_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updaters.asyncio, "sleep", _no_wait)
    async with offering(offer_of(5, image=image_of(5)[:-50])) as url:
        device = Device(url, running=4)
        with pytest.raises(HttpError, match="416"):
            await device.updater.ask()
        assert device.slots.trial == NONE


async def test_device_without_an_offer_says_so_and_goes_on() -> None:
    async with offering() as url:
        device = Device(url)
        with pytest.raises(HttpError, match="404"):
            await device.updater.ask()


Sleep = asyncio.sleep


async def _no_wait(seconds: float) -> None:
    await Sleep(0)


@asynccontextmanager
async def cutting(answer: Callable[[bytes], bytes]) -> AsyncIterator[tuple[str, int]]:
    """A server that answers a request with these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(asked))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "127.0.0.1", server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_download_that_is_cut_again_and_again_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updaters.asyncio, "sleep", _no_wait)
    offer, asked_for = offer_of(5), []

    def answer(asked: bytes) -> bytes:
        if b".manifest" in asked:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 156\r\n\r\n" + offer.manifest
        first = int(asked.partition(b"bytes=")[2].partition(b"-")[0] or 0)
        asked_for.append(first)
        body = offer.image[first:]
        head = b"HTTP/1.1 206 P\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
        return head % (first, len(offer.image) - 1, len(offer.image), len(body)) + body[:6000]

    async with cutting(answer) as (host, port):
        device = Device(f"http://{host}:{port}", running=4)
        assert await device.updater.ask()
        assert asked_for == [0, 6000, 12000, 18000]
        assert device.slots.trial_version == 5


async def test_download_that_drips_ends_at_its_limit_and_goes_on_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gives a piece whenever patience would end holds no device for ever: the whole has a limit, and what came counts."""
    offer = offer_of(5)
    dripped = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b".manifest" in asked:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 156\r\n\r\n" + offer.manifest)
        elif dripped.is_set():
            first = int(asked.partition(b"bytes=")[2].partition(b"-")[0])
            assert first >= 8192
            body = offer.image[first:]
            head = b"HTTP/1.1 206 P\r\nContent-Range: bytes %d-\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (first, len(body)) + body)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(offer.image) + offer.image[:8192])
            while device.slots.trial == NONE and not dripped.is_set():
                await Sleep(0.01)
                if device.updater.last:
                    dripped.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    device = Device(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", running=4)
    monkeypatch.setattr(updaters, "FIRST_S", 0)
    monkeypatch.setattr(updaters, "AGAIN_S", 0.05)
    monkeypatch.setattr(updaters, "DOWNLOAD_S", 1)
    await asyncio.wait_for(device.updater.run(), 60)
    server.close()
    await server.wait_closed()
    assert any("not whole after 1 s" in line for line in device.notes.lines)
    assert (device.slots.trial_version, device.resets) == (5, 1)


async def test_server_without_ranges_is_passed_over() -> None:
    body = bytes(range(256)) * 20
    async with cutting(lambda asked: b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body) as (host, port):
        got = bytearray()
        await fetch(host, port, "/x", got.extend, offset=1000)
        assert bytes(got) == body[1000:]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"SSH-2.0\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 404 N\r\n\r\n", "404"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/9\r\n\r\n", "another part"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2000, "does not end"),
    ],
)
def test_answers_that_cannot_be_used_are_refused(raw: bytes, why: str) -> None:
    with pytest.raises(HttpError, match=why):
        Answer(offset=7).feed(raw)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_answer_hangs_or_breaks(raw: bytes, piece: int) -> None:
    answer = Answer()
    try:
        for at in range(0, len(raw), piece):
            answer.feed(raw[at : at + piece])
    except HttpError:
        pass


@given(st.binary(max_size=500), st.integers(1, 600), st.integers(0, 100))
def test_body_is_the_same_however_it_is_cut(body: bytes, piece: int, more: int) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body + bytes(more)
    answer, got = Answer(), b""
    for at in range(0, len(raw), piece):
        if not answer.done:
            got += bytes(answer.feed(raw[at : at + piece]))
    assert got == body
    assert answer.done


def test_places_are_read_or_refused() -> None:
    assert place_of("http://10.0.0.5:8870/") == ("10.0.0.5", 8870, "")
    assert place_of("http://host/firmware/x") == ("host", 80, "/firmware/x")
    for bad in ("https://host", "host:80", "http://", "http://host:x"):
        with pytest.raises(ValueError, match="update_url"):
            place_of(bad)
    assert b"Range: bytes=9-" in request("h", "/p", 9)
    assert b"Range" not in request("h", "/p", 0)


async def test_image_on_trial_that_nobody_acknowledges_gives_itself_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updaters.asyncio, "sleep", _no_wait)
    async with offering(offer_of(5)) as url:
        device = Device(url, running=4)
        assert await device.updater.ask()
        assert device.start(url, 4) == 0
        await device.updater.run()
        assert device.resets == 1
        assert device.start(url, 4) is None
        assert device.slots.failed_version == 5
    assert hashlib.sha256(device.content(0, 20_005)).digest() == hashlib.sha256(image_of(5)).digest()


async def test_server_that_says_nothing_is_named_and_is_no_download_that_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "SILENT_S", 0.2)
    held: list[asyncio.StreamWriter] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        with pytest.raises(HttpError, match="says nothing"):
            await Device(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", running=4).updater.ask()
    finally:
        server.close()
        for writer in held:
            writer.close()
