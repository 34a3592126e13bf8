"""Generated for each image: what the fields of profiles come to."""

from typing import Any

SERVICES: dict[int, tuple[tuple[int, str], ...]]
RULES: dict[str, dict[str, Any]]
