"""The objects of the virtual daemon: path -> interface -> property, and the signals a change makes, handed to a callback in order. Pure.

Every change is told exactly once: InterfacesAdded before the first PropertiesChanged of an object, nothing after its InterfacesRemoved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dbus_fast import Message, Variant

ADAPTER: Final = "org.bluez.Adapter1"
MONITORS: Final = "org.bluez.AdvertisementMonitorManager1"
DEVICE: Final = "org.bluez.Device1"
SERVICE: Final = "org.bluez.GattService1"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
DESCRIPTOR: Final = "org.bluez.GattDescriptor1"
AGENTS: Final = "org.bluez.AgentManager1"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

Interfaces = dict[str, dict[str, Variant]]


def copied(interfaces: Mapping[str, Mapping[str, Variant]]) -> Interfaces:
    """The interfaces as they are now: a message may wait before it is packed."""
    return {name: dict(properties) for name, properties in interfaces.items()}


class BluezError(Exception):
    """An error reply: its D-Bus name (`name` without a dot means org.bluez.Error.NAME) and its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name if "." in name else f"org.bluez.Error.{name}"
        self.text = text


def unknown_object(path: str) -> BluezError:
    """What D-Bus says of a path nobody serves."""
    return BluezError("org.freedesktop.DBus.Error.UnknownObject", f"Unknown object '{path}'")


class Tree:
    """All objects, and `emit` for each signal."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        self.objects: dict[str, Interfaces] = {}
        self._emit = emit

    def add(self, path: str, interfaces: Mapping[str, Mapping[str, Variant]]) -> None:
        """A new object with all its interfaces."""
        self.objects[path] = copied(interfaces)
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, copied(interfaces)])

    def remove(self, path: str) -> None:
        """The object is gone."""
        interfaces = self.objects.pop(path)
        self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, list(interfaces)])

    def set(self, path: str, interface: str, changed: Mapping[str, Variant], invalidated: Sequence[str] = ()) -> None:
        """New values; properties named in `invalidated` exist no more."""
        properties = self.objects[path][interface]
        gone = [name for name in invalidated if properties.pop(name, None) is not None]
        properties.update(changed)
        if changed or gone:
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, dict(changed), gone])

    def get(self, path: str, interface: str, name: str) -> object:
        """The plain value of a property."""
        return self.objects[path][interface][name].value

    def properties(self, path: str, interface: str) -> dict[str, Variant]:
        """All properties of an interface; BluezError when there is no such thing."""
        if path not in self.objects:
            raise unknown_object(path)
        if interface not in self.objects[path]:
            raise BluezError("org.freedesktop.DBus.Error.InvalidArgs", f"No such interface '{interface}'")
        return self.objects[path][interface]

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[object]) -> None:
        self._emit(Message.new_signal(path, interface, member, signature, body))
