"""Where the Chromium of the tests comes from: the machine's, or Debian's package unpacked into `.cache/tools` (no root, nothing of the system changes).

apt says what the package needs and this machine lacks, and downloads just that; a lock keeps two test runs from doing it at once. The fonts
are always DejaVu, also of an installed Chromium: what a page measures does not depend on the fonts of a machine.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.debian_packages import TOOLS, check_libraries_in, library_environment, only_one, unpacked_once

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FONT = "DejaVuSans.ttf"
FONT_PLACES = (Path("/usr/share/fonts/truetype/dejavu"), Path("/usr/share/fonts/dejavu"), Path("/usr/share/fonts/TTF"))
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
    with only_one("chromium", tools):
        found = next((Path(place) for name in NAMES if (place := shutil.which(name, path=path))), None)
        binary = found or unpacked_once(tools / "chromium", "usr/lib/chromium/chromium", ("chromium", "chromium-common"), _check)
        fonts = next((place for place in FONT_PLACES if (place / FONT).exists()), None) or _unpacked_fonts(tools)
        conf, wanted = tools / "fonts.conf", _FONTS_CONF.format(fonts=fonts, cache=tools / "fontconfig")
        if not conf.exists() or conf.read_text() != wanted:  # the Chromium of another run may be reading it
            conf.write_text(wanted)
    environment = dict(os.environ) if found else chromium_environment(binary)
    return Chromium(binary, {**environment, "FONTCONFIG_FILE": str(conf)})


def chromium_environment(binary: Path) -> dict[str, str]:
    """The environment in which an unpacked Chromium finds its unpacked libraries, also those it opens by name (NSS)."""
    root = binary.parents[3]
    environment = library_environment(root / "usr" / "bin" / "chromium")
    inner = [str(folder) for folder in (root / "usr" / "lib").glob("*-linux-*/*") if folder.is_dir() and any(folder.glob("*.so"))]
    environment["LD_LIBRARY_PATH"] = ":".join([*environment["LD_LIBRARY_PATH"].split(":"), *inner])
    return environment


def _check(binary: Path) -> None:
    check_libraries_in(binary, chromium_environment(binary))


def _unpacked_fonts(tools: Path) -> Path:
    wanted = f"usr/share/fonts/truetype/dejavu/{FONT}"
    return unpacked_once(tools / "fonts", wanted, ("fonts-dejavu-core",), lambda _: None).parent
