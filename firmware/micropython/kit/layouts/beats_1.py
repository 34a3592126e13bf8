"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""

ID = 2
NAME = "beats.1"
SIZE = 5
ABSENT = b"\x00\x00\xff\xff\xff"
TICK_MS = 0x1  # u16, ms * 1 + 0
RR_MS = 0x21  # u16, ms * 1 + 0
HR_BPM = 0x40  # u8, 1/min * 1 + 0
