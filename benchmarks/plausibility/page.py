"""The tables of docs/plausibility.md out of the tallies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.plausibility.cases import kinds
from benchmarks.plausibility.judged import Tally, made_up, real
from processors.plausibility import KEEP_PCT, WORDS

PAGE: Final = Path("docs/plausibility.md")
SEEDS: Final = range(100, 124)  # limits were chosen on 0 to 11
_WORLDS: Final = ("zwift", "tpv", "mywhoosh")
_SPORTS: Final = {"run": "runs", "ride": "rides", "other": "others (swims, hikes, a triathlon)"}


def measure_made_up(seeds: Sequence[int] = SEEDS) -> dict[str, Tally]:
    """The tally of each kind of made-up recording."""
    return {name: made_up(name, seeds) for name in kinds()}


def measure_real(folder: Path, largest: int = 1 << 30) -> dict[str, Tally]:
    """The tally of all real recordings in a folder, by sport; rides in virtual worlds by themselves."""
    found: dict[str, Tally] = {}
    files = [path for kind in ("fit", "gpx", "tcx", "pairs") for path in sorted((folder / kind).glob("*.*")) if path.suffix != ".tsv"]
    for path in files:
        got = real(path) if path.stat().st_size <= largest else None
        if got is None:
            continue
        tally, made = got
        virtual = any(word in path.name for word in _WORLDS)
        found.setdefault("rides in virtual worlds" if virtual else _SPORTS[made.summary.sport], Tally()).join(tally)
    return dict(sorted(found.items()))


def table_of_kinds(found: Mapping[str, Tally]) -> str:
    """Made-up recordings: a line a kind, honest ones first."""
    made = kinds()
    rows = [[name, "no" if made[name][0] else "yes", *_figures(tally)] for name, tally in found.items()]
    return _table(("recording", "honest", "efforts", "doubted", "kept off", "by"), rows)


def table_of_real(found: Mapping[str, Tally]) -> str:
    """Real recordings: a line a sport."""
    rows = [[name, str(tally.recordings), *_figures(tally)] for name, tally in found.items()]
    return _table(("recordings", "number", "efforts", "doubted", "kept off", "by"), rows)


def table_of_words() -> str:
    """What each doubt says to people."""
    rows = [[f"`{word}`", said] for word, said in WORDS.items()]
    return _table(("doubt", "said as"), rows) + f"\nKept off below: {KEEP_PCT} %.\n"


def replaced(text: str, mark: str, table: str) -> str:
    """The page with the table of a mark. ValueError when the page has no such mark."""
    found = re.search(rf"(<!-- {mark}: .*? -->\n)(.*?)(\n<!-- end -->)", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{PAGE} has no table {mark}")
    return text[: found.start(2)] + table + text[found.end(2) :]


def held(text: str, mark: str) -> str:
    """The table of a mark as the page has it."""
    found = re.search(rf"<!-- {mark}: .*? -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{PAGE} has no table {mark}")
    return found[1]


def _figures(tally: Tally) -> list[str]:
    share = 100.0 * tally.kept_off / max(tally.efforts, 1)
    by = ", ".join(f"{word} {count}" for word, count in sorted(tally.words.items(), key=lambda item: (-item[1], item[0]))[:3])
    return [str(tally.efforts), str(tally.doubted), f"{tally.kept_off} ({share:.0f} %)" if tally.kept_off else "0", by or "-"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"
