"""The Chromium of the tests on a machine that has none: fetched without root and whole, or a reason with the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromium import open_chromium
from tests.chromium_package import find_or_install_chromium
from tests.debian_packages import ServerUnavailableError


def test_no_chromium_and_no_debian_is_an_error_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailableError, match="chromium is not installed and this is no Debian: install chromium"):
        find_or_install_chromium(tmp_path / "tools")
    assert not (tmp_path / "tools" / "chromium").exists()


def test_what_is_there_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "chromium" / "usr" / "lib" / "chromium").mkdir(parents=True)
    (tmp_path / "chromium" / "usr" / "lib" / "chromium" / "chromium").touch()
    found = find_or_install_chromium(tmp_path, path="")
    assert found.binary == tmp_path / "chromium" / "usr" / "lib" / "chromium" / "chromium"
    assert str(tmp_path / "chromium" / "usr" / "lib") in found.environment["LD_LIBRARY_PATH"]
    assert Path(found.environment["FONTCONFIG_FILE"]).read_text().count("<dir>") == 1


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lists", ["the machine's", "empty"])
async def test_chromium_is_unpacked_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: str) -> None:
    if lists == "empty":
        (tmp_path / "none" / "partial").mkdir(parents=True)
        (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{tmp_path}/none";\n')
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    (tmp_path / "tools" / ".chromium.making" / "usr").mkdir(parents=True)  # a run was killed here
    found = find_or_install_chromium(tmp_path / "tools", path="")
    assert found.binary.is_relative_to(tmp_path)
    assert sorted(made.name for made in (tmp_path / "tools" / "chromium").iterdir()) == ["etc", "usr"]
    async with open_chromium(found) as browser:
        page = await browser.page(800, 600)
        await page.go("data:text/html,<span style='font: 20px system-ui'>Paceline</span>")
        assert await page.js("document.querySelector('span').getBoundingClientRect().width") > 70
        assert (await page.picture()).startswith(b"\x89PNG")
