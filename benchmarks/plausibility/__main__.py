"""Measures all and writes the tables of docs/plausibility.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.plausibility.page import PAGE, measure_made_up, measure_real, replaced, table_of_kinds, table_of_real, table_of_words

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of real recordings, with fit, gpx, tcx and pairs in it")
    given = parser.parse_args()
    text = replaced(PAGE.read_text("utf-8"), "words", table_of_words())
    text = replaced(text, "kinds", table_of_kinds(measure_made_up()))
    if given.data is not None:
        text = replaced(text, "real", table_of_real(measure_real(given.data)))
    PAGE.write_text(text, "utf-8")
    print(f"{PAGE} written")
