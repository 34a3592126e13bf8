"""Generated for each image: what the fields of profiles come to."""

SERVICES: dict[int, tuple[tuple[int, str], ...]]
RULES: dict[str, str]
