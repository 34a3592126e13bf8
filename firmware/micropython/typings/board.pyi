"""Generated for each image: its board (`paceline/device/board.py`)."""

from typing import Any

NAME: str
EXAMPLE: str
HARDWARE: str
VERSION: int
PINS: dict[str, int]
SETTINGS: dict[str, Any]
MEMORY: dict[str, int]
PARTITIONS: tuple[tuple[str, int, int], ...]
