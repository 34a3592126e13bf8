"""docs/operations.md says what the code does: its table of figures is made from the list of metrics.

`PACELINE_WRITE_VECTORS=1 pytest tests/unit/test_operations_document.py` writes it anew after a wanted change.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from broker.metric_list import PARTS
from paceline.parts import SUPERVISED
from paceline.watched import END_S

DOCUMENT = Path("docs/operations.md")
BETWEEN = re.compile(r"(<!-- metrics: [^\n]*-->\n)(.*?)(<!-- end of metrics -->)", re.DOTALL)


def metrics_table() -> str:
    lines: list[str] = []
    for part, metrics in PARTS.items():
        lines += ["", f"**{part[0].upper()}{part[1:]}**", "", "| name | kind | labels | says |", "|---|---|---|---|"]
        lines += [f"| `{m.sample_name}` | {m.kind} | {', '.join(m.labels)} | {m.says} |" for m in metrics]
    return "\n".join(lines[1:]) + "\n"


def test_table_of_figures_is_that_of_the_code() -> None:
    text = DOCUMENT.read_text("utf-8")
    made = BETWEEN.sub(lambda found: found[1] + metrics_table() + found[3], text)
    if os.environ.get("PACELINE_WRITE_VECTORS"):
        DOCUMENT.write_text(made, "utf-8")
    assert made == DOCUMENT.read_text("utf-8"), "write it anew: PACELINE_WRITE_VECTORS=1"
    assert BETWEEN.search(text)


def test_order_of_ports_and_the_longest_stop_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert f"counts on from it: {', '.join(SUPERVISED)}." in text
    assert f"never more than {END_S:.0f} s" in text


def test_every_test_that_shows_a_fault_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT.read_text("utf-8"))
    assert len(named) > 10
    for path, test in named:
        assert re.search(rf"^(async )?def {test}\(", Path(path).read_text("utf-8"), re.MULTILINE), f"{path} has no {test}"
