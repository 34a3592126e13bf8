"""The box as a product: its page until it knows its platform, then the gateway, with the page beside it for its state. Wiring only.

Not set up is a state, not a failure: the service manager hears that the box is ready and waits to be set up.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Literal

from broker.liveness import Liveness
from broker.watch import Watch
from gateway.app import Gateway, run
from gateway.data_lock import locked_directory
from gateway.keeping import keep_running
from gateway.notify import Notifier, keep_told, notifier_of
from gateway.settings import BleSettings, GatewaySettings
from gateway.setup_check import try_credential
from gateway.setup_code import SetupCode
from gateway.setup_credential import BoxCredential, load_credential
from gateway.setup_desk import SetupDesk
from gateway.setup_ears import list_what_is_near
from gateway.setup_http import PageServer
from gateway.setup_notice import Shown, lan_address, notice, runtime_dir
from gateway.setup_page import BoxView


@dataclass(frozen=True, slots=True)
class BoxSettings:
    """Where the box keeps its data, where its page listens, what becomes of it after the set-up, and how the box listens until then."""

    data_dir: Path
    host: str
    port: int
    after: Literal["state", "closed"]
    ble: BleSettings


async def run_box(box: BoxSettings, settings_of: Callable[[BoxCredential], GatewaySettings], watch: Watch | None = None) -> None:
    """Run until cancelled. `settings_of` gives the gateway's settings once the platform is known; `watch` sees what it counts.

    ConfigError when the page's port is taken or what was saved cannot be read; StoreError when the data folder cannot be written.
    """
    watch = watch or Watch("gateway")
    notifier = notifier_of(os.environ, os.getpid())
    credential = load_credential(box.data_dir)
    code = None if credential is not None else SetupCode(secrets.randbelow, time.monotonic)
    desk = SetupDesk(box.data_dir, code, try_credential, stays=box.after == "state")
    if credential is not None and box.after == "closed":
        await run(settings_of(credential), notifier=notifier, watch=watch)
        return
    async with PageServer(box.host, box.port, (socket.gethostname().lower(), "localhost"), desk.answer) as server:
        if credential is None:
            assert code is not None
            watch.ready_when("set-up", lambda: "" if load_credential(box.data_dir) else "waits to be set up")
            credential = await _set_up(box, desk, notifier, notice(lan_address(), server.port, code.text))
            if box.after == "closed":
                server.close()

        def seen(gateway: Gateway, known: BoxCredential = credential) -> None:
            desk.view = lambda: _view(gateway, known)

        await run(settings_of(credential), notifier=notifier, seen=seen, watch=watch)


async def _set_up(box: BoxSettings, desk: SetupDesk, notifier: Notifier, text: str) -> BoxCredential:
    """Show where the page is until somebody has set the box up."""
    shown = Shown(runtime_dir(os.environ))
    with locked_directory(box.data_dir):
        told = asyncio.create_task(
            keep_told(notifier, Liveness(time.monotonic), lambda: "waits to be set up: its page and code are in the log")
        )
        hearing = asyncio.create_task(
            keep_running("listening", lambda: list_what_is_near(box.data_dir, box.ble), Counter(), random=SystemRandom().random)
        )
        shown.show(text)
        try:
            return await desk.set_up()
        finally:
            shown.hide()
            for task in (told, hearing):
                task.cancel()
            await asyncio.wait((told, hearing))


def _view(gateway: Gateway, credential: BoxCredential) -> BoxView:
    state = gateway.state()
    return BoxView(
        name=credential.username,
        uplink=f"{credential.host}:{credential.port}",
        connected=gateway.connected,
        trouble=gateway.uplink_error,
        hours_left=state.hours_left,
        frames_owed=state.spool_rows,
        clock_set=not state.counters.get("clock_unset", 0),
    )
