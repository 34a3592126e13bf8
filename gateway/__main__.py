"""`python -m gateway SETTINGS.json`: one gateway process. SIGTERM and Ctrl-C end it in order; exit 2 is a wrong setting."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from broker.errors import ConfigError, PacelineError
from broker.logs import set_up_log
from gateway.app import run
from gateway.settings import GatewaySettings, load_settings


async def _until_signalled(settings: GatewaySettings) -> None:
    task = asyncio.ensure_future(run(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def main(arguments: list[str]) -> int:
    """Run with the settings in the file named by the one argument."""
    set_up_log("info", role="gateway")
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gateway SETTINGS.json\n")
        return 2
    try:
        asyncio.run(_until_signalled(load_settings(Path(arguments[0]))))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PacelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
