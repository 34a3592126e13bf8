"""The files of the page: complete, of one origin, each with its type; and its colours: every pair that meets is readable."""

from __future__ import annotations

import re
from importlib import resources

import pytest

FILES = {item.name: item.read_text() for item in (resources.files("processors") / "page").iterdir() if item.is_file()}
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))
# What is written on what: text of any size needs 4.5 : 1 (WCAG 2.2 AA), edges, icons and dots 3 : 1.
TEXT = [
    *((ink, ground) for ink in ("text", "soft", "accent", "good", "warn", "bad") for ground in ("bg", "panel")),
    *((ink, "raised") for ink in ("text", "accent")),
    *((ink, "up") for ink in ("text", "soft", "warn", "good")),
    *(("ink", ground) for ground in ("tile", "unknown", "zone1", "zone2", "zone3", "zone4", "zone5")),
    ("on-accent", "accent"), ("on-bad", "bad"), ("bg", "text"), ("text", "unknown"),
]  # fmt: skip
SHAPES = [
    *((f"dot-z{zone}", "panel") for zone in range(6)),
    *((mark, ground) for mark in ("focus", "edge") for ground in ("bg", "panel")),
    *(("ink", f"zone{zone}") for zone in range(1, 6)),
]


def test_every_file_that_is_asked_for_is_there() -> None:
    asked = set(re.findall(r'(?:href|src)="([\w.]+)"', FILES["index.html"]))
    for script in SCRIPTS:
        asked |= set(re.findall(r'from "\./([\w.]+)"', FILES[script]))
    assert {"app.js", "wall.js", "style.css", "icon.svg"} <= asked
    assert asked == FILES.keys() - {"index.html"}


def test_no_file_names_another_host_or_runs_inline_code() -> None:
    for name, said in FILES.items():
        if not name.endswith(".svg"):
            assert "//" not in re.sub(r"(?<![^\s;{])// .*", "", said), name
    page = FILES["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)


def colours() -> dict[str, tuple[str, str]]:
    found = {}
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", FILES["colours.css"]):
        found[name] = (light, dark)
    return found


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_meets_on_the_page_is_readable(dark: bool) -> None:
    known = colours()
    for pairs, least in ((TEXT, 4.5), (SHAPES, 3.0)):
        for ink, ground in pairs:
            assert contrast(known[ink][dark], known[ground][dark]) >= least, (ink, ground)


def test_colours_stand_in_one_file_only() -> None:
    for name in ("style.css", "views.css", *SCRIPTS):
        assert not re.search(r"#[0-9a-f]{3}(?:[0-9a-f]{3})?\b", FILES[name]), name
