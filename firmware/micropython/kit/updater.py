"""Asks for updates now and then, takes what is meant for this device, and puts it on trial; confirms or gives up what is on trial.

    updater = Updater("http://host:8870", {1: slots}, {1: partition_of}, keys, hardware, clock.utc_us, running, machine.reset, log)
    asyncio.create_task(updater.run())
    updater.acknowledged()                # the first bundle was: what runs is good

`reset()` starts the device again: once a new image is whole, and when what is on trial was not acknowledged for `TRIAL_S`.
"""

import asyncio
import sys

import kit
from kit.slots import NONE

FIRST_S = 30
AGAIN_S = 6 * 3600
TRIAL_S = 600
DOWNLOAD_S = 1800  # for all of a download: what has come until then stays, and is gone on from at the next time
_FOR_A_WHILE = ("taking", "manifest", "ed25519", "fetch", "update")


class Updater:
    """`slots` maps kinds of images to the records of their slots, `targets` kinds to a function that gives the block device for a slot's
    number.
    """

    def __init__(self, url, slots, targets, keys, hardware, utc_us, running, reset, log):
        self.last = ""  # why the last offer was not taken, or the trouble with asking
        self._url = url
        self._slots = slots
        self._targets = targets
        self._keys = keys
        self._hardware = hardware
        self._utc_us = utc_us
        self._running = running
        self._reset = reset
        self._log = log

    @property
    def on_trial(self):
        return any([record.trial != NONE for record in self._slots.values()])

    def acknowledged(self):
        """The platform keeps what this image sent: it has proved itself."""
        for record in self._slots.values():
            if record.trial != NONE and record.confirm():
                self._log.info("version %d is confirmed" % record.version)

    async def run(self):
        """Until cancelled."""
        if self.on_trial:
            await asyncio.sleep(TRIAL_S)
            for record in self._slots.values():
                if record.trial != NONE:
                    self._log.warning("version %d: nothing acknowledged in %d s, back to what ran before" % (record.trial_version, TRIAL_S))
                    record.give_up()
                    self._reset()
                    return
        wait_s = FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = AGAIN_S
            try:
                if await asyncio.wait_for(self.ask(), DOWNLOAD_S):
                    self._reset()
                    return
            except asyncio.TimeoutError:
                self.last = "not whole after %d s: it goes on from there next time" % DOWNLOAD_S
                self._log.warning("updates: %s" % self.last)
            except (OSError, EOFError, ValueError) as error:
                self.last = "%s: %s" % (type(error).__name__, error)
                self._log.info("updates: %s" % self.last)

    async def ask(self):
        """Take the offer there is, if it is for this device. True if it is on trial from the next start on."""
        try:
            from kit import taking

            self.last, taken = await taking.take(
                self._url, self._slots, self._targets, self._keys, self._hardware, self._utc_us, self._running, self._log
            )
        finally:
            _put_away()
        return taken


def _put_away():
    """Modules that are needed for a while leave the heap again; on a device their code lies in flash."""
    if sys.implementation.name == "micropython":
        for name in _FOR_A_WHILE:
            if sys.modules.pop("kit." + name, None) is not None:
                delattr(kit, name)
