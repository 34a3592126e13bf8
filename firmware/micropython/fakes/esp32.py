"""`esp32` of the simulated board: partitions of one NOR flash, the rules of its bootloader, and NVS in memory.

    chip = Chip(Nor(64), table)          # table: (type, subtype, first sector, sectors, label)
    esp32 = Esp32(chip)                  # stands for the module: esp32.Partition, esp32.NVS

The bootloader as ESP-IDF has it with rollback: an image that `set_boot` chose is started once on trial; a start that finds it unconfirmed
goes back.
"""


class Chip:
    """One chip: its flash, its partitions, and what its bootloader remembers. `reset()` is a start."""

    def __init__(self, nor, table, running="ota_0"):
        self.nor = nor
        self.table = table
        self.nvs = {}
        self.boot = self.running = running
        self.before = running
        self.pending = False  # the image at `boot` was not confirmed yet
        self.started = True  # and was started already

    def reset(self):
        if self.pending and self.started:
            self.boot, self.pending = self.before, False
        self.started = True
        self.running = self.boot


class Esp32:
    """The module `esp32` of a chip."""

    WAKEUP_ALL_LOW, WAKEUP_ANY_HIGH = False, True

    def __init__(self, chip):
        self.chip = chip
        self.Partition = _partition_class(chip)
        self.NVS = _nvs_class(chip)
        self.wake_pin = self.wake_level = None

    def wake_on_ext0(self, pin, level):
        self.wake_pin, self.wake_level = pin, level


def _partition_class(chip):
    class Partition:
        """A block device: `readblocks(n, buf, offset)`, `writeblocks(n, buf[, offset])` (without an offset it erases first), `ioctl`."""

        BOOT, RUNNING = 0, 1
        TYPE_APP, TYPE_DATA = 0, 1

        def __init__(self, which, block_size=4096):
            label = chip.running if which == Partition.RUNNING else chip.boot if which == Partition.BOOT else which
            for entry in chip.table:
                if entry[4] == label:
                    self.type, self.subtype, self.first, self.sectors, self.label = entry
                    return
            raise OSError(2, "no partition %s" % (which,))

        @classmethod
        def find(cls, type=1, subtype=0xFF, label=None, block_size=4096):
            found = [e for e in chip.table if e[0] == type and subtype in (0xFF, e[1]) and label in (None, e[4])]
            return [cls(entry[4]) for entry in found]

        def info(self):
            size = chip.nor.sector_bytes
            return self.type, self.subtype, self.first * size, self.sectors * size, self.label, False

        def readblocks(self, block, buf, offset=0):
            chip.nor.readblocks(self._place(block), buf, offset)

        def writeblocks(self, block, buf, offset=None):
            if offset is None:
                chip.nor.ioctl(6, self._place(block))
            chip.nor.writeblocks(self._place(block), buf, offset or 0)

        def ioctl(self, op, arg):
            if op == 4:
                return self.sectors
            return chip.nor.ioctl(op, self._place(arg) if op == 6 else arg)

        def _place(self, block):
            if not 0 <= block < self.sectors:
                raise OSError(22, "block %d of %s" % (block, self.label))
            return self.first + block

        def get_next_update(self):
            apps = [e[4] for e in chip.table if e[0] == 0 and 16 <= e[1] < 32]
            return Partition(apps[(apps.index(self.label) + 1) % len(apps)] if self.label in apps else apps[0])

        def set_boot(self):
            if self.type != Partition.TYPE_APP:
                raise OSError(-258, "%s holds no application" % self.label)
            chip.before = chip.running
            chip.boot, chip.pending, chip.started = self.label, True, False

        @staticmethod
        def mark_app_valid_cancel_rollback():
            chip.pending = False

    return Partition


def _nvs_class(chip):
    class NVS:
        """A namespace of numbers and blobs; what is set counts after `commit`."""

        def __init__(self, name):
            self.name = name
            self.changed = {}

        def set_i32(self, key, value):
            self.changed[key] = int(value)

        def get_i32(self, key):
            value = self._get(key)
            if not isinstance(value, int):
                raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")
            return value

        def set_blob(self, key, value):
            self.changed[key] = bytes(value)

        def get_blob(self, key, buffer):
            value = self._get(key)
            if not isinstance(value, bytes) or len(value) > len(buffer):
                raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")
            buffer[: len(value)] = value
            return len(value)

        def erase_key(self, key):
            self.changed.pop(key, None)
            if chip.nvs.get(self.name, {}).pop(key, None) is None:
                raise OSError(-4354, "ESP_ERR_NVS_NOT_FOUND")

        def commit(self):
            chip.nvs.setdefault(self.name, {}).update(self.changed)
            self.changed = {}

        def _get(self, key):
            return self.changed[key] if key in self.changed else chip.nvs.get(self.name, {}).get(key)

    return NVS
