"""Who stands on one view of a segment board, and with how many efforts: a ladder of the best ones, and counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from processors.board_views import ALWAYS, Span
from processors.ladder import Key, Ladder


class Standings:
    """The rows of one view. `own`: the standing efforts of a subject, best first; `span`: when one has to start to count (None: never)."""

    def __init__(self, everybody: Iterable[tuple[str, Sequence[Key], Span | None]] = ()) -> None:
        self.efforts = 0
        self._counts: dict[str, int] = {}
        seats: list[tuple[str, Key]] = []
        for subject, own, span in everybody:
            best = self._counted(subject, own, span)
            if best is not None:
                seats.append((subject, best))
        self.ladder = Ladder(seats)

    def put(self, subject: str, own: Sequence[Key], span: Span | None) -> None:
        """Bring the row of a subject up to date."""
        self.ladder.put(subject, self._counted(subject, own, span))

    def _counted(self, subject: str, own: Sequence[Key], span: Span | None) -> Key | None:
        """Count the efforts of a subject; returns the best that counts."""
        if span is None or not own:
            count, best = 0, None
        elif span is ALWAYS:
            count, best = len(own), own[0]
        else:
            inside = [key for key in own if span[0] <= key[1] < span[1]]
            count, best = len(inside), inside[0] if inside else None
        self.efforts += count - self._counts.pop(subject, 0)
        if count:
            self._counts[subject] = count
        return best
