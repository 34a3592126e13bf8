"""Makes `tests.servers` importable from every rung: with this file pytest puts the project's folder on the path."""
