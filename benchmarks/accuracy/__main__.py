"""Measures all and writes docs/accuracy.md."""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy.figures import measure_all
from benchmarks.accuracy.page import page

if __name__ == "__main__":
    Path("docs/accuracy.md").write_text(page(measure_all()), "utf-8")
    print("docs/accuracy.md written")
