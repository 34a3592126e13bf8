"""Makes `tests.servers` importable from every rung (with this file pytest puts the project's folder on the path), and says how properties are tried.

No example has a deadline: a busy machine is no error. The normal run tries the same examples each time, so that it fails for what changed;
nightly tries new ones. Processes of a run that go side by side draw ports from parts of their own: a server that a test killed finds its
port free when it starts again.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from paceline.supervise import PORTS, own_ports

settings.register_profile("normal", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    """The profile of this run, before any test is imported."""
    settings.load_profile("nightly" if config.getoption("markexpr") == "nightly" else "normal")
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        ports, number, count = own_ports(), int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        if part := ports[len(ports) * number // count : len(ports) * (number + 1) // count]:
            os.environ[PORTS] = f"{part[0]}-{part[-1]}"
