"""The table engine; its types stand in `device_profiles/engine.pyi`."""

from typing import Any

PLANS_KEPT: int

class Pack:
    def __init__(self, blob: bytes) -> None: ...
    def decoder(self, name: str) -> Any: ...
