"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""

ID = 3
NAME = "machine.1"
SIZE = 22
ABSENT = b"\x00\x00\xff\xff\xff\x00\x80\x00\x80\xff\xff\xff\xff\x00\x80\xff\xff\xff\xff\xff\xff\xff"
TICK_MS = 0x1  # u16, ms * 1 + 0
KIND = 0x20  # u8, enum * 1 + 0
SPEED_MPS = 0x31  # u16, m/s * 0.01 + 0
INCLINE_PCT = 0x59  # i16, % * 0.1 + 0
RESISTANCE = 0x79  # i16, 1 * 0.1 + 0
CADENCE_RPM = 0x91  # u16, 1/min * 0.5 + 0
STROKES = 0xB1  # u16, 1 * 1 + 0
POWER_W = 0xD9  # i16, W * 1 + 0
DISTANCE_M = 0xF3  # u32, m * 1 + 0
ENERGY_KCAL = 0x131  # u16, kcal * 1 + 0
HR_BPM = 0x150  # u8, 1/min * 1 + 0
