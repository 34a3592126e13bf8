"""The record of whole firmwares, for boards with two partitions for them. Apart from `kit.slots`, because no device has it yet."""

from kit.slots import NONE, Slots


class FirmwareSlots(Slots):
    """`kit.slots.Slots` for the whole firmware of an ESP32, where the bootloader chooses: it goes back by itself at the first start without
    `confirm`.

    `partitions` is `esp32.Partition`. The record only remembers versions; `tries` is 1 until the bootloader was told of the trial.
    """

    def __init__(self, flash, first, partitions):
        super().__init__(flash, first)
        self.partitions = partitions

    def choose(self):
        """The number of the running partition; notes a trial that the bootloader gave up."""
        running = self.partitions(self.partitions.RUNNING).info()[1] - 16  # subtypes 16 and 17 are ota_0 and ota_1
        if self.trial not in (NONE, running):
            if self.tries:  # cut before the bootloader was told: it never started
                self.trial_version = self.failed_version
            self._failed()
        self.active = running if self.trial == NONE else self.active
        return running

    def spare(self):
        return self.target().info()[1] - 16

    def target(self):
        """The partition a new firmware is written to."""
        return self.partitions(self.partitions.RUNNING).get_next_update()

    def try_next(self, version):
        self.trial, self.tries, self.trial_version = self.spare(), 1, version
        self._write()
        self.target().set_boot()
        self.tries = 0
        self._write()

    def confirm(self):
        self.partitions.mark_app_valid_cancel_rollback()
        return super().confirm()
