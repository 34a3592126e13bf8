"""The rules a node must keep, judged from what it published. Pure: messages and times in, verdicts out; `paceline.node_check` is the shell.

The judge sees the traffic of one node while the shell withholds acks, acknowledges, refuses and cuts the link. Each rule names the section
of docs/wire.md that states it. A rule that had no occasion to be broken is "not seen", never "kept".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from broker.bundles import Bundle, decode_bundle
from broker.errors import Rejected
from broker.frames import Clock, Frame, decode_frame
from broker.ids import subject_tenant
from broker.json_frames import JsonMessage, decode_json_message
from broker.topics import parse_topic

RULES: Final = {
    "topic": ("publishes only on its own topics", "2. Topics and credentials"),
    "qos": ("sends with QoS 1, not retained", "2. Topics and credentials"),
    "bundle": ("every bundle has a right header and whole rows", "3. The bundle"),
    "frame": ("every frame decodes", "4. The frame"),
    "json": ("the JSON form follows its schema, with epoch and n", "6. The JSON form"),
    "subject": ("subjects belong to the tenant of the credential", "4. The frame"),
    "time": ("no frame is dated in the future", "8. Clocks"),
    "rows": ("one epoch; new rows are consecutive", "3. The bundle"),
    "numbering": ("seq of a (device, boot) goes up by one a frame", "4. The frame"),
    "identical": ("a row sent again is the same, byte for byte", "7. Acks and sending again"),
    "probe": ("without acks it sends again, the oldest row first", "7. Acks and sending again"),
    "flood": ("without acks it sends at most one probe per second", "7. Acks and sending again"),
    "stored": ("a row acknowledged as stored is not sent again", "7. Acks and sending again"),
    "refused": ("a refused row is not sent again", "7. Acks and sending again"),
    "resume": ("after a broken link it comes back and sends what it owes", "7. Acks and sending again"),
}
FUTURE_US: Final = 300_000_000
_GRACE_S: Final = 1.5  # an ack may cross a message on the way
_MAX_PROBES_PER_S: Final = 1.5
_FIRST_WORDS: Final = 3  # findings kept a rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule: `kept`, `broken` or `not seen`, with what was found."""

    rule: str
    state: str
    about: str
    section: str
    found: tuple[str, ...]


@dataclass(slots=True)
class _Row:
    raw: bytes
    sent_s: list[float] = field(default_factory=list[float])
    settled_s: float | None = None
    refused: bool = False


class NodeJudge:
    """Collects what one node publishes. Times are seconds of any monotonic clock."""

    def __init__(self, tenant: str, node: str) -> None:
        self._tenant, self._node = tenant, node
        self._occasions: set[str] = set()
        self._findings: dict[str, list[str]] = {rule: [] for rule in RULES}
        self._rows: dict[int, _Row] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._firsts: dict[tuple[str, int], int] = {}
        self._withheld_s: float | None = None
        self._probes: list[tuple[float, int]] = []
        self._cut_s: float | None = None
        self._owed_at_cut: set[int] = set()
        self.epoch: int | None = None
        self.json = False
        self.messages = 0

    def owed(self) -> list[int]:
        """Rows seen and not settled."""
        return sorted(n for n, row in self._rows.items() if row.settled_s is None)

    def on_message(self, name: str, payload: bytes, qos: int, retained: bool, now_s: float, now_us: int) -> None:
        """One message the broker delivered. `now_us` is UTC."""
        address = parse_topic(name)
        if address is None or (address.tenant, address.node) != (self._tenant, self._node):
            self._break("topic", f"a message on {name}")
            return
        self._occasions.add("topic")
        if address.leaf not in {"up", "up/json"}:
            return
        self.messages += 1
        self._check("qos", qos == 1 and not retained, f"{name} came with QoS {qos}" + (" and retained" if retained else ""))
        if address.leaf == "up":
            self._on_bundle(decode_bundle(payload), now_s, now_us)
        else:
            self.json = True
            self._on_json(decode_json_message(payload, now_us), now_s, now_us)

    def withhold(self, now_s: float) -> None:
        """From now on no ack is sent."""
        self._withheld_s = now_s
        self._probes.clear()

    def settle(self, stored: Iterable[int], refused: Iterable[int], now_s: float) -> None:
        """An ack with these rows is sent now."""
        if self._withheld_s is not None:
            self._judge_silence(now_s)
            self._withheld_s = None
        for numbers, kind in ((stored, "stored"), (refused, "refused")):
            for n in numbers:
                row = self._rows[n]
                if row.settled_s is None:
                    row.settled_s, row.refused = now_s, kind == "refused"
                    self._occasions.add(kind)

    def cut(self, now_s: float) -> None:
        """The link is broken now, with rows owed."""
        self._cut_s, self._owed_at_cut = now_s, set(self.owed())
        self._withheld_s = None

    def resumed(self) -> bool:
        """Everything that was owed at the cut came again."""
        return self._cut_s is not None and all(self._rows[n].sent_s[-1] > self._cut_s for n in self._owed_at_cut)

    def end_cut(self) -> None:
        """The time to come back is over."""
        self._check("resume", self.resumed(), f"{len(self._owed_at_cut)} rows were owed when the link broke; they did not all come again")

    def verdicts(self) -> list[Verdict]:
        """All rules, in order."""
        done: list[Verdict] = []
        for rule, (about, section) in RULES.items():
            found = self._findings[rule]
            state = "broken" if found else "kept" if rule in self._occasions else "not seen"
            done.append(Verdict(rule, state, about, section, tuple(found)))
        return done

    def _on_bundle(self, bundle: Bundle | Rejected, now_s: float, now_us: int) -> None:
        if isinstance(bundle, Rejected):
            self._break("bundle", bundle.detail)
            return
        self._check("bundle", bundle.complete, f"{len(bundle.rows)} whole rows of {bundle.count}")
        again = self._take(bundle.epoch, bundle.first_n, bundle.rows, now_s)
        for n, raw in enumerate(bundle.rows, bundle.first_n):
            frame = decode_frame(raw)
            if isinstance(frame, Rejected):
                self._break("frame", f"row {n}: {frame.reason}: {frame.detail}")
            else:
                self._occasions.add("frame")
                self._on_frame(frame, again=n in again, now_us=now_us)

    def _on_json(self, message: JsonMessage | Rejected, now_s: float, now_us: int) -> None:
        if isinstance(message, Rejected):
            self._break("json", message.detail)
            return
        self._check("json", message.epoch is not None, "no epoch and n: without them nothing is acknowledged")
        again: set[int] = set()
        if message.epoch is not None:
            raws = [row.raw if isinstance(row, Rejected) else row[0] for row in message.rows]
            again = self._take(message.epoch, message.first_n, raws, now_s)
        for i, row in enumerate(message.rows):
            if isinstance(row, Rejected):
                self._break("json", f"row {i}: {row.reason}: {row.detail}")
            else:
                self._on_frame(row[1], again=message.first_n + i in again, now_us=now_us)

    def _take(self, epoch: int, first_n: int, raws: Iterable[bytes], now_s: float) -> set[int]:
        """Enter the rows; the numbers of those seen before."""
        if self.epoch is None:
            self.epoch = epoch
        self._check("rows", epoch == self.epoch, f"epoch {epoch:016x} after {self.epoch:016x}")
        again: set[int] = set()
        for n, raw in enumerate(raws, first_n):
            row = self._rows.get(n)
            if row is None:
                if self._rows and n > next(iter(self._rows)):  # older ones were sent before anybody listened
                    self._check("rows", n == max(self._rows) + 1, f"row {n} after row {max(self._rows)}")
                self._rows[n] = _Row(raw, [now_s])
                continue
            again.add(n)
            self._check("identical", raw == row.raw, f"row {n} changed")
            row.sent_s.append(now_s)
            if row.settled_s is not None and now_s - row.settled_s > _GRACE_S:
                kind = "refused" if row.refused else "stored"
                self._break(kind, f"row {n} came again {now_s - row.settled_s:.1f} s after it was {kind}")
        if again and self._withheld_s is not None:
            self._probes.append((now_s, min(again)))
        return again

    def _on_frame(self, frame: Frame, *, again: bool, now_us: int) -> None:
        if frame.subject:
            self._check("subject", subject_tenant(frame.subject) == self._tenant, f"subject {frame.subject!r}")
        if frame.utc_offset_us is not None and frame.clock != Clock.RECORDED:
            ahead_us = frame.t0_us + frame.utc_offset_us - now_us
            self._check("time", ahead_us <= FUTURE_US, f"seq {frame.seq} is dated {ahead_us / 1e6:.0f} s ahead")
        if again:
            return
        key = (frame.device, frame.boot)
        last = self._numbers.get(key)
        if last is not None and frame.seq > self._firsts[key]:
            self._check("numbering", frame.seq == last + 1, f"{frame.device}: seq {frame.seq} after {last}")
        self._numbers[key] = max(frame.seq, last or 0)
        self._firsts.setdefault(key, frame.seq)

    def _judge_silence(self, now_s: float) -> None:
        """Judge the time without acks that ends now."""
        assert self._withheld_s is not None
        silent_s = now_s - self._withheld_s
        oldest = min((n for n, row in self._rows.items() if row.settled_s is None), default=None)
        if oldest is None:
            return
        self._check("probe", bool(self._probes), f"nothing was sent again in {silent_s:.0f} s without an ack")
        if self._probes:
            self._check("probe", any(first == oldest for _, first in self._probes), f"row {oldest} is the oldest and was not sent again")
            most = max(3.0, silent_s * _MAX_PROBES_PER_S)
            self._check("flood", len(self._probes) <= most, f"{len(self._probes)} messages sent again in {silent_s:.0f} s without an ack")

    def _check(self, rule: str, kept: bool, found: str) -> None:
        self._occasions.add(rule)
        if not kept:
            self._break(rule, found)

    def _break(self, rule: str, found: str) -> None:
        self._occasions.add(rule)
        if len(self._findings[rule]) < _FIRST_WORDS:
            self._findings[rule].append(found)
