"""Asks for updates now and then, takes what is meant for this device, and puts it on trial; confirms or gives up what is on trial.

    updater = Updater("http://host:8870", {1: slots}, {1: partition_of}, keys, hardware, clock.utc_us, running, machine.reset, log)
    asyncio.create_task(updater.run())
    updater.acknowledged()                # the first bundle was: what runs is good

`reset()` starts the device again: once a new image is whole, and when what is on trial was not acknowledged for `TRIAL_S`.
"""

import asyncio

from kit import manifest as manifests
from kit.fetch import HttpError, fetch, place_of
from kit.slots import NONE
from kit.update import Download

FIRST_S = 30
AGAIN_S = 6 * 3600
TRIAL_S = 600
TRIES = 5


class Updater:
    """`slots` maps kinds of images to the records of their slots, `targets` kinds to a function that gives the block device for a slot's
    number.
    """

    def __init__(self, url, slots, targets, keys, hardware, utc_us, running, reset, log):
        self.last = ""  # why the last offer was not taken, or the trouble with asking
        self.host, self.port, self.path = place_of(url)
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
                if await self.ask():
                    self._reset()
                    return
            except (OSError, EOFError, HttpError, asyncio.TimeoutError) as error:
                self.last = "%s: %s" % (type(error).__name__, error)
                self._log.info("updates: %s" % self.last)

    async def ask(self):
        """Fetch the offer and, if it is for this device, the image. True if it is on trial from the next start on."""
        raw = bytearray()
        await fetch(
            self.host,
            self.port,
            "%s/%s.manifest" % (self.path, self._hardware),
            lambda part: raw.extend(part[: manifests.SIZE + 1 - len(raw)]),
        )
        utc_us = self._utc_us()
        now_s = None if utc_us is None else utc_us // 1_000_000
        room, highest, failed = {}, self._running, 0
        kind = raw[4] if len(raw) > 4 else 0
        record = self._slots.get(kind)
        if record is not None:
            target = self._targets[kind](record.spare())
            room[kind] = target.ioctl(4, 0) * target.ioctl(5, 0)
            highest, failed = max(highest, record.version), record.failed_version
        manifest, self.last = manifests.judge(raw, self._keys, self._hardware.encode(), highest, failed, room, now_s)
        if manifest is None:
            return False
        self._log.info("version %d: %d bytes" % (manifest.version, manifest.size))
        download = Download(record, target, manifest)
        path = "%s/%s-%d.image" % (self.path, self._hardware, manifest.version)
        for attempt in range(TRIES):
            try:
                await fetch(self.host, self.port, path, download.take, download.offset)
            except (OSError, EOFError, HttpError, asyncio.TimeoutError):
                if attempt + 1 == TRIES:
                    raise
                await asyncio.sleep(1 << attempt)
            if download.offset >= manifest.size:
                break
        if not download.finish():
            self.last = "the image is not the one that was signed"
            return False
        return True
