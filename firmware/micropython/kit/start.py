"""The first thing a device does: find the image to start, and put it in front of what the base image brings along. Called from `boot.py`.

    start(flash, {0: partition_a, 1: partition_b})

Small, and never updated over the air: whatever an image does to itself, this is what comes after the next reset.
"""

import os
import sys

from kit.romfs import RomFs
from kit.slots import Slots

ROOT = "/app"


def start(flash, slots_by_number, mount, root=ROOT):
    """Mount the chosen image at `root` and let modules come from there first. The record, and the number of the slot or None for the base
    image.

    `mount` is `vfs.mount`. A slot whose image cannot be mounted costs its try and gives way to the base image for this start.
    """
    slots = Slots(flash)
    chosen = slots.choose()
    if chosen is not None:
        try:
            mount(RomFs(slots_by_number[chosen]), root)
        except OSError:
            return slots, None
        sys.path.insert(0, root)
        own = [name.split(".")[0] for name in os.listdir(root)]
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            del sys.modules[name]  # the image has its own
    return slots, chosen
