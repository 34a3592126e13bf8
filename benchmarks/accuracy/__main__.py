"""Measures all, and writes docs/accuracy.md and its pictures."""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy.figures import measure_all
from benchmarks.accuracy.page import page
from benchmarks.accuracy.plots import draw

if __name__ == "__main__":
    found = measure_all()
    Path("docs/accuracy.md").write_text(page(found), "utf-8")
    print("docs/accuracy.md", *draw(found))
