"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""

ID = 6
NAME = "health.1"
SIZE = 13
ABSENT = b"\x00\x00\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff"
TICK_MS = 0x1  # u16, ms * 1 + 0
UPTIME_S = 0x23  # u32, s * 1 + 0
BATTERY_PCT = 0x60  # u8, % * 1 + 0
RSSI_DBM = 0x78  # i8, dBm * 1 + 0
DROPPED = 0x83  # u32, 1 * 1 + 0
RESET_CAUSE = 0xC0  # u8, enum * 1 + 0
