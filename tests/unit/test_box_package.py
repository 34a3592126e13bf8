"""What goes into the package of a box: only what its commands import, the libraries of the list, and nothing heavy."""

from __future__ import annotations

import io
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from broker.errors import BadInputError, ConfigError
from paceline.box_package import box_modules
from paceline.box_wheels import LIBRARIES, LOCK, MACHINES, PYTHONS, files_of, locked, needed
from paceline.commands.gateway import BOX_COMMANDS
from paceline.config import load
from tests.servers import PROJECT

BOX = PROJECT / "paceline" / "box"
HEAVY = {"numpy", "numba", "scipy", "fastapi", "uvicorn", "rich", "amqtt", "processors", "simulators", "benchmarks"}


def test_box_has_its_own_commands_and_none_of_the_platform() -> None:
    modules = box_modules()
    assert set(BOX_COMMANDS) <= set(modules)
    assert {"paceline.cli", "paceline.parts", "paceline.commands.config"} <= set(modules)
    assert not {"paceline.commands.run", "paceline.demo", "paceline.box_package", "paceline.doctor"} & set(modules)


def test_importing_the_whole_box_loads_nothing_heavy() -> None:
    modules = [*box_modules(), "gateway.app", "gateway.box", "gateway.setup_notice"]
    code = f"import importlib, sys\nfor name in {[m for m in modules if not m.endswith('__main__')]!r}: importlib.import_module(name)\n"
    code += f"print(sorted({HEAVY!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_list_has_the_pinned_version_of_every_library_for_every_python_and_machine() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pins = {*project["dependencies"], *(pin for part in project["optional-dependencies"].values() for pin in part)}
    wanted = {pin.lower() for pin in pins if pin.partition("==")[0] in LIBRARIES}
    assert len(wanted) == len(LIBRARIES)
    for python in PYTHONS:
        for arch in MACHINES:
            have = [library.requirement.lower() for library in needed(python, arch)]
            assert wanted <= set(have), f"{python} {arch}: write the list anew: python -m paceline.box_wheels"
            assert len(have) == len(set(have))
            assert not HEAVY & {name.partition("==")[0] for name in have}


@pytest.mark.parametrize("line", ["abc  x-1-py3-none-any.whl", f"{'0' * 64} x-1.whl", f"{'0' * 64}  ../x-1.whl"])
def test_a_list_that_cannot_be_read_names_the_line(line: str) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        locked(f"# remark\n{line}\n")
    assert locked(LOCK.read_text())


def wheel(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, b"x")
    return path


def test_a_wheel_is_unpacked_without_its_record_and_scripts(tmp_path: Path) -> None:
    names = [
        "x/__init__.py",
        "x/fast.cpython-311.so",
        "x-1.dist-info/RECORD",
        "x-1.dist-info/METADATA",
        "x-1.data/scripts/x",
        "x-1.data/platlib/y.so",
    ]
    got = [(name, is_code) for name, _, is_code in files_of(wheel(tmp_path / "x-1-py3-none-any.whl", names))]
    assert got == [("x/__init__.py", False), ("x/fast.cpython-311.so", True), ("x-1.dist-info/METADATA", False), ("y.so", True)]


@pytest.mark.parametrize("name", ["../x.py", "x/../../y.py", "/etc/x", "x-1.data/purelib/../../y"])
def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="leads out"):
        list(files_of(wheel(tmp_path / "x-1-py3-none-any.whl", [name])))


def test_settings_of_the_box_are_settings_of_paceline() -> None:
    settings = load(BOX / "gateway.toml", {}).settings
    assert str(settings.data) == "/var/lib/paceline"
    assert settings.box.port == 8880


def test_service_runs_as_its_user_with_a_watchdog_and_without_rights() -> None:
    unit = dict(
        line.split("=", 1) for line in (BOX / "paceline-gateway.service").read_text().splitlines() if "=" in line and line[0] != "#"
    )
    assert (unit["Type"], unit["Restart"], unit["User"], unit["NoNewPrivileges"]) == ("notify", "always", "paceline", "yes")
    assert int(unit["WatchdogSec"]) == 60
    assert unit["CapabilityBoundingSet"] == ""
    assert "AF_BLUETOOTH" in unit["RestrictAddressFamilies"]


def test_rights_name_the_bluetooth_daemon_and_the_ant_sticks() -> None:
    allow = ET.parse(io.BytesIO((BOX / "dbus.conf").read_bytes())).find("policy[@user='paceline']/allow")
    assert allow is not None
    assert allow.attrib == {"send_destination": "org.bluez"}
    rules = [line for line in (BOX / "ant.rules").read_text().splitlines() if line and line[0] != "#"]
    assert all('"0fcf"' in rule and 'GROUP="paceline"' in rule for rule in rules)
    assert "1008|1009" in rules[0]


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_maintainer_scripts_are_shell_that_can_be_read(name: str) -> None:
    done = subprocess.run(["sh", "-n", str(BOX / name)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert (BOX / name).read_text().startswith("#!/bin/sh\n")


def test_a_dry_run_of_the_installation_says_what_it_would_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paceline", "gateway", "install", "--dry-run"], capture_output=True, text=True, timeout=60, check=False
    )
    if Path("/etc/debian_version").exists():
        assert "apt-get install --yes" in done.stdout
        assert "paceline-gateway_" in done.stdout
        assert "keeps what lies in /var/lib/paceline" in done.stdout
    else:
        assert done.returncode == 2
        assert "no Debian" in done.stderr
