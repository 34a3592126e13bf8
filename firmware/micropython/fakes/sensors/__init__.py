"""Sensors by their registers, from the data sheets: identity, modes, FIFO with its pointers and overflow, interrupt lines, addresses that do not answer."""
