"""What nearly every sensor has beside its own service: device information (0x180A) and battery (0x180F)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulators.sensors.sensor import Characteristic, Service, uuid128

BATTERY_LEVEL: Final = uuid128("2A19")


@dataclass(frozen=True, slots=True)
class Maker:
    """Texts of the device information service, and the battery."""

    manufacturer: str = "Paceline"
    model: str = "Virtual"
    serial: str = "0"
    firmware: str = "1.0"
    hardware: str = "1"
    battery_pct: int = 87

    def services(self) -> tuple[Service, ...]:
        """The two services."""
        texts = tuple(Characteristic(uuid128(short), ("read",)) for short in ("2A29", "2A24", "2A25", "2A26", "2A27"))
        return (
            Service(uuid128("180A"), texts),
            Service(uuid128("180F"), (Characteristic(BATTERY_LEVEL, ("read", "notify")),)),
        )

    def values(self) -> dict[str, bytes]:
        """Their values by UUID."""
        texts = {"2A29": self.manufacturer, "2A24": self.model, "2A25": self.serial, "2A26": self.firmware, "2A27": self.hardware}
        return {**{uuid128(short): text.encode() for short, text in texts.items()}, BATTERY_LEVEL: bytes([self.battery_pct])}
