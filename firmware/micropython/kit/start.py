"""The first thing a device does: find the image to start, and put it in front of what the base image brings along. Called from `boot.py`.

    start(flash, {0: partition_a, 1: partition_b})

Small, and never updated over the air: whatever an image does to itself, this is what comes after the next reset.
"""

import os
import sys

from kit.romfs import RomFs
from kit.slots import NONE, Slots

ROOT = "/app"


def start(flash, slots_by_number, mount, root=ROOT):
    """Mount the chosen image at `root` and let modules come from there first. The record, and the number of the slot or None for the base
    image.

    `mount` is `vfs.mount`. An image on trial that cannot be mounted has failed at once, so that nothing else is confirmed in its name; where
    the one that proved itself cannot be, the base image runs.
    """
    slots = Slots(flash)
    chosen = slots.choose()
    while chosen is not None:
        try:
            mount(RomFs(slots_by_number[chosen]), root)
            break
        except OSError:
            if slots.trial == NONE:
                return slots, None
            slots.give_up()
            chosen = slots.choose()
    if chosen is not None:
        sys.path.insert(0, root)
        own = [name.split(".")[0] for name in os.listdir(root)]
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            del sys.modules[name]  # the image has its own
    return slots, chosen
