# pyright: reportAttributeAccessIssue=true, reportArgumentType=true
"""Runs after `boot.py`: the device, until it resets itself.

The watchdog runs before anything of an image is imported: one that hangs, or ends with an exception, is reset by it and has one try less.
"""

import bluetooth
import esp32
import machine
import network

watchdog = machine.WDT(timeout=60_000)

import application
from kit.device import Port, console_line

application.make(Port(machine, network, esp32, bluetooth, line=console_line, feed=watchdog.feed)).run()
