"""The Debian package writer: what dpkg's format says, the same bytes for the same input, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile

import pytest

from paceline.deb import Entry, deb_of, installed_kib

FILES = [
    Entry("/usr/lib/x/b.py", b"b = 1\n"),
    Entry("/usr/bin/x", b"#!/bin/sh\n", 0o755),
    Entry("/etc/x.toml", b""),
    Entry("/usr/lib/x.link", link="/run/x"),
]


def members(deb: bytes) -> dict[str, bytes]:
    """The parts of an ar, by the format's own description."""
    assert deb[:8] == b"!<arch>\n"
    found: dict[str, bytes] = {}
    place = 8
    while place < len(deb):
        head = deb[place : place + 60]
        assert head[58:] == b"`\n"
        size = int(head[48:58])
        found[head[:16].decode().strip()] = deb[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    return found


def tar_of(raw: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(raw))) as tar:
        return {info.name: info for info in tar}


def made(entries: list[Entry] | None = None, **more: object) -> bytes:
    given = {"control": "Package: x\n", "scripts": {"postinst": b"#!/bin/sh\n"}, "conffiles": ["/etc/x.toml"], **more}
    return deb_of(given["control"], given["scripts"], given["conffiles"], FILES if entries is None else entries, time_s=1_767_225_600)  # type: ignore[arg-type]


def test_members_come_in_the_order_dpkg_wants() -> None:
    assert list(members(made())) == ["debian-binary", "control.tar.xz", "data.tar.xz"]
    assert members(made())["debian-binary"] == b"2.0\n"


def test_data_has_every_folder_before_its_files_and_belongs_to_root() -> None:
    data = tar_of(members(made())["data.tar.xz"])
    names = list(data)
    assert names == sorted(names)
    assert [n for n in names if data[n].isdir()] == [".", "./etc", "./usr", "./usr/bin", "./usr/lib", "./usr/lib/x"]
    assert {(i.uid, i.gid, i.uname, i.gname, i.mtime) for i in data.values()} == {(0, 0, "root", "root", 1_767_225_600)}
    assert (data["./usr/bin/x"].mode, data["./usr/lib/x/b.py"].mode) == (0o755, 0o644)
    assert data["./usr/lib/x.link"].linkname == "/run/x"


def test_control_has_sums_of_all_files_but_settings_and_scripts_can_be_run() -> None:
    raw = members(made())["control.tar.xz"]
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(raw))) as tar:
        sums, conffiles = (tar.extractfile(f"./{name}").read().decode() for name in ("md5sums", "conffiles"))  # type: ignore[union-attr]
        assert tar.getmember("./postinst").mode == 0o755
    assert conffiles == "/etc/x.toml\n"
    assert sums.splitlines() == [
        f"{hashlib.md5(b'#!/bin/sh' + bytes([10])).hexdigest()}  usr/bin/x",
        f"{hashlib.md5(b'b = 1' + bytes([10])).hexdigest()}  usr/lib/x/b.py",
    ]


def test_same_input_in_any_order_gives_the_same_bytes() -> None:
    assert made() == made(list(reversed(FILES)))
    assert made() != made([*FILES, Entry("/usr/lib/y", b"")])


def test_installed_size_counts_started_kilobytes_and_folders() -> None:
    assert installed_kib([Entry("/usr/x", b"a" * 1025), Entry("/usr/y", b"a"), Entry("/usr/z")]) == 4


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"entries": [*FILES, FILES[0]]}, "twice"),
        ({"conffiles": ["/etc/y"]}, "/etc/y"),
        ({"scripts": {"setup": b""}}, "setup"),
    ],
)
def test_what_makes_no_package_is_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**more)  # type: ignore[arg-type]
