"""A gateway process under a service manager: it says ready once its spool is open, feeds the watchdog, and says that it stops."""

from __future__ import annotations

import asyncio
import signal
import socket

from tests.servers import start_amqtt
from tests.system.gateway_process import BOX, PLATFORM, GatewayProcess


async def test_manager_hears_ready_watchdog_state_of_the_uplink_and_stopping(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        async def heard() -> dict[str, str]:
            async with asyncio.timeout(60):
                raw = await asyncio.get_running_loop().sock_recv(manager, 4096)
            return dict(line.split("=", 1) for line in raw.decode().split("\n"))

        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        async with start_amqtt(tmp_path / "central", users=(BOX, PLATFORM)) as central:
            box = GatewayProcess(tmp_path, central)
            box.start()
            assert (await heard())["READY"] == "1"
            fed = 0
            while not (told := await heard())["STATUS"].startswith("uplink up") or fed < 3:
                fed += "WATCHDOG" in told
            assert told["WATCHDOG"] == "1"
            assert box.process is not None
            box.process.send_signal(signal.SIGTERM)
            while "STOPPING" not in await heard():
                pass
            assert await box.ended(60) == 0, box.log()
