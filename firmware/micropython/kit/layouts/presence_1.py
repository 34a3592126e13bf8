"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""

ID = 5
NAME = "presence.1"
SIZE = 14
ABSENT = b"\x00\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f"
TICK_MS = 0x1  # u16, ms * 1 + 0
EVENT = 0x20  # u8, enum * 1 + 0
PLACE = 0x31  # u16, 1 * 1 + 0
CREDENTIAL = 0x57  # u64, 1 * 1 + 0
RSSI_DBM = 0xD8  # i8, dBm * 1 + 0
