"""Routes of the moment and of what was told: the class in progress, and the events."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from processors.api import models
from processors.api.access import Viewer
from processors.api.services import PartsOf, Staff, Viewing
from processors.live_kernel import APPENDED, DIST_UM, NEVER, POINTS, START
from processors.live_wakes import CLOSE_AFTER_US
from processors.results_db import events
from processors.stores import ReadStore

router = APIRouter(tags=["live"])


@router.get("/boards/live")
async def get_class_board(parts: PartsOf, viewer: Viewing, by: Literal["distance", "points"] = "distance") -> models.ClassBoard:
    """The class in progress: everybody with an activity under way, by distance or effort points. Equal values share a rank."""
    return await parts.reads.run(lambda store: _class_board(store, viewer, by, parts.services.clock_us()))


def _class_board(store: ReadStore, viewer: Viewer, by: Literal["distance", "points"], now_us: int) -> models.ClassBoard:
    column = DIST_UM if by == "distance" else POINTS
    live = [
        (subject, row.tolist())
        for subject, row in store.rows(viewer.tenant)
        if row[START] != NEVER and row[APPENDED] > now_us - CLOSE_AFTER_US
    ]
    live.sort(key=lambda one: (-one[1][column], one[0]))
    lines: list[models.ClassLine] = []
    for i, (subject, row) in enumerate(live):
        tied = i > 0 and live[i - 1][1][column] == row[column]
        athlete = viewer.athlete_of(subject)
        lines.append(
            models.ClassLine(
                rank=lines[-1].rank if tied else i + 1,
                subject=f"{viewer.tenant}/{athlete}",
                athlete=athlete,
                name=viewer.name_of(subject),
                distance_m=row[DIST_UM] / 1e6,
                points=row[POINTS] / 60e6,
            )
        )
    return models.ClassBoard(by=by, t_us=now_us, lines=lines)


@router.get("/events")
async def list_events(
    parts: PartsOf, viewer: Staff, after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> models.EventPage:
    """Events for other domains behind a sequence number, oldest first."""
    rows = await parts.reads.run(lambda store: events(store.db, after, limit, viewer.tenant))
    lines = [
        models.EventLine(
            seq=row.seq, id=row.id, type=row.type, topic=row.topic, key=row.key, time_us=row.time_us, body=json.loads(row.body)
        )
        for row in rows
    ]
    return models.EventPage(events=lines, last_seq=rows[-1].seq if rows else after)
