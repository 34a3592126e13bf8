"""The live table in the terminal (rich), and its one-line form where there is no terminal.

Pure: a snapshot of the API in, something to print out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def summary_line(seconds: float, snapshot: Mapping[str, Any]) -> str:
    """What happens, on one line."""
    athletes = snapshot["athletes"]
    leader = athletes[0] if athletes else None
    lead = f"  leader {leader['name']} {_number(leader['distance_m'], 0)} m" if leader else ""
    return (
        f"{seconds:5.0f} s  {len(athletes)} athletes  {_sent(snapshot)} sent  {snapshot['frames_stored']} stored  "
        f"{snapshot['dead_letters']} dead  {snapshot['efforts']} efforts  "
        f"{snapshot['board_changes']} board changes  "
        f"p99 {_number(snapshot['latency_ms']['p99'], 0)} ms{lead}"
    )


def live_table(seconds: float, snapshot: Mapping[str, Any], url: str, rows: int) -> Group:
    """The ranking, at most `rows` athletes, and the counts below it."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    for title in ("#", "athlete", "bpm", "km/h", "metres", "points"):
        table.add_column(title, justify="left" if title == "athlete" else "right", no_wrap=True)
    athletes = snapshot["athletes"]
    for a in athletes[:rows]:
        name = Text(str(a["name"]))
        if a["status"] != "live":
            name.append(f"  {a['status']}", style="yellow")
        speed = None if a["speed_mps"] is None else a["speed_mps"] * 3.6
        table.add_row(
            str(a["rank"] or "-"), name, _number(a["hr_bpm"], 0), _number(speed, 1), _number(a["distance_m"], 0), _number(a["points"], 1)
        )
    more = Text(f"and {len(athletes) - rows} more on the page", style="dim") if len(athletes) > rows else Text("")
    head = Text.assemble(("Paceline ", "bold"), (url, "underline"), f"   {seconds:.0f} s")
    dead = snapshot["dead_letters"]
    equal = sum(d["sent"] <= d["stored"] + d["refused"] for d in snapshot["devices"])
    foot = Text.assemble(
        f"sent {_sent(snapshot)}  stored {snapshot['frames_stored']}  sent = stored on {equal} of {len(snapshot['devices'])} devices  ",
        (f"dead letters {dead}", "red" if dead else "green"),
        f"  p50 {_number(snapshot['latency_ms']['p50'], 0)} ms  p99 {_number(snapshot['latency_ms']['p99'], 0)} ms",
    )
    board = segment_table(snapshot["board"], rows) if snapshot.get("board") else None
    return Group(head, Text(""), table if board is None else _beside(table, board), more, foot)


def segment_table(board: Mapping[str, Any], rows: int) -> Table:
    """The board of a segment, at most `rows` lines: times, and how far behind the leader. `~`: may still change."""
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    for title in ("#", str(board["segment_name"]), "time", "gap"):
        table.add_column(escape(title), justify="right" if title in {"#", "time", "gap"} else "left", no_wrap=True)
    for line in board["lines"][:rows]:
        time = ("" if line["phase"] == "final" else "~") + _clock(line["elapsed_ms"])
        gap = f"+{_clock(line['gap_ms'])}" if line["gap_ms"] else ""
        table.add_row(str(line["rank"]), Text(str(line["name"])), time, gap)
    return table


def _beside(left: Table, right: Table) -> Table:
    grid = Table.grid(expand=True, padding=(0, 3, 0, 0))
    grid.add_column(ratio=3)
    grid.add_column(ratio=2)
    grid.add_row(left, right)
    return grid


def _clock(ms: int) -> str:
    """Minutes, seconds and tenths."""
    tenths = (ms + 50) // 100
    minutes, rest = divmod(tenths, 600)
    seconds = f"{rest // 10}.{rest % 10}"
    return f"{minutes}:{seconds.zfill(4)}" if minutes else seconds


def _sent(snapshot: Mapping[str, Any]) -> int:
    """What the nodes say they sent; they say it a little later than the stores know, and what is stored was sent."""
    return sum(max(d["sent"], d["stored"] + d["refused"]) for d in snapshot["devices"])


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
