"""`python -m tests.made_ahead`: fetches and builds what the tests need of other programs, before the first of them asks.

Each is made once, into `.cache/tools`, and a test that comes meanwhile waits for it. What cannot be made here is said by the test that
needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tests.chromium_package import find_or_install_chromium
from tests.debian_packages import ServerUnavailableError
from tests.influx_server import find_influxd
from tests.kafka_server import find_java, kafka_jars
from tests.operator_check import checker
from tests.servers import find_or_install_mosquitto

MADE: Final[tuple[Callable[[], object], ...]] = (  # in the order in which tests ask
    find_or_install_mosquitto, kafka_jars, find_java, find_or_install_chromium, find_influxd, checker,
)  # fmt: skip

if __name__ == "__main__":
    for make in MADE:
        with suppress(ServerUnavailableError):
            make()
