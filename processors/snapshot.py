"""What the live page shows of a tenant: the stores joined with the boards and with what the nodes say of themselves.

`snapshot` gives everything, as staff may see it; `for_screens` makes of that what everybody may see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from broker.nodeconfig import NodeState
from broker.reference import AthleteRef
from processors import live_kernel as k
from processors import live_row
from processors.attempts_view import Racing, racing
from processors.board_moves import BoardMoves
from processors.directory import Known, alias_of
from processors.live_wakes import CLOSE_AFTER_US
from processors.reads import Reads
from processors.results_db import count_efforts
from processors.samples import hash64
from processors.stores import ReadStore

RECOUNT_S: Final = 2.0
_ANYBODY: Final = AthleteRef(tenant="a", id="a", name="a")


class SnapshotView:
    """One view for all tenants; any thread may ask, one at a time is served."""

    def __init__(
        self,
        reads: Reads,
        *,
        nodes: Callable[[], dict[tuple[str, str], NodeState]],
        latency: Callable[[], dict[str, float]],
        dead_letters: Callable[[str], int],
        site_tenant: str,
        clock_us: Callable[[], int],
    ) -> None:
        """`site_tenant` runs the site: its board changes are all of them, those of others the changes of their segment boards."""
        self._reads = reads
        self._store = ReadStore(reads.state)
        self._lock = threading.Lock()
        self._nodes = nodes
        self._latency = latency
        self._dead_letters = dead_letters
        self._site_tenant = site_tenant
        self._clock_us = clock_us
        self._moves: dict[str, BoardMoves] = {}
        self._origins: dict[str, tuple[float, dict[int, str]]] = {}
        self._counted: dict[str, tuple[float, dict[str, int]]] = {}

    def close(self) -> None:
        with self._lock:
            self._store.close()

    def snapshot(self, tenant: str) -> dict[str, Any]:
        """See `processors.api.LiveView`."""
        with self._lock:
            return self._snapshot(tenant, self._clock_us())

    def _snapshot(self, tenant: str, now_us: int) -> dict[str, Any]:
        known = self._reads.directory.of(tenant)
        moves = self._moves.setdefault(tenant, BoardMoves(tenant))
        moves.follow(self._store)
        devices = devices_of(self._store, self._nodes(), tenant)
        return {
            "tenant": tenant,
            "role": "staff",
            "t_us": now_us,
            "athletes": self._athletes(known, now_us),
            "attempts": [attempt_json(known, r) for r in racing(self._store, known, self._reads.boards, now_us)],
            "moves": [
                {
                    "seq": m.seq, "t_us": m.t_us, "segment": m.segment, "segment_name": segment_name(known, m.segment),
                    "subject": m.subject, "athlete": local(m.subject), "name": staff_name(known, m.subject),
                    "rank": m.rank, "from_rank": m.from_rank, "elapsed_ms": m.elapsed_ms,
                }
                for m in moves.latest
            ],
            "devices": devices,
            "nodes": [
                {"node": node, "online": s.online, "spool_rows": s.spool_rows, "hours_left": s.hours_left}
                for (of, node), s in sorted(self._nodes().items())
                if of == tenant
            ],
            "devices_total": len(devices),
            "devices_equal": sum(sent_of(d) == d["stored"] + d["refused"] for d in devices),
            "frames_sent": sum(sent_of(d) for d in devices),
            "frames_stored": sum(d["stored"] for d in devices),
            "dead_letters": self._dead_letters(tenant),
            "board_changes": self._store.counters().get("board_changes", 0) if tenant == self._site_tenant else moves.changes,
            "events": moves.events,
            **self._counts(tenant),
            "latency_ms": self._latency(),
        }  # fmt: skip

    def _athletes(self, known: Known, now_us: int) -> list[dict[str, Any]]:
        live = [
            (key, row)
            for key, row in self._store.rows(known.tenant)
            if row[k.START] != k.NEVER and row[k.APPENDED] > now_us - CLOSE_AFTER_US
        ]
        live.sort(key=lambda item: (-int(item[1][k.DIST_UM]), item[0]))
        made: list[dict[str, Any]] = []
        for i, (key, row) in enumerate(live):
            tied = i > 0 and live[i - 1][1][k.DIST_UM] == row[k.DIST_UM]
            rank = made[-1]["rank"] if tied else i + 1
            made.append(athlete_json(known, key, row, rank) | {"sources": self._sources(known.tenant, row)})
        return made

    def _sources(self, tenant: str, row: k.I64) -> dict[str, str]:
        """Whose samples count now. Rows know origins by their hash; those of a tenant are looked up when one is new, every two seconds at
        most."""
        hashes = live_row.sources_of(row)
        at_s, names = self._origins.get(tenant, (float("-inf"), dict[int, str]()))
        if not names.keys() >= set(hashes.values()) and time.monotonic() - at_s >= RECOUNT_S:
            names = {hash64(origin): origin.partition("/")[2] for origin in self._store.origins(tenant)}
            self._origins[tenant] = time.monotonic(), names
        return {channel: names[of] for channel, of in hashes.items() if of in names}

    def _counts(self, tenant: str) -> dict[str, int]:
        """Totals; counting takes longer the more there is, so it is done every two seconds."""
        nothing: dict[str, int] = {}
        at_s, counts = self._counted.get(tenant, (float("-inf"), nothing))
        if time.monotonic() - at_s >= RECOUNT_S:
            counts = {
                "samples": self._store.count_samples(tenant),
                "activities": self._store.count_activities(tenant),
                "efforts": count_efforts(self._store.db, tenant),
            }
            self._counted[tenant] = time.monotonic(), counts
        return counts


def local(subject: str) -> str:
    """The part of a subject after the tenant."""
    return subject.partition("/")[2]


def staff_name(known: Known, subject: str) -> str:
    """Who it is: the name, or the id where nobody said one."""
    athlete = known.athlete(subject)
    return local(subject) if athlete is None else athlete.name


def screen_name(known: Known, subject: str) -> str:
    """As everybody may read it; empty when it may not be shown."""
    athlete = known.athletes.get(subject)
    if athlete is None or (athlete.removed and athlete.show == "yes"):
        return local(subject)
    return "" if athlete.removed else athlete.shown


def screen_id(known: Known, subject: str) -> str:
    """The id, or an alias for who does not show a name."""
    athlete = known.athletes.get(subject)
    return local(subject) if athlete is None or athlete.show == "yes" else alias_of(subject)


def segment_name(known: Known, segment: str) -> str:
    """The name of a segment, also of one that was removed."""
    found = known.segments.get(segment)
    return segment if found is None else found.name


def athlete_json(known: Known, key: str, row: k.I64, rank: int) -> dict[str, Any]:
    """One tile."""
    r = row.tolist()
    athlete = known.athlete(key)
    place = live_row.place_of(row)
    hr_bpm = r[k.HR] if r[k.HR] > 0 and r[k.LAST_T] - r[k.HR_T] <= k.HOLD_US else None
    unknown = local(key).startswith("@")
    node, _, device = local(key)[1:].rpartition("/") if unknown else ("", "", "")
    return {
        "subject": key,
        "athlete": local(key),
        "name": staff_name(known, key),
        "show": "yes" if athlete is None else athlete.show,
        "unknown": unknown,
        "node": node,
        "device": device,
        "rank": rank,
        "status": "paused" if r[k.PAUSED] else "live",
        "t_us": r[k.LAST_T],
        "start_us": r[k.START],
        "hr_bpm": hr_bpm,
        "zone": None if hr_bpm is None else zone_of(hr_bpm, athlete or _ANYBODY),
        "speed_mps": r[k.SPEED] / 100 if r[k.SPEED] >= 0 else None,
        "distance_m": r[k.DIST_UM] / 1e6,
        "points": r[k.POINTS] / 60e6,
        "moving_s": r[k.MOVING_US] / 1e6,
        "power_w": live_row.power_w(row) if r[k.LAST_T] - r[k.PW_T] <= k.HOLD_US else None,
        "cadence_rpm": live_row.cadence_rpm(row) if r[k.LAST_T] - r[k.CD_T] <= k.HOLD_US else None,
        "gain_m": live_row.gain_m(row),
        "normalised_w": live_row.normalised_w(row),
        "work_kj": live_row.work_kj(row),
        "rmssd_ms": live_row.rmssd_ms(row),
        "trimp": live_row.trimp(row),
        "zones_s": live_row.zones_s(row),
        "lat": None if place is None else place[0] / 1e7,
        "lon": None if place is None else place[1] / 1e7,
    }


def zone_of(hr_bpm: int, athlete: AthleteRef) -> int:
    """The heart-rate zone 1-5."""
    return 1 + sum(hr_bpm >= bound for bound in athlete.zones_bpm)


def attempt_json(known: Known, r: Racing) -> dict[str, Any]:
    """One attempt under way."""
    return {
        "segment": r.segment.id,
        "segment_name": segment_name(known, r.segment.id),
        "subject": r.subject,
        "athlete": local(r.subject),
        "name": staff_name(known, r.subject),
        "start_us": r.under.start_us,
        "elapsed_ms": r.under.elapsed_ms,
        "metre_m": r.under.metre_cm / 100,
        "length_m": round(r.segment.length_m, 2),
        "gap_leader_ms": r.gap_leader_ms,
        "gap_own_ms": r.gap_own_ms,
        "gap_next_ms": r.gap_next_ms,
        "next_subject": None if r.next_faster is None else r.next_faster.subject,
        "next_name": None if r.next_faster is None else staff_name(known, r.next_faster.subject),
        "next_rank": r.next_rank,
        "projected_ms": r.projected_ms,
    }


def for_screens(snapshot: dict[str, Any], known: Known) -> dict[str, Any]:
    """The same without what everybody must not see: names, ids that may be names, and devices."""
    masked = {kind: [_masked(one, known) for one in snapshot[kind]] for kind in ("athletes", "attempts", "moves")}
    return {**snapshot, **masked, "role": "screen", "devices": []}


def masked_attempts(attempts: Iterable[dict[str, Any]], known: Known) -> list[dict[str, Any]]:
    """Attempts as a screen may see them."""
    return [_masked(one, known) for one in attempts]


def _masked(one: dict[str, Any], known: Known) -> dict[str, Any]:
    subject: str = one["subject"]
    ident = screen_id(known, subject)
    made = {**one, "subject": f"{known.tenant}/{ident}", "athlete": ident, "name": screen_name(known, subject)}
    if "sources" in made:
        made["sources"] = {}
    if one.get("next_subject") is not None:
        other: str = one["next_subject"]
        made |= {"next_subject": f"{known.tenant}/{screen_id(known, other)}", "next_name": screen_name(known, other)}
    return made


def sent_of(device: dict[str, Any]) -> int:
    """A node reports what it sent a little later than the stores know of it: what is stored was sent."""
    return max(device["sent"], device["stored"] + device["refused"])


def devices_of(store: ReadStore, nodes: dict[tuple[str, str], NodeState], tenant: str) -> list[dict[str, Any]]:
    """Every device of a tenant that was counted or reported."""
    counted: dict[str, int] = {}
    heard_by: dict[str, str] = {}
    for node, device, frames in store.counted(tenant):
        counted[device] = counted.get(device, 0) + frames
        heard_by[device] = node
    missing = store.missing(tenant)
    said: dict[str, tuple[str, int, int]] = {}
    for (of, node), state in nodes.items():
        if of == tenant:
            for d in state.devices:
                said[d.device] = (node, d.taken, d.refused)
    return [
        {
            "node": said[device][0] if device in said else heard_by.get(device, ""),
            "device": device,
            "sent": said[device][1] if device in said else counted[device],
            "stored": counted.get(device, 0),
            "refused": said.get(device, ("", 0, 0))[2],
            "missing": missing.get(device, 0),
        }
        for device in sorted(counted.keys() | said.keys())
    ]
