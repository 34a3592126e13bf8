"""There is no network on this board: enough for modules to be imported."""
