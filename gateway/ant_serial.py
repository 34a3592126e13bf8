"""An ANT stick on a serial line (a USB-serial stick, a UART, or a pty), read by the event loop: no thread, no polling, no library.

The line is raw, 8 bits, 115,200 baud (sticks that appear as USB serial devices take any), and held exclusively: a second reader would take
half of the bytes.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import termios
from typing import Final

from gateway.ant_transport import WRITE_S

_READ_BYTES: Final = 4096


class SerialStick:
    """One open line. From the event loop only."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd

    @classmethod
    def open(cls, path: str) -> SerialStick:
        """Open and set up the line. OSError says what is wrong."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise OSError(error.errno, f"{path}: {_CURES.get(error.errno or 0, error.strerror)}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _make_raw(fd)
        except (OSError, termios.error) as error:
            os.close(fd)
            number = error.errno if isinstance(error, OSError) else errno.ENOTTY
            raise OSError(number, f"{path}: {_CURES.get(number or 0, 'not a serial line')}") from error
        return cls(fd, path)

    async def read(self) -> bytes:
        """See `Transport`."""
        while True:
            try:
                data = os.read(self._open(), _READ_BYTES)
            except BlockingIOError:
                await self._until_readable()
                continue
            except OSError as error:
                raise OSError(error.errno, f"{self.name}: pulled out ({error.strerror})") from error
            if not data:
                raise OSError(errno.ENODEV, f"{self.name}: pulled out")
            return data

    async def write(self, data: bytes) -> None:
        """See `Transport`."""
        try:
            async with asyncio.timeout(WRITE_S):
                while data:
                    try:
                        data = data[os.write(self._open(), data) :]
                    except BlockingIOError:
                        await self._until_writable()
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, f"{self.name}: takes no bytes") from error

    async def close(self) -> None:
        """See `Transport`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            loop = asyncio.get_running_loop()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            os.close(fd)

    def _open(self) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, f"{self.name}: closed")
        return self._fd

    async def _until_readable(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._fd
        ready = loop.create_future()
        loop.add_reader(fd, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(fd)

    async def _until_writable(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._fd
        ready = loop.create_future()
        loop.add_writer(fd, _set, ready)
        try:
            await ready
        finally:
            loop.remove_writer(fd)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _make_raw(fd: int) -> None:
    """No echo, no line editing, no flow control, 8N1."""
    control = list(termios.tcgetattr(fd)[6])
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(fd, termios.TCSANOW, [0, 0, flags, 0, termios.B115200, termios.B115200, control])
    termios.tcflush(fd, termios.TCIFLUSH)


_CURES: Final = {
    errno.ENOENT: "not there: plug the stick in, or set gateway.ant.sticks",
    errno.ENODEV: "not there: plug the stick in, or set gateway.ant.sticks",
    errno.ENXIO: "not there: plug the stick in, or set gateway.ant.sticks",
    errno.EACCES: "not allowed: the gateway's user needs the group of the device (dialout)",
    errno.EBUSY: "used by another program: end it",
    errno.EAGAIN: "used by another program: end it",
}
