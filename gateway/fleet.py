"""The fleet near by: what each node behind this box last said of itself, and what this box counted of it.

Fed by the near listener, read by the state of the gateway. Bounded: beyond `capacity` nodes the one heard longest ago is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from broker.frames import Frame
from broker.layouts import layout_named
from broker.nodeconfig import NodeState

MAX_STATE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class NearNode:
    """One node. `heard_us` is the box's monotonic clock; the rest is None until the node or its health frames say so."""

    name: str
    heard_us: int
    state: NodeState | None = None
    health: dict[str, float | None] | None = None
    frames: int = 0
    refused: int = 0

    @property
    def online(self) -> bool:
        """Whether the node says it is; its will says it is not."""
        return self.state is not None and self.state.online


class Fleet:
    """All nodes near by, by name."""

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._nodes: OrderedDict[str, NearNode] = OrderedDict()
        self.bad_states = 0

    def nodes(self) -> tuple[NearNode, ...]:
        """The nodes known, the one heard last at the end."""
        return tuple(self._nodes.values())

    def counted(self, name: str, now_us: int, *, frames: int = 0, refused: int = 0) -> None:
        """The box spooled or refused rows of a node."""
        node = self._node(name, now_us)
        node.frames += frames
        node.refused += refused

    def told(self, name: str, payload: bytes, now_us: int) -> None:
        """A state document of a node. One that cannot be read is counted and changes nothing; an empty one clears the state."""
        if len(payload) > MAX_STATE_BYTES:
            self.bad_states += 1
            return
        if not payload:
            self._node(name, now_us).state = None
            return
        try:
            state = NodeState.model_validate_json(payload)
        except ValidationError:
            self.bad_states += 1
            return
        self._node(name, now_us).state = state

    def health(self, name: str, frame: Frame, now_us: int) -> None:
        """Remember the newest record of a `health.1` frame; other layouts are not looked at."""
        layout = layout_named("health.1")
        if frame.layout == layout.id:
            self._node(name, now_us).health = layout.unpack(frame.records[-layout.size :])[0]

    def _node(self, name: str, now_us: int) -> NearNode:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = NearNode(name, now_us)
            if len(self._nodes) > self._capacity:
                self._nodes.popitem(last=False)
        node.heard_us = now_us
        self._nodes.move_to_end(name)
        return node
