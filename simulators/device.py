"""Simulated nodes that speak the wire: a wearable for itself, or a box with many devices. Sans-I/O: time comes in, messages come out.

`tick(now)` makes what is due and says what to publish; `on_message` takes acks. Every frame stays in the outbox until it is
acknowledged, and is entered in the `Truth` when it is taken. Faults of the plan that hit the node itself (battery, re-imaging,
clocks) happen at their exact time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.acks import decode_ack
from broker.errors import Rejected
from broker.topics import Principal, topic
from simulators.faults import FaultPlan
from simulators.noise import key_of
from simulators.numbering import FrameMaker, MakerSettings, Source
from simulators.outbox import Outbox, OutboxSettings
from simulators.truth import Key, Made, Truth

Message = tuple[str, bytes]
_NEVER: Final = 1 << 62


@dataclass(slots=True)
class NodeCounts:
    """What a node saw, in frames."""

    made: int = 0
    stored: int = 0
    refused: int = 0
    rejected: int = 0  # outbox full: never taken
    died: int = 0  # owed when the outbox was lost
    bad_acks: int = 0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who the node is. Times of its faults count from `start_us`."""

    tenant: str
    node: str
    seed: int
    start_us: int
    outbox: OutboxSettings = field(default_factory=OutboxSettings)


class SimNode:
    """One node with its devices, outbox and credential."""

    def __init__(self, settings: NodeSettings, makers: Sequence[FrameMaker], truth: Truth, faults: FaultPlan | None = None) -> None:
        self.settings = settings
        self.who = Principal(settings.tenant, settings.node)
        self.truth = truth
        self.counts = NodeCounts()
        self.powered = True
        self.moves = 0  # times it roamed to another broker
        self.linked = False
        self._makers = list(makers)
        self._faults = faults or FaultPlan()
        self._seen_us = settings.start_us - 1
        self._wake_us = settings.start_us
        self._epochs = 0
        self._keys: dict[int, tuple[bytes, Key]] = {}
        self._up, self._ack = topic(settings.tenant, settings.node, "up"), topic(settings.tenant, settings.node, "ack")
        self.outbox = self._new_outbox()

    @property
    def ack_topic(self) -> str:
        """The topic to subscribe to."""
        return self._ack

    @property
    def exhausted(self) -> bool:
        """No device will make another frame."""
        return all(maker.exhausted for maker in self._makers)

    @property
    def done(self) -> bool:
        """Nothing to come and nothing owed."""
        return not len(self.outbox) and self.exhausted

    def state(self, *, online: bool) -> Message:
        """The `state` message, also used as the will with `online` false."""
        body = {"online": online, "epoch": f"{self.outbox.epoch:016x}", "spool_rows": len(self.outbox)}
        return topic(self.settings.tenant, self.settings.node, "state"), json.dumps(body).encode()

    def tick(self, now_us: int) -> list[Message]:
        """Make what is due until `now_us` (true time, never falling) and return what to publish now."""
        if now_us < self._wake_us:
            return []
        for at_s, begins, fault in self._faults.edges(self._time_s(self._seen_us), self._time_s(now_us)):
            at_us = self.settings.start_us + round(at_s * 1e6)
            self._make(at_us - 1)
            self._strike(fault.name, fault.value, at_us, begins=begins)
        self._make(now_us)
        self._seen_us = max(self._seen_us, now_us)
        messages = [(self._up, bundle) for bundle in self.outbox.due(now_us)] if self.linked and self.powered else []
        self._wake_us = self._next_us(now_us)
        return messages

    def on_message(self, name: str, payload: bytes) -> None:
        """A message of the broker: acks end the re-sending of rows, anything else is not for us."""
        if name != self._ack or not self.powered:
            return
        ack = decode_ack(payload)
        if isinstance(ack, Rejected):
            self.counts.bad_acks += 1
            return
        settled = self.outbox.settle(ack)
        self.counts.stored += len(settled.stored)
        self.counts.refused += len(settled.refused)
        for n in settled.stored:
            del self._keys[n]
        self.truth.release(self._keys.pop(n)[1] for n, _ in settled.refused)
        self._wake_us = 0

    def on_link(self, *, up: bool) -> None:
        """The connection came (subscribed) or went."""
        self.linked = up
        self.outbox.link_changed()
        self._wake_us = 0

    def finish(self) -> None:
        """Stop measuring; what is owed is still sent."""
        for maker in self._makers:
            maker.finish()

    def owed(self, device: str | None = None) -> list[tuple[bytes, Key]]:
        """Frames not acknowledged, of one device or of all, by row."""
        tenant = self.settings.tenant
        origins = {f"{tenant}/{device}", f"{tenant}/{self.settings.node}/{device}"}
        return [item for item in self._keys.values() if device is None or item[1][0] in origins]

    def hand_over(self, device: str, to: SimNode) -> int:
        """A wearable roams to box `to`: it makes its frames there from now on and sends there again what was not acknowledged here.

        This box still has them and sends them too, as a real one does. Returns the frames re-sent.
        """
        moving = [maker for maker in self._makers if maker.settings.device == device]
        if not moving or not all(maker.settings.self_numbered for maker in moving):
            raise ValueError(f"{device} is not a wearable of {self.who.username} that numbers its own frames")
        self._makers = [maker for maker in self._makers if maker not in moving]
        to._makers += moving
        again = self.owed(device)
        for raw, key in again:
            to._keep(raw, key)
        to._wake_us = 0
        return len(again)

    def _make(self, until_us: int) -> None:
        for maker in self._makers:
            if maker.next_us <= until_us:
                for raw, made in maker.make(until_us):
                    self._take(raw, made)

    def _take(self, raw: bytes, made: Made) -> None:
        if self._keep(raw, made.key):
            self.truth.add(made)
            self.counts.made += 1

    def _keep(self, raw: bytes, key: Key) -> bool:
        n = self.outbox.append(raw)
        if n is None:
            self.counts.rejected += 1
            return False
        self._keys[n] = (raw, key)
        return True

    def _strike(self, name: str, value: float, at_us: int, *, begins: bool) -> None:
        if name == "dead_battery":
            self._battery(at_us, lose=value >= 0.5, dies=begins)
        elif name == "re_imaged_box" and begins:
            self._lose_outbox()
            for maker in self._makers:
                if not maker.settings.self_numbered or maker.settings.device == self.settings.node:
                    maker.restart(at_us)
        elif name == "roaming" and begins:
            self.moves += 1

    def _battery(self, at_us: int, *, lose: bool, dies: bool) -> None:
        self.powered = not dies
        if dies and lose:
            self._lose_outbox()
        self.outbox.link_changed()
        for maker in self._makers:
            maker.off = dies
            if not dies:
                maker.restart(at_us)

    def _lose_outbox(self) -> None:
        self.counts.died += len(self._keys)
        self.truth.release(key for _, key in self._keys.values())
        self._keys.clear()
        self.outbox = self._new_outbox()

    def _new_outbox(self) -> Outbox:
        key = key_of(self.settings.seed, self.who.username, "epoch", self._epochs)
        self._epochs += 1
        return Outbox(key, self.settings.outbox, key)

    def _next_us(self, now_us: int) -> int:
        makers_us = min((maker.next_us for maker in self._makers if not maker.exhausted), default=_NEVER)
        sends_us = self.outbox.next_us(now_us) if self.linked and self.powered else _NEVER
        edge_s = self._faults.next_edge_s(self._time_s(self._seen_us))
        edge_us = self.settings.start_us + round(edge_s * 1e6) if edge_s < 1e9 else _NEVER
        return min(makers_us, sends_us, edge_us)

    def _time_s(self, true_us: int) -> float:
        return (true_us - self.settings.start_us) / 1e6


class SimDevice(SimNode):
    """A wearable that is its own node: node id = device id, and it numbers its own frames."""

    def __init__(
        self,
        settings: MakerSettings,
        source: Source,
        truth: Truth,
        *,
        outbox: OutboxSettings | None = None,
        faults: FaultPlan | None = None,
    ) -> None:
        if settings.node != settings.device or not settings.self_numbered:
            raise ValueError(f"device {settings.device} must be its own node {settings.node} and number its own frames")
        node = NodeSettings(settings.tenant, settings.node, settings.seed, settings.start_us, outbox or OutboxSettings())
        super().__init__(node, [FrameMaker(settings, source, faults)], truth, faults)
