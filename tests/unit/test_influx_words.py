"""docs/influx.md says what the schema says, and every key of its settings."""

from __future__ import annotations

from pathlib import Path

from broker.influx import InfluxSettings
from processors.influx_schema import BUCKETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "influx.md"
BEGIN, END = "<!-- schema: made by tests/unit/test_influx_words.py -->\n", "<!-- end -->"


def table() -> str:
    rows = ["| bucket | kept | series at most | measurement | tags | fields |", "|---|---|---|---|---|---|"]
    for b in BUCKETS.values():
        for m in b.measurements:
            fields = ", ".join(f"`{f.name}` {f.kind}" for f in m.fields)
            kept = f"{b.keep_s // 3600} h" if b.keep_s < 7 * 86_400 else f"{b.keep_s // 86_400} d"
            rows.append(f"| {b.name} | {kept} | {b.series:,} | `{m.name}` | {', '.join(m.tags)} | {fields} |")
    return "\n".join(rows) + "\n"


def test_the_page_has_the_schema_of_the_code():
    text = PAGE.read_text("utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == table()


def test_the_page_has_every_setting():
    text = PAGE.read_text("utf-8")
    for name in InfluxSettings.model_fields:
        assert f"\n{name} = " in text, name


def test_the_page_has_every_counter_of_the_status():
    text = PAGE.read_text("utf-8")
    for name in ("expired", "dropped_full", "lost_blocks", "refused_series"):
        assert f"`{name}`" in text
