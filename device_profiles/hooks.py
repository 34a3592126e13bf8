"""Where data stops: one named function per profile at most, called with every packet after the table and before rates and samples.

A hook adds to `fields`, or changes them; `state` is a dict of its own that lives as long as the reader. It raises nothing, whatever the
bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from device_profiles.values import Value

Hook = Callable[[bytes, dict[str, Value], dict[str, object]], None]

HOOKS: Final[Mapping[str, Hook]] = {}
