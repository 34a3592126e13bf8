"""Keeps the identity of an enrolled node good: asks its authority how the certificate stands, and renews it when it is time.

The authority decides (two thirds of the life, a new root), so a wrong clock here changes nothing. While the uplink is away it is asked more
often, because an expired or revoked certificate may be why, and the answer says what to do. A node that was offline for long renews when it
is back: an expired certificate still proves its key. Nothing is thrown away when that fails: the spool keeps what is owed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker.errors import ConfigError, PacelineError
from broker.liveness import Part, unwatched
from gateway.enrolment import ask_standing, renew
from gateway.identity import load_identity

_log = logging.getLogger(__name__)

AWAY_CHECK_S: Final = 30.0
CLOCK_TOLERANCE_S: Final = 300.0
_LOOK_S: Final = 1.0


class IdentityKeeper:
    """`await run()` until cancelled. `renewed()` is called when another certificate is in place; `connected()` says how the uplink is.

    `check_s`: how often the authority is asked while all is well. `trouble` is what is wrong now, with its cure; empty when nothing is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        check_s: float,
        renewed: Callable[[], None],
        connected: Callable[[], bool],
        random: Callable[[], float],
        now_s: Callable[[], float] = time.time,
        alive: Part | None = None,
    ) -> None:
        self._folder = folder
        self._check_s = check_s
        self._renewed = renewed
        self._connected = connected
        self._random = random
        self._now_s = now_s
        self._alive = alive or unwatched()
        self.trouble = ""
        self.renewals = 0

    async def run(self) -> None:
        """Ask, renew, wait."""
        while True:
            await self._look_after()
            await self._wait()

    async def _look_after(self) -> None:
        try:
            if await asyncio.to_thread(self._ask):
                self.renewals += 1
                self._renewed()
        except PacelineError as error:
            self._say(f"identity: {error.message}; {error.cure}")
        except OSError as error:
            self._say(f"identity: {self._folder}: {error.strerror or error}")

    def _ask(self) -> bool:
        """Whether the certificate was renewed (a thread of its own)."""
        identity = load_identity(self._folder)
        if identity is None:
            raise ConfigError(f"{self._folder}: no identity there", cure="enrol with a code of `paceline node add`")
        standing = ask_standing(identity)
        ahead_s = self._now_s() - standing.time_s
        if abs(ahead_s) > CLOCK_TOLERANCE_S:
            side = "ahead of" if ahead_s > 0 else "behind"
            self._say(f"identity: this clock is {abs(ahead_s) / 3600:.1f} h {side} the authority's; set it (timedatectl set-ntp true)")
        else:
            self.trouble = ""
        if not standing.renew:
            return False
        after = renew(identity)
        _log.info("%s: another certificate (%s), good until %d", after.username, standing.why, after.place.not_after_s)
        return True

    async def _wait(self) -> None:
        """Until the next question: soon while the uplink is away, spread so that a thousand nodes do not ask at once."""
        loop = asyncio.get_running_loop()
        asked_s, spread = loop.time(), 0.5 + self._random()
        while True:
            self._alive.beat()
            away_s = min(AWAY_CHECK_S, self._check_s)
            wait_s = (self._check_s if self._connected() else away_s) * spread
            left_s = asked_s + wait_s - loop.time()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, _LOOK_S))

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("%s", trouble)
        self.trouble = trouble
