"""The front door: one command, wiring only."""
