"""Why the chip started, in the words of `health.1`."""

POWER_ON, BROWN_OUT, WATCHDOG, SOFTWARE, DEEP_SLEEP, PANIC = 1, 2, 3, 4, 5, 6
_CAUSES = (
    ("PWRON_RESET", POWER_ON), ("HARD_RESET", POWER_ON), ("WDT_RESET", WATCHDOG), ("DEEPSLEEP_RESET", DEEP_SLEEP), ("SOFT_RESET", SOFTWARE),
    ("BROWN_OUT_RESET", BROWN_OUT),
)  # fmt: skip


def reset_cause(machine):
    """Why the chip started, from the port's `machine`; 0 when it cannot tell."""
    if not hasattr(machine, "reset_cause"):
        return 0
    said = machine.reset_cause()
    for name, cause in _CAUSES:
        if getattr(machine, name, None) == said:
            return cause
    return 0
