"""The last changes of the boards of a tenant, from the events that are owed: who came to stand where; and how many there were."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final, NamedTuple

from processors.results_db import events
from processors.stores import ReadStore

KEPT: Final = 20
LOOK_BACK: Final = 2_000  # events of a tenant, on the first look
_TYPE: Final = "paceline.social.board.changed.v1"


class Move(NamedTuple):
    """`rank` None: not among the first ten any more; `from_rank` None: was not among them."""

    seq: int
    t_us: int
    segment: str
    subject: str
    rank: int | None
    from_rank: int | None
    elapsed_ms: int | None


class BoardMoves:
    """Follows the outbox of one tenant; `latest` has the newest first."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._seq = -1
        self.latest: deque[Move] = deque(maxlen=KEPT)
        self.events = 0  # of any type, ever
        self.changes = 0  # of boards, ever

    def follow(self, store: ReadStore) -> None:
        """Take in what was committed since."""
        if self._seq < 0:
            self._begin(store)
        while True:
            found = events(store.db, self._seq, 1000, self._tenant)
            for row in found:
                self._seq = row.seq
                self.events += 1
                if row.type == _TYPE:
                    self.changes += 1
                    self.latest.appendleft(_move(row.seq, row.time_us, json.loads(row.body)["data"]))
            if len(found) < 1000:
                return

    def _begin(self, store: ReadStore) -> None:
        """Count all but the last events of the tenant without reading them."""
        query = "SELECT seq FROM outbox WHERE tenant=? ORDER BY seq DESC LIMIT 1 OFFSET ?"
        row = store.db.execute(query, (self._tenant, LOOK_BACK)).fetchone()
        self._seq = row[0] if row else 0
        query = "SELECT count(*), coalesce(sum(type=?), 0) FROM outbox WHERE tenant=? AND seq<=?"
        self.events, self.changes = store.db.execute(query, (_TYPE, self._tenant, self._seq)).fetchone()


def _move(seq: int, t_us: int, data: dict[str, Any]) -> Move:
    change = data["change"]
    subject: str = change["subject"]
    elapsed_ms = next((row["elapsed_ms"] for row in data["top"] if row["subject"] == subject), None)
    return Move(seq, t_us, data["segment"], subject, change["rank_after"], change["rank_before"], elapsed_ms)
