"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""

ID = 1
NAME = "motion.1"
SIZE = 26
ABSENT = b"\x00\x00\x00\x00\x00\x80\x00\x00\x00\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
TICK_MS = 0x1  # u16, ms * 1 + 0
LAT = 0x2B  # i32, deg * 1e-07 + 0
LON = 0x6B  # i32, deg * 1e-07 + 0
ALTITUDE_M = 0xA1  # u16, m * 0.2 + -500
ALTITUDE_SOURCE = 0xC0  # u8, enum * 1 + 0
ACCURACY_M = 0xD0  # u8, m * 0.5 + 0
SPEED_MPS = 0xE1  # u16, m/s * 0.01 + 0
HEADING_DEG = 0x101  # u16, deg * 0.01 + 0
DISTANCE_M = 0x123  # u32, m * 0.01 + 0
HR_BPM = 0x160  # u8, 1/min * 1 + 0
CADENCE_RPM = 0x170  # u8, 1/min * 1 + 0
POWER_W = 0x181  # u16, W * 1 + 0
