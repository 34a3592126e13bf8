"""A ROMFS image in a slot, mounted read-only: modules are imported from the flash of the slot, nothing is copied to a file system.

    vfs.mount(RomFs(partition), "/app"); sys.path.insert(0, "/app")

For block devices that are not mapped into memory (a partition of an ESP32); where the bytes are mapped, `vfs.VfsRom` does the same. An
image is checked by its hash before it is ever started (`update.py`), so this reads what a signer made, and refuses what is none.
"""

import io

_DIR, _FILE = 0x4000, 0x8000
_VERBATIM, _DIRECTORY, _PLAIN = 2, 4, 5
_HEADER = b"\xd2\xcd\x31"


class RomFs:
    """`device` is a block device. OSError (19) if no image begins in its first block."""

    def __init__(self, device):
        self.device = device
        self.block_bytes = device.ioctl(5, 0)
        self.limit = self.block_bytes * device.ioctl(4, 0)
        self.cwd = ""
        if self.read(0, 3) != _HEADER:
            raise OSError(19, "no image")
        length, at = self._number(3)
        self.root = (_DIRECTORY, at, at + length)
        if at + length > self.limit:
            raise OSError(19, "no image")

    # -- what a file system is asked for

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def chdir(self, path):
        path = self._full(path)
        if self._find(path)[0] != _DIRECTORY:
            raise OSError(20, "not a folder")
        self.cwd = path

    def getcwd(self):
        return "/" + self.cwd

    def stat(self, path):
        kind, at, end = self._find(self._full(path))
        return (_DIR if kind == _DIRECTORY else _FILE, 0, 0, 0, 0, 0, 0 if kind == _DIRECTORY else end - at, 0, 0, 0)

    def statvfs(self, path):
        return (1, 1, self.root[2], 0, 0, 0, 0, 0, 0, 32767)

    def ilistdir(self, path):
        kind, at, end = self._find(self._full(path))
        if kind != _DIRECTORY:
            raise OSError(20, "not a folder")
        for name, kind, at, end in self._entries(at, end):
            yield (name, _DIR if kind == _DIRECTORY else _FILE, 0, 0 if kind == _DIRECTORY else end - at)

    def open(self, path, mode):
        if "w" in mode or "a" in mode or "+" in mode:
            raise OSError(30, "read-only")
        kind, at, end = self._find(self._full(path))
        if kind == _DIRECTORY:
            raise OSError(21, "a folder")
        raw = RomFile(self, at, end)
        return raw if "b" in mode else io.StringIO(raw.read().decode())

    # -- the image

    def read(self, at, size):
        """Bytes of the image, over the borders of blocks."""
        out = bytearray(size)
        self.readinto(at, memoryview(out))
        return bytes(out)

    def readinto(self, at, view):
        if at + len(view) > self.limit:
            raise OSError(5, "damaged image")
        while len(view):
            block, offset = divmod(at, self.block_bytes)
            size = min(len(view), self.block_bytes - offset)
            self.device.readblocks(block, view[:size], offset)
            view = view[size:]
            at += size

    def _number(self, at):
        value = 0
        for raw in self.read(at, min(6, self.limit - at)):
            at += 1
            value = value << 7 | raw & 0x7F
            if raw < 0x80:
                return value, at
        raise OSError(5, "damaged image")

    def _entries(self, at, end):
        """(name, kind, where its content begins, where it ends) of each entry of a directory."""
        while at < end:
            kind, at = self._number(at)
            length, at = self._number(at)
            after = at + length
            if after > end:
                raise OSError(5, "damaged image")
            if kind in (_DIRECTORY, _PLAIN):
                size, at = self._number(at)
                name = self.read(at, size).decode()
                at += size
                begin, end_ = (at, after) if kind == _DIRECTORY else self._content(at, after)
                yield name, kind, begin, end_
            at = after

    def _content(self, at, end):
        while at < end:
            kind, at = self._number(at)
            length, at = self._number(at)
            if kind == _VERBATIM:
                return at, at + length
            at += length
        raise OSError(5, "damaged image")

    def _full(self, path):
        return path.strip("/") if path.startswith("/") or not self.cwd else (self.cwd + "/" + path).strip("/")

    def _find(self, path):
        kind, at, end = self.root
        for part in path.split("/") if path else ():
            if kind != _DIRECTORY:
                raise OSError(2, "not in the image")
            for name, kind, at, end in self._entries(at, end):
                if name == part:
                    break
            else:
                raise OSError(2, "not in the image")
        return kind, at, end


class RomFile(io.IOBase):
    """One file, opened for its bytes."""

    def __init__(self, system, at, end):
        self.system = system
        self.begin = at
        self.at = at
        self.end = end

    def readinto(self, buffer):
        size = min(len(buffer), self.end - self.at)
        self.system.readinto(self.at, memoryview(buffer)[:size])
        self.at += size
        return size

    def read(self, size=-1):
        size = self.end - self.at if size is None or size < 0 else min(size, self.end - self.at)
        data = self.system.read(self.at, size)
        self.at += size
        return data

    def ioctl(self, request, argument):
        return 0  # 4: close

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
