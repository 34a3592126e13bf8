"""What an operator reads of the sensors near by: rows from the gateway's own list and from a survey, as a table or JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.ble_address import device_of_address
from gateway.ble_judging import Judge
from gateway.ble_survey import Found

Row = dict[str, Any]
STALE_S: Final = 90.0  # a gateway writes its list at least every 30 s
_ORDER: Final = ("live", "connecting", "waiting", "lost", "near", "refused")
_TITLES: Final = ("device", "state", "name", "what it tells", "dBm", "battery", "worn by", "why not")


def rows_of_survey(found: Iterable[Found], judge: Judge, athlete_of: Mapping[str, str], *, everything: bool) -> list[Row]:
    """What a survey heard. Strangers only with `everything`."""
    rows: list[Row] = []
    for one in found:
        judgement = judge.judge(one.advert)
        if not (judgement.wanted or judgement.profiles or everything):
            continue
        device = device_of_address(one.advert.address)
        rows.append(
            {
                "device": device,
                "kind": "ble",
                "address": one.advert.address,
                "name": one.advert.name,
                "profiles": list(judgement.profiles),
                "rssi_dbm": max(one.rssi_dbm.values()),
                "adapters": dict(sorted(one.rssi_dbm.items())),
                "battery_pct": None,
                "state": "near" if judgement.wanted else "refused",
                "reason": judgement.reason,
                "athlete": athlete_of.get(device),
                "paired": one.advert.bonded,
            }
        )
    return rows


def merged(surveyed: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """Both lists as one: what the gateway knows of a device stands, the signal is that of the survey where it heard it."""
    rows = {row["device"]: row for row in surveyed}
    for row in known:
        heard = rows.get(row["device"])
        rows[row["device"]] = {**row, **({"rssi_dbm": heard["rssi_dbm"]} if heard is not None else {})}
    return in_order(rows.values())


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Live ones first, strangers last; the best heard first among equals."""
    return sorted(rows, key=lambda row: (_ORDER.index(row["state"]), -(row["rssi_dbm"] or -999), row["device"]))


def table_of(rows: Sequence[Row]) -> list[str]:
    """The lines of a table as wide as what is in it."""
    cells = [_TITLES, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(row: Row) -> tuple[str, ...]:
    rssi, battery = row["rssi_dbm"], row["battery_pct"]
    return (
        row["device"],
        row["state"],
        row["name"] or "-",
        ", ".join(row["profiles"]) or "-",
        "-" if rssi is None else str(rssi),
        "-" if battery is None else f"{battery} %",
        row["athlete"] or "-",
        row["reason"],
    )


def age_s(document: Mapping[str, Any], now_us: int) -> float:
    """Seconds since the gateway wrote its list."""
    return (now_us - int(document["written_us"])) / 1e6
