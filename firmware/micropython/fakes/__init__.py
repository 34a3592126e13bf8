"""Parts of a board for the unix port and CPython: what real hardware does, as far as the kit can tell."""
