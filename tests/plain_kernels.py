"""The kernels without numba, in this process: a second copy of their modules."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def plain(*names: str) -> list[Any]:
    """The named modules of `processors.kernels` as the interpreter runs them."""
    ours = {name: module for name, module in sys.modules.items() if name.startswith("processors.kernels")}
    numba: ModuleType | None = sys.modules.get("numba")
    for name in ours:
        del sys.modules[name]
    sys.modules["numba"] = None  # pyright: ignore[reportArgumentType]
    try:
        found = [importlib.import_module(f"processors.kernels.{name}") for name in names]
        assert not importlib.import_module("processors.kernels.compiled").COMPILED
    finally:
        for name in [name for name in sys.modules if name.startswith("processors.kernels")]:
            del sys.modules[name]
        sys.modules.update(ours)
        del sys.modules["numba"]
        if numba is not None:
            sys.modules["numba"] = numba
    return found
