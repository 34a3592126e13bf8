"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""

ID = 4
NAME = "wave.1"
SIZE = 9
ABSENT = b"\x00\x00\x00\x00\x80\x00\x80\x00\x80"
TICK_MS = 0x1  # u16, ms * 1 + 0
KIND = 0x20  # u8, enum * 1 + 0
X = 0x39  # i16, 1 * 1 + 0
Y = 0x59  # i16, 1 * 1 + 0
Z = 0x79  # i16, 1 * 1 + 0
