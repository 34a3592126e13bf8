"""The main module of an image."""

from kit.device import Device, Port

def make(port: Port) -> Device: ...
