"""Bluetooth LE on the device: a central for straps and machines, a heart-rate server, and what both need of memory."""
