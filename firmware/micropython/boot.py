# pyright: reportAttributeAccessIssue=true, reportArgumentType=true
"""Runs first after each reset of a board: puts the chosen image in front of what lies on the file system."""

import esp32
import vfs

from kit.start import start

start(
    esp32.Partition.find(esp32.Partition.TYPE_DATA, label="boot")[0],
    {number: esp32.Partition.find(esp32.Partition.TYPE_DATA, label=name)[0] for number, name in enumerate(("app_a", "app_b"))},
    vfs.mount,
)
