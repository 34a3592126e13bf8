"""Where the Chromium of the tests comes from: the machine's, or Debian's package unpacked into `.cache/tools` (no root, nothing of the system changes).

apt says what the package needs and this machine lacks, and downloads just that; a lock keeps two test runs from doing it at once. The fonts
are always DejaVu, also of an installed Chromium: what a page measures does not depend on the fonts of a machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import TOOLS, ServerUnavailableError, library_environment, own_lists

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FONT = "DejaVuSans.ttf"
FONT_PLACES = (Path("/usr/share/fonts/truetype/dejavu"), Path("/usr/share/fonts/dejavu"), Path("/usr/share/fonts/TTF"))
_CURE = "install {0} with your package manager, or check that apt-get reaches a Debian mirror"
_FONTS_CONF = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <match target="pattern">
    <edit name="family" mode="append_last"><string>DejaVu Sans</string></edit>
  </match>
</fontconfig>
"""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A binary and the environment it needs."""

    binary: Path
    environment: dict[str, str]


def find_or_install_chromium(tools: Path = TOOLS, path: str | None = None) -> Chromium:
    """The Chromium of `path` (as PATH, the default) or the unpacked one below `tools`. ServerUnavailableError says what is missing and the cure."""
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / ".chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = next((Path(place) for name in NAMES if (place := shutil.which(name, path=path))), None)
        binary = found or _once(tools / "chromium", "usr/lib/chromium/chromium", ("chromium", "chromium-common"), check_libraries)
        fonts = next((place for place in FONT_PLACES if (place / FONT).exists()), None) or _unpacked_fonts(tools)
        conf = tools / "fonts.conf"
        conf.write_text(_FONTS_CONF.format(fonts=fonts, cache=tools / "fontconfig"))
    environment = dict(os.environ) if found else chromium_environment(binary)
    return Chromium(binary, {**environment, "FONTCONFIG_FILE": str(conf)})


def chromium_environment(binary: Path) -> dict[str, str]:
    """The environment in which an unpacked Chromium finds its unpacked libraries, also those it opens by name (NSS)."""
    root = binary.parents[3]
    environment = library_environment(root / "usr" / "bin" / "chromium")
    inner = [str(folder) for folder in (root / "usr" / "lib").glob("*-linux-*/*") if folder.is_dir() and any(folder.glob("*.so"))]
    environment["LD_LIBRARY_PATH"] = ":".join([*environment["LD_LIBRARY_PATH"].split(":"), *inner])
    return environment


def check_libraries(binary: Path) -> None:
    """ServerUnavailableError when the binary links what is nowhere."""
    environment = chromium_environment(binary)
    lacking = subprocess.run(["ldd", str(binary)], env=environment, capture_output=True, text=True, timeout=60, check=False)
    missing = [line.split()[0] for line in lacking.stdout.splitlines() if "not found" in line]
    if missing:
        raise ServerUnavailableError(f"{binary} lacks {', '.join(missing)}: {_CURE.format('chromium')}")


def _unpacked_fonts(tools: Path) -> Path:
    return _once(tools / "fonts", f"usr/share/fonts/truetype/dejavu/{FONT}", ("fonts-dejavu-core",), lambda _: None).parent


def _once(target: Path, wanted: str, packages: Sequence[str], check: Callable[[Path], None]) -> Path:
    """The file `wanted` of packages that are unpacked in `target`. It appears there whole: a run that is killed leaves nothing half done."""
    if not (target / wanted).exists():
        making = target.with_name(f".{target.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        said = unpack_packages(making, packages)
        if not (making / wanted).exists():
            raise ServerUnavailableError(f"no {wanted} came with {', '.join(packages)} ({said}): {_CURE.format(packages[0])}")
        check(making / wanted)
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)
    return target / wanted


def unpack_packages(target: Path, packages: Sequence[str]) -> str:
    """Unpack packages and what they need and this machine lacks below `target`; what apt-get said when it could not."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ServerUnavailableError(f"{packages[0]} is not installed and this is no Debian: {_CURE.format(packages[0])}")
    apt = target / "apt"
    options = own_lists(apt)
    said = _fetch(options[2:], packages)  # the lists of the machine, but caches of our own
    if said or not list(apt.rglob("*.deb")):  # without lists, what is installed cannot come again, and that is no error to apt
        subprocess.run(["apt-get", *options, "update"], capture_output=True, timeout=300, check=False)
        said = _fetch(options, packages)
    for archive in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(target)], capture_output=True, timeout=120, check=True)
    shutil.rmtree(apt)
    return said


def _fetch(options: Sequence[str], packages: Sequence[str]) -> str:
    """Download into the caches of `options`; the last line of what went wrong, empty when nothing did."""
    command = ["apt-get", *options, *["-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=3", "-y", "-q"]]
    command += ["install", "--download-only", "--reinstall", "--no-install-recommends", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1] if done.returncode else ""
