"""Makes `tests.servers` importable from every rung (with this file pytest puts the project's folder on the path), and says how properties are tried.

No example has a deadline: a busy machine is no error. The normal run tries the same examples each time, so that it fails for what changed;
nightly tries new ones.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("normal", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    """The profile of this run, before any test is imported."""
    settings.load_profile("nightly" if config.getoption("markexpr") == "nightly" else "normal")
