"""The one way a person's change of segments, athletes and bindings gets in: durably into the log, then to the boxes it concerns.

The stages learn of it from the log, like of frames. A binding is also written into the configuration of every node that hears the device,
so that the box stamps from then on; that file is only a help: the platform routes by the log in any case.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

from broker.errors import ConfigError
from broker.logrecord import Kind, LogRecord
from broker.nodeconfig import Binding, NodeConfig, parse_node_config
from broker.reference import BindingRef, Reference, encode_reference
from broker.replace_file import replace_file
from processors.wall import wall_us

_log = logging.getLogger(__name__)

FOREVER_US: Final = 1 << 62
_MADE: Final = re.compile(r"b([0-9a-f]{16})", re.ASCII)

Standing = Callable[[str], Iterable[BindingRef]]
"""All bindings of a tenant as the stores have them, removed ones too."""
Hearing = Callable[[str, str], Iterable[str]]
"""The nodes of a tenant that hear a device."""


class ChangeLog(Protocol):
    """Where changes become durable."""

    def append(self, records: Sequence[LogRecord]) -> int:
        """All or none; the position of the first. StoreError: not stored."""
        ...


class ReferenceWriter:
    """Blocking: call it in a thread."""

    def __init__(
        self,
        log: ChangeLog,
        node_configs: Path,
        *,
        standing: Standing,
        hearing: Hearing,
        clock_us: Callable[[], int] = wall_us,
        mark: str = "",
    ) -> None:
        """`mark`: what ids made here end with, where several processes make some at once."""
        self._log = log
        self._folder = node_configs
        self._standing = standing
        self._hearing = hearing
        self._clock_us = clock_us
        self._mark = mark
        self._lock = threading.Lock()
        self._written: dict[tuple[str, str], BindingRef] = {}  # the stores may not have them yet
        self._last_us = 0

    def put(self, value: Reference) -> int:
        """Make a change durable; its log position. StoreError: nothing was stored."""
        return self.put_all([value])

    def put_all(self, values: Sequence[Reference]) -> int:
        """Make changes durable, all or none; the log position of the last one."""
        with self._lock:
            now_us = self._clock_us()
            records = [LogRecord(Kind.REFERENCE, v.tenant, v.tenant, "", now_us, encode_reference(v)) for v in values]
            last = self._log.append(records) + len(records) - 1
            for value in values:
                if isinstance(value, BindingRef):
                    self._written[value.tenant, value.id] = value
                    self._tell(value)
            return last

    def new_binding_id(self, tenant: str) -> str:
        """An id greater than all before that the stores know, whoever made them: of bindings that cover an instant the newest wins."""
        with self._lock:
            made = (found for b in self._standing(tenant) if (found := _MADE.match(b.id)))
            newest_us = max((int(found[1], 16) for found in made), default=0)
            self._last_us = max(self._clock_us(), self._last_us + 1, newest_us + 1)
            return f"b{self._last_us:016x}{self._mark}"

    def _tell(self, changed: BindingRef) -> None:
        nodes = {changed.node} if changed.node else set(self._hearing(changed.tenant, changed.device))
        stored = {b.id: b for b in self._standing(changed.tenant)}
        self._written = {name: b for name, b in self._written.items() if name[0] != changed.tenant or stored.get(name[1]) != b}
        known = [*(stored | {ident: b for (tenant, ident), b in self._written.items() if tenant == changed.tenant}).values()]
        for node in sorted(nodes):
            path = self._folder / changed.tenant / f"{node}.json"
            try:
                rewrite_bindings(path, node, changed.device, known)
            except (ConfigError, OSError) as error:
                _log.error("binding %s/%s: node %s is not told: %s", changed.tenant, changed.id, node, error)


def rewrite_bindings(path: Path, node: str, device: str, known: Iterable[BindingRef]) -> None:
    """Put the bindings of `device` that `node` has to know into its configuration, with the next version; leave the others as they are.

    ConfigError when the file there is no configuration.
    """
    try:
        config = parse_node_config(path.read_bytes(), str(path))
    except FileNotFoundError:
        config = NodeConfig(version=0)
    about = [b for b in known if b.device == device and b.node in {"", node}]
    bindings = (*(b for b in config.bindings if b.device != device), *timeline(about))
    made = config.model_copy(update={"version": config.version + 1, "bindings": bindings})
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, made.model_dump_json(indent=1, exclude_none=True).encode() + b"\n", mode=0o644)


def timeline(bindings: Iterable[BindingRef]) -> list[Binding]:
    """The bindings of one device as spans that do not overlap: at each instant that of the greatest id, as the platform sees it."""
    standing = sorted((b for b in bindings if not b.removed), key=lambda b: b.id, reverse=True)
    edges = sorted({t for b in standing for t in (_from(b), _to(b))})
    made: list[Binding] = []
    for first, end in pairwise(edges):
        winner = next((b for b in standing if _from(b) <= first and end <= _to(b)), None)
        if winner is None:
            continue
        to_us = None if end == FOREVER_US else end
        if made and made[-1].athlete == winner.athlete and made[-1].to_us == first:
            made[-1] = made[-1].model_copy(update={"to_us": to_us})
        else:
            made.append(Binding(device=winner.device, athlete=winner.athlete, from_us=None if first == -FOREVER_US else first, to_us=to_us))
    return made


def _from(b: BindingRef) -> int:
    return -FOREVER_US if b.from_us is None else b.from_us


def _to(b: BindingRef) -> int:
    return FOREVER_US if b.to_us is None else b.to_us
