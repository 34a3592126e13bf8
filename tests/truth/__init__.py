"""The truth rung: the real Linux Bluetooth stack (kernel, bluetoothd) in an emulated guest, with Bumble's controllers as its radio."""
