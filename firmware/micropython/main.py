"""Runs after `boot.py`: the device, until it resets itself. An exception here, or a device that hangs, is a failed start."""

import bluetooth
import esp32
import machine
import network

import application
from kit.device import Port, console_line

application.make(Port(machine, network, esp32, bluetooth, line=console_line)).run()
