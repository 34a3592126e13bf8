"""The registry of what can be controlled: a link is announced, replaced and taken away exactly once."""

from __future__ import annotations

from device_profiles.samples import Identity
from gateway.controllable import Controllable, ControlLink, Dialect


class Link:
    """A link that nobody writes to."""

    dialect: Dialect = "ftms"
    identity = Identity()

    async def write(self, payload: bytes, *, timeout_s: float) -> bytes | None:
        return None

    async def read(self, what: int, *, timeout_s: float) -> bytes | None:
        return None


class Heard:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def appeared(self, device: str, link: ControlLink) -> None:
        self.calls.append(("appeared", device, link))

    def told(self, device: str, what: int, payload: bytes) -> None:
        self.calls.append(("told", device, what, payload))

    def gone(self, device: str) -> None:
        self.calls.append(("gone", device))


def test_listener_hears_of_links_that_were_there_before_it() -> None:
    known, heard, link = Controllable(), Heard(), Link()
    known.add("mill", link)
    known.listen(heard)
    assert heard.calls == [("appeared", "mill", link)]
    assert known.devices == ("mill",)


def test_new_connection_replaces_the_old_one_and_a_late_farewell_changes_nothing() -> None:
    known, heard, old, new = Controllable(), Heard(), Link(), Link()
    known.listen(heard)
    known.add("mill", old)
    known.add("mill", new)
    known.remove("mill", old)
    assert known.get("mill") is new
    assert [call[0] for call in heard.calls] == ["appeared", "gone", "appeared"]
    known.remove("mill", new)
    known.remove("mill", new)
    assert known.get("mill") is None
    assert heard.calls[-1] == ("gone", "mill")
    assert len(heard.calls) == 4


def test_what_a_machine_says_without_a_link_is_dropped() -> None:
    known, heard = Controllable(), Heard()
    end = known.listen(heard)
    known.told("mill", 0x2ADA, b"\xff")
    known.add("mill", Link())
    known.told("mill", 0x2ADA, b"\xff")
    end()
    known.told("mill", 0x2ADA, b"\xff")
    assert [call for call in heard.calls if call[0] == "told"] == [("told", "mill", 0x2ADA, b"\xff")]
