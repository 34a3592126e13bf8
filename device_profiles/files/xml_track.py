"""What GPX and TCX have in common: points as elements, values as texts below them, gaps between track segments."""

from __future__ import annotations

from collections.abc import Mapping

from device_profiles.files.collector import Collector, is_time
from device_profiles.files.xml_stream import ElementReader, number, utc_us


class TrackReader(ElementReader):
    """Collects the points of one dialect: subclasses say what a point is called and which texts below it mean which field."""

    point: str  # local name of a point
    time: str  # local name of its time
    fields: Mapping[str, str]  # local name of a text below a point -> field of `Point`

    def __init__(self, collector: Collector) -> None:
        super().__init__(collector.source)
        self.to = collector
        self._point_depth = 0
        self._t_us: int | None = None
        self._values: dict[str, float] = {}
        self._segment_opens = False

    @property
    def in_point(self) -> bool:
        return self._point_depth > 0

    def open_point(self) -> None:
        """The element at hand is a point."""
        self._point_depth = len(self.path)
        self._t_us = None
        self._values = {}

    def open_segment(self) -> None:
        """The next point stands after a gap: the time between counts as a pause."""
        self._segment_opens = True

    def set(self, field: str, text: str, *, override: bool = True) -> None:
        """Set a field of the point at hand; the text must be a number."""
        if not text:
            return
        value = number(text)
        if value is None:
            self.to.skipped[f"{field}_not_a_number"] += 1
        elif override or field not in self._values:
            self._values[field] = value

    def closed(self, name: str, text: str) -> None:
        if not self._point_depth:
            return
        depth = len(self.path)
        if depth == self._point_depth:
            self._close_point()
        elif name == self.time and depth == self._point_depth + 1:
            self._t_us = utc_us(text)
            if self._t_us is None and text:
                self.to.skipped["time_unreadable"] += 1
        elif name in self.fields and self.is_field(name):
            self.set(self.fields[name], text, override=depth == self._point_depth + 1)  # the point's own value over an extension's

    def is_field(self, name: str) -> bool:
        """Whether the element at hand, of a name in `fields`, means that field where it stands."""
        del name
        return True

    def _close_point(self) -> None:
        self._point_depth = 0
        before_us = self.to.last_t_us
        self.to.add(self._t_us, self._values)
        if self._segment_opens and self._t_us is not None and is_time(self._t_us):
            self._segment_opens = False
            if before_us is not None:
                self.to.pauses_us.append((before_us, self._t_us))
