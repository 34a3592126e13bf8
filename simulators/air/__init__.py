"""Virtual sensors behind a Bluetooth stack in Python (Bumble): real ATT bytes, for its own central and for a real bluetoothd."""
