"""Images signed and offered on the host are those the kit takes: one manifest, two readers; ranges as devices ask for them; ROMFS by two writers."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from kit import manifest as manifests
from mpremote.romfs import VfsRomWriter

from broker.errors import BadInputError, ConfigError
from paceline.cli import cli
from paceline.device.manifest import CONTEXT, SIZE, Release, make_key, read, read_key, sign
from paceline.device.offer import Offer, by_path, load_offer, part_of, server_of
from paceline.device.romfs import romfs

HARDWARE = "esp32-strap_bridge"
IMAGE = bytes(range(256)) * 40


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    make_key(tmp_path / "updates.pem")
    return tmp_path / "updates.pem"


def release(version: int = 3, **change: object) -> Release:
    return Release(**{"kind": "application", "version": version, "minimum": 0, "expires_s": 2_000_000_000, "hardware": HARDWARE, **change})


def test_what_the_host_signs_a_device_takes(key_file: Path) -> None:
    key = read_key(key_file)
    raw = sign(release(minimum=2), IMAGE, key)
    assert len(raw) == SIZE == manifests.SIZE
    assert CONTEXT == manifests.CONTEXT
    keys = [key.public_key().public_bytes_raw()]
    manifest, why = manifests.judge(raw, keys, HARDWARE.encode(), 2, 0, {1: len(IMAGE)}, 1_999_999_999)
    assert not why
    assert (manifest.version, manifest.minimum, manifest.size, manifest.hardware) == (3, 2, len(IMAGE), HARDWARE.encode())
    assert read(raw)[0] == release(minimum=2)


@given(
    st.sampled_from(["application", "firmware"]),
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**40),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True),
    st.binary(min_size=1, max_size=50),
)
def test_both_readers_read_the_same(kind: str, version: int, expires_s: int, hardware: str, image: bytes) -> None:
    from paceline.device.manifest import encode

    told = Release(kind, version, version // 2, expires_s, hardware)  # pyright: ignore[reportArgumentType]
    raw = encode(told, image) + bytes(64)
    there, (here, size, digest) = manifests.read(raw), read(raw)
    assert here == told
    assert (there.version, there.minimum, there.expires_s, there.size, there.sha256) == (version, version // 2, expires_s, size, digest)
    assert there.hardware == hardware.encode()
    assert raw[:92] == manifests.unsigned(there.kind, version, version // 2, size, expires_s, hardware.encode().ljust(32, b"\0"), digest)


@pytest.mark.parametrize(
    ("change", "names"),
    [({"version": 0}, "version 0"), ({"minimum": 4}, "minimum 4"), ({"hardware": "No Id"}, "hardware"), ({"hardware": ""}, "hardware")],
)
def test_release_that_no_device_would_take_is_refused(change: dict[str, object], names: str) -> None:
    with pytest.raises(BadInputError, match=names):
        release(**change)


@given(st.binary(max_size=200))
def test_no_bytes_are_read_as_a_manifest_by_accident(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        read(raw)


def test_key_is_made_once_and_read_by_nobody_else(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="is there already"):
        make_key(key_file)
    other = key_file.with_name("other.pem")
    other.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"other\.pem"):
        read_key(other)
    with pytest.raises(ConfigError, match=r"none\.pem"):
        read_key(key_file.with_name("none.pem"))


def paceline(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["firmware", *map(str, args)])
    return done.exit_code, done.output


def test_commands_sign_what_offer_serves(tmp_path: Path) -> None:
    image = tmp_path / f"{HARDWARE}.romfs"
    image.write_bytes(IMAGE)
    code, said = paceline("key", tmp_path / "k.pem", "--json")
    assert code == 0
    code, told = paceline("sign", image, "--key", tmp_path / "k.pem", "--version", 7, "--minimum", 3, "--json")
    assert code == 0, told
    told = json.loads(told)
    assert (told["hardware"], told["version"], told["minimum"]) == (HARDWARE, 7, 3)
    assert told["expires_s"] > time.time()
    offer = load_offer(Path(told["manifest"]))
    assert offer.image == IMAGE
    public = bytes.fromhex(json.loads(said)["public_key"])
    _, why = manifests.judge(offer.manifest, [public], HARDWARE.encode(), 5, 0, {1: 20000}, int(time.time()))
    assert not why
    image.write_bytes(IMAGE[:-1])
    with pytest.raises(BadInputError, match="no image beside it"):
        load_offer(Path(told["manifest"]))


def test_sign_without_a_key_is_wrong_usage(tmp_path: Path) -> None:
    image = tmp_path / "x.romfs"
    image.write_bytes(IMAGE)
    command = [sys.executable, "-m", "paceline", "firmware", "sign", str(image), "--key", str(tmp_path / "none.pem"), "--version", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "none.pem" in done.stderr
    assert "cure:" in done.stderr


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, (200, 0, 100)),
        ("bytes=0-", (206, 0, 100)),
        ("bytes=40-", (206, 40, 100)),
        ("bytes=40-49", (206, 40, 50)),
        ("bytes=99-200", (206, 99, 100)),
        ("bytes=100-", (416, 0, 0)),
        ("bytes=9-3", (416, 0, 0)),
        ("bytes=-5", (200, 0, 100)),
        ("bytes=1-2,4-5", (200, 0, 100)),
        ("rows=1-2", (200, 0, 100)),
    ],
)
def test_ranges_are_those_of_the_standard(header: str | None, wanted: tuple[int, int, int]) -> None:
    status, first, end = part_of(bytes(100), header)
    assert (status, first, end) == (HTTPStatus(wanted[0]), *wanted[1:])


@contextmanager
def serving(*offers: Offer) -> Iterator[tuple[str, int]]:
    server = server_of(offers, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield "127.0.0.1", server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def test_newest_manifest_is_served_and_images_in_parts(key_file: Path) -> None:
    key = read_key(key_file)
    offers = [Offer(release(version), sign(release(version), IMAGE[version:], key), IMAGE[version:]) for version in (4, 3)]
    with serving(*offers) as (host, port):
        link = http.client.HTTPConnection(host, port, timeout=60)

        def get(path: str, **headers: str) -> tuple[int, bytes]:
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            return answer.status, answer.read()

        assert get(f"/{HARDWARE}.manifest") == (200, offers[0].manifest)
        assert get(f"/{HARDWARE}-3.image") == (200, IMAGE[3:])
        assert get(f"/{HARDWARE}-4.image", Range="bytes=1000-1999") == (206, IMAGE[1004:2004])
        assert get(f"/{HARDWARE}-4.image", Range=f"bytes={len(IMAGE)}-")[0] == 416
        assert get("/other.manifest")[0] == 404
        assert get("/../etc/passwd")[0] == 404
        link.close()


def test_two_images_of_one_version_are_not_offered() -> None:
    with pytest.raises(ConfigError, match="two images of version 3"):
        by_path([Offer(release(), b"", IMAGE), Offer(release(), b"", IMAGE[1:])])


NAMES = st.from_regex(r"[a-z_]{1,9}(\.mpy)?", fullmatch=True)


@given(
    st.dictionaries(
        NAMES, st.one_of(st.binary(max_size=300), st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=4)), max_size=6
    )
)
def test_images_are_those_of_the_tool_of_micropython(tree: dict[str, bytes | dict[str, bytes]]) -> None:
    theirs = VfsRomWriter()
    flat: dict[str, bytes] = {}
    for name, content in sorted(tree.items()):
        if isinstance(content, bytes):
            theirs.mkfile(name, content)
            flat[name] = content
        else:
            theirs.opendir(name)
            for inner, data in sorted(content.items()):
                theirs.mkfile(inner, data)
                flat[f"{name}/{inner}"] = data
            theirs.closedir()
    assert romfs(flat) == bytes(theirs.finalise())


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/./b", "ä"])
def test_paths_that_no_image_can_hold_are_refused(path: str) -> None:
    with pytest.raises(BadInputError):
        romfs({path: b""})
