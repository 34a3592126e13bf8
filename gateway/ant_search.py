"""Searching with a stick that cannot scan (pure): one free channel at a time looks for one kind of sensor, as the stick has one radio.

Kinds take turns; where one of a kind was found, the next channel looks for more of it. Up to four masters that other channels have already
are left out by the stick itself; a channel that still finds one of those is closed, and the next search waits a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.ant_channel import Channel, State
from gateway.ant_commands import Ask
from gateway.ant_messages import (
    ChannelId,
    close_channel,
    exclude,
    excluded,
    open_channel,
    set_frequency,
    set_id,
    set_period,
    set_search_timeout,
)

SEARCH_STEPS: Final = 1  # of 2.5 s: how long a channel looks for one kind of sensor
AGAIN_S: Final = 0.5
MAX_EXCLUDED: Final = 4


@dataclass(frozen=True, slots=True)
class Search:
    """One kind of sensor a channel can look for: `period` in 1/32768 s."""

    type: int
    period: int


class Searching:
    """Which channel looks for what, and when."""

    __slots__ = ("_frequency", "_kinds", "_not_before_s", "_turn")

    def __init__(self, kinds: Iterable[Search], frequency: int) -> None:
        self._kinds = tuple(kinds)
        self._frequency = frequency
        self._turn = 0
        self._not_before_s = 0.0

    def deadline_s(self, channels: Mapping[int, Channel]) -> float | None:
        """When the next search is due; None while one goes on, or no channel is free."""
        return None if self._free(channels) is None else self._not_before_s

    def due(self, channels: Mapping[int, Channel], now_s: float) -> list[Ask]:
        """What opens the next search, if it is time."""
        channel = self._free(channels) if now_s >= self._not_before_s else None
        if channel is None:
            return []
        channel.search = self._turn % len(self._kinds)
        self._turn += 1
        wanted, number = self._kinds[channel.search], channel.number
        others = [c.who for c in channels.values() if c.who is not None and c.who.type == wanted.type][:MAX_EXCLUDED]
        return [
            Ask(set_id(number, ChannelId(0, wanted.type, 0))),
            Ask(set_period(number, wanted.period)),
            Ask(set_search_timeout(number, SEARCH_STEPS), optional=True),
            Ask(set_frequency(number, self._frequency)),
            *(Ask(exclude(number, who, place), optional=True) for place, who in enumerate(others)),
            Ask(excluded(number, len(others)), optional=True),
            Ask(open_channel(number)),
        ]

    def found(self, channel: Channel) -> None:
        """A channel has found a master nobody had: the next one looks for the same kind."""
        self._turn = max(channel.search, 0)

    def found_again(self, channel: Channel, now_s: float) -> list[Ask]:
        """A channel has found whom another one has: what ends it. One that closed by itself meanwhile refuses, which is as good."""
        self._not_before_s = now_s + AGAIN_S
        return [Ask(close_channel(channel.number), optional=True)]

    def _free(self, channels: Mapping[int, Channel]) -> Channel | None:
        if not self._kinds or any(c.state is State.SEARCHING and c.who is None for c in channels.values()):
            return None
        return next((c for c in channels.values() if c.state is State.ASSIGNED), None)
