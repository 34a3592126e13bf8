"""Control over Bluetooth LE: the `ControlLink` of a machine with an FTMS control point, or with FE-C wrapped in a vendor's service.

FTMS (1.0, section 4.16): a command is written with response, its answer is the indication `80 OP RESULT`. FE-C over BLE: ANT messages
(A4 LENGTH ID CHANNEL PAGE XOR) on one characteristic out and one in; the answer to a command is page 71, asked for with page 70.
An answer still owed to a write that was cancelled or timed out is not taken for that of the next one of the same command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.service import BleakGATTServiceCollection

from device_profiles.samples import Identity
from gateway.ble_faults import Meaning, fault_of
from gateway.bounded import bounded
from gateway.controllable import Dialect

BASE: Final = "0000{}-0000-1000-8000-00805f9b34fb"
CONTROL_POINT: Final = BASE.format("2ad9")
STATUS: Final = BASE.format("2ada")
TRAINING_STATUS: Final = BASE.format("2ad3")
FEC_IN: Final = "6e40fec2-b5a3-f393-e0a9-e50e24dcca9e"
FEC_OUT: Final = "6e40fec3-b5a3-f393-e0a9-e50e24dcca9e"
RESPONSE: Final = 0x80
COMMAND_STATUS: Final = 71
REQUEST_PAGE: Final = 70
OWED_S: Final = 3.0
SUBSCRIBE_S: Final = 10.0
_SYNC, _ACKNOWLEDGED, _CHANNEL = 0xA4, 0x4F, 5

Told = Callable[[int, bytes], None]


def characteristic_of(services: BleakGATTServiceCollection, uuid: str) -> BleakGATTCharacteristic | None:
    """The first characteristic with that full UUID, None without one. Of several (two batteries) bleak's own look-up raises."""
    return next((one for one in services.characteristics.values() if one.uuid == uuid), None)


class _Answers:
    """Who waits for the answer to which command, and which answers are owed to nobody any more."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._sent: dict[int, bytes] = {}
        self._owed: dict[int, list[float]] = {}

    def expect(self, op: int, sent: bytes) -> asyncio.Future[bytes]:
        """The future answer to `op`. One that still waits is given up; of the very same bytes sent again, either answer will do."""
        self.give_up(op)
        if self._sent.get(op) == sent:
            self._owed.pop(op, None)
        self._sent[op] = sent
        future = self._waiting[op] = asyncio.get_running_loop().create_future()
        return future

    def give_up(self, op: int) -> None:
        """Nobody waits for the answer any more: it is dropped when it comes, within a while."""
        future = self._waiting.pop(op, None)
        if future is None or (future.done() and not future.cancelled()):
            return
        future.cancel()
        self._owed.setdefault(op, []).append(time.monotonic() + OWED_S)

    def unsent(self, op: int) -> None:
        """The command never left: no answer comes."""
        self._waiting.pop(op, None)

    def came(self, op: int, answer: bytes) -> None:
        """An answer of the machine."""
        now_s = time.monotonic()
        owed = self._owed[op] = [until for until in self._owed.get(op, []) if until > now_s]
        if owed:
            owed.pop(0)
            return
        future = self._waiting.get(op)
        if future is not None and not future.done():
            future.set_result(answer)


class _BleControl:
    """What both dialects share: a write whose errors are OSError, and reading a characteristic by its number."""

    def __init__(
        self, client: BleakClient, out: BleakGATTCharacteristic, on_loss: Callable[[str], None], identity: Identity | None = None
    ) -> None:
        self.identity: Final = identity or Identity()
        self._client = client
        self._out = out
        self._on_loss = on_loss
        self._answers = _Answers()

    async def _send(self, payload: bytes, *, response: bool, timeout_s: float) -> None:
        try:
            await bounded(self._client.write_gatt_char(self._out, payload, response=response), timeout_s)
        except Exception as error:
            raise self._failure(error) from error

    async def _read(self, uuid: str, timeout_s: float) -> bytes | None:
        characteristic = characteristic_of(self._client.services, uuid)
        if characteristic is None or "read" not in characteristic.properties:
            return None
        try:
            return bytes(await bounded(self._client.read_gatt_char(characteristic), timeout_s)) or None
        except TimeoutError:
            return None
        except Exception as error:
            if fault_of(error).meaning is Meaning.REFUSED:
                return None
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> OSError:
        """An error that says what it means; the loss of the link is passed on: ATT 0x0e in the middle of a write is one."""
        fault = fault_of(error)
        if fault.meaning in {Meaning.LOST, Meaning.GONE, Meaning.DAEMON}:
            self._on_loss(f"{fault.text} in a command")
        return OSError(fault.text)


class FtmsControl(_BleControl):
    """The control point of an FTMS machine. `subscribe` first; then `write`."""

    dialect: Dialect = "ftms"

    async def subscribe(self) -> None:
        """Ask for indications. What bleak raises passes: the link sets itself up with it."""
        await bounded(self._client.start_notify(self._out, self._indicated), SUBSCRIBE_S)

    async def write(self, payload: bytes, *, timeout_s: float) -> bytes | None:
        """See `ControlLink`."""
        op = payload[0]
        answer = self._answers.expect(op, payload)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(payload, response=True, timeout_s=timeout_s)
                return await answer
        except TimeoutError:
            return None
        except OSError:
            self._answers.unsent(op)
            raise
        finally:
            self._answers.give_up(op)

    async def read(self, what: int, *, timeout_s: float) -> bytes | None:
        """See `ControlLink`."""
        return await self._read(BASE.format(f"{what:04x}"), timeout_s)

    def _indicated(self, _: BleakGATTCharacteristic, payload: bytearray) -> None:
        if len(payload) >= 3 and payload[0] == RESPONSE:
            self._answers.came(payload[1], bytes(payload))


def wrapped(page: bytes) -> bytes:
    """A page of 8 bytes as an ANT acknowledged message. ValueError when it has another length."""
    if len(page) != 8:
        raise ValueError(f"a page has 8 bytes, not {len(page)}")
    body = bytes((_SYNC, len(page) + 1, _ACKNOWLEDGED, _CHANNEL)) + page
    check = 0
    for octet in body:
        check ^= octet
    return body + bytes((check,))


def unwrapped(payload: bytes) -> bytes | None:
    """The page in an ANT message, None when it is none or its checksum is wrong."""
    if len(payload) != 13 or payload[0] != _SYNC or payload[1] != 9:
        return None
    check = 0
    for octet in payload:
        check ^= octet
    return payload[4:12] if check == 0 else None


class FecControl(_BleControl):
    """FE-C over a vendor's service. The link that reads data from the same service hands every packet to `heard`."""

    dialect: Dialect = "fec"

    def __init__(
        self,
        client: BleakClient,
        out: BleakGATTCharacteristic,
        on_loss: Callable[[str], None],
        told: Told,
        identity: Identity | None = None,
    ) -> None:
        super().__init__(client, out, on_loss, identity)
        self._told = told

    async def write(self, payload: bytes, *, timeout_s: float) -> bytes | None:
        """See `ControlLink`."""
        return await self._exchange(payload, COMMAND_STATUS, timeout_s)

    async def read(self, what: int, *, timeout_s: float) -> bytes | None:
        """See `ControlLink`."""
        return await self._exchange(None, what, timeout_s)

    async def _exchange(self, page: bytes | None, answer_page: int, timeout_s: float) -> bytes | None:
        ask = bytes((REQUEST_PAGE, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, answer_page, 0x01))
        key = answer_page if page is None or answer_page != COMMAND_STATUS else 0x100 | page[0]
        answer = self._answers.expect(key, page or b"")
        try:
            async with asyncio.timeout(timeout_s):
                for one in (page, ask):
                    if one is not None:
                        await self._send(wrapped(one), response="write" in self._out.properties, timeout_s=timeout_s)
                return await answer
        except TimeoutError:
            return None
        except OSError:
            self._answers.unsent(key)
            raise
        finally:
            self._answers.give_up(key)

    def heard(self, payload: bytes) -> None:
        """A packet of the machine."""
        page = unwrapped(payload)
        if page is None:
            return
        number = page[0] & 0x7F
        if number == COMMAND_STATUS:
            self._answers.came(0x100 | page[1], page)
        self._answers.came(number, page)
        self._told(number, page)
