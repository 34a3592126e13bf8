"""The package of a box: built twice the same, for both machines; installed, started, upgraded, downgraded, removed and purged by real dpkg."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from gateway.spool import Spool, SpoolRow, SpoolSettings
from tests.debian_packages import ServerUnavailableError
from tests.servers import PROJECT, start_amqtt
from tests.system.box_process import BoxProcess, read
from tests.system.box_tree import Tree, base_python, package
from tests.system.gateway_process import BOX, PLATFORM

MACHINE = {"amd64": 62, "arm64": 183}  # e_machine of ELF
HEAVY = ("numpy", "numba", "scipy", "fastapi", "amqtt", "processors", "simulators")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two versions of the package for this Python."""
    folder = tmp_path_factory.mktemp("packages")
    return package(folder, "1.0.0"), package(folder, "1.1.0")


def unpacked(deb: Path, target: Path) -> Path:
    subprocess.run(["dpkg-deb", "-x", str(deb), str(target)], timeout=240, check=True)
    return target


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_package_is_the_same_twice_and_all_its_machine_code_is_of_its_architecture(tmp_path, arch):
    deb = package(tmp_path, "1.0.0", arch)
    assert deb.read_bytes() == package(tmp_path / "again", "1.0.0", arch).read_bytes()
    assert deb.stat().st_size < 12_000_000
    root = unpacked(deb, tmp_path / "root")
    library = root / "usr/lib/paceline"
    machines = {path.name: struct.unpack_from("<H", path.read_bytes(), 18)[0] for path in library.rglob("*.so")}
    assert len(machines) >= 4
    assert set(machines.values()) == {MACHINE[arch]}
    assert not [name for name in HEAVY if (library / name).exists()]
    fields = subprocess.run(["dpkg-deb", "-f", str(deb)], capture_output=True, text=True, timeout=240, check=True).stdout
    assert f"Architecture: {arch}\n" in fields


def test_units_of_the_service_manager_find_nothing_wrong(tmp_path, packages):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        raise ServerUnavailableError("systemd-analyze is not installed: apt-get install systemd")
    root = unpacked(packages[0], tmp_path)
    unit = root / "lib/systemd/system/paceline-gateway.service"
    unit.write_text(unit.read_text().replace("/usr/bin/paceline", str(root / "usr/bin/paceline")))  # it looks for the program
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=240, check=False)
    assert [line for line in done.stderr.splitlines() if "paceline" in line] == []
    assert done.returncode == 0, done.stderr


async def test_spool_credential_and_settings_outlive_upgrade_downgrade_and_removal_and_end_with_a_purge(tmp_path, packages):
    old, new = packages
    tree = Tree(tmp_path / "root")
    tree.dpkg("-i", str(old))
    assert tree.status() == "install ok installed 1.0.0"
    assert "paceline:" in (tree.root / "etc/passwd").read_text()
    assert (tree.root / "etc/systemd/system/multi-user.target.wants/paceline-gateway.service").is_symlink()
    data, settings = tree.root / "var/lib/paceline", tree.root / "etc/paceline/gateway.toml"
    assert data.stat().st_mode & 0o777 == 0o700

    spool = await Spool.open(data / "spool.db", SpoolSettings())
    await spool.append([SpoolRow(bytes([n]) * 60, "strap") for n in range(100)])
    await spool.close()
    (data / "uplink.json").write_text("{}")
    settings.write_text('data = "/var/lib/paceline"\n# mine\n')
    kept = {path.name: path.read_bytes() for path in data.iterdir()}

    for deb, version in ((new, "1.1.0"), (old, "1.0.0"), (new, "1.1.0")):
        tree.dpkg("-i", str(deb))
        assert tree.status() == f"install ok installed {version}"
        assert {path.name: path.read_bytes() for path in data.iterdir()} == kept
        assert "# mine" in settings.read_text()
        assert list((tree.root / "usr/lib/paceline/gateway/__pycache__").glob("app.*.pyc"))

    tree.dpkg("-r", "paceline-gateway")
    assert tree.status() == "deinstall ok config-files 1.1.0"
    assert not (tree.root / "usr/lib/paceline").exists()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == kept
    tree.dpkg("-i", str(old))
    spool = await Spool.open(data / "spool.db", SpoolSettings())
    assert spool.stats().rows == 100
    await spool.close()

    tree.dpkg("-P", "paceline-gateway")
    assert tree.status() == ""
    assert not data.exists()
    assert not settings.exists()


async def test_what_is_installed_runs_with_nothing_but_python_and_its_own_libraries(tmp_path, packages):
    root = unpacked(packages[0], tmp_path / "root")
    program = [base_python(), "-I", "-S", str(root / "usr/bin/paceline")]
    said = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=240, check=True, cwd=tmp_path)
    assert "1.0.0" in said.stdout
    listed = subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=240, check=True, cwd=tmp_path).stdout
    assert "gateway" in listed
    assert "demo" not in listed.partition("Commands:")[2]
    for command in (["config", "show"], ["gateway", "--help"], ["gateway", "box", "--help"]):
        subprocess.run([*program, *command], capture_output=True, timeout=240, check=True, cwd=tmp_path)
    async with start_amqtt(tmp_path / "central", users=(BOX, PLATFORM)) as broker:
        box = BoxProcess(tmp_path, program)
        box.start()
        url, code = await box.page()
        form = {"code": code, "host": broker.host, "port": str(broker.port), "node": BOX, "password": broker.password(BOX)}
        assert (await read(url, form))[0] == 200, box.log()
        await box.said("uplink to .* is up")
        assert box.process is not None
        loaded = Path(f"/proc/{box.process.pid}/maps").read_text()
        assert str(PROJECT) not in loaded.replace(str(root), "")
        assert await box.end() == 0, box.log()
