"""A link to a host that never blocks: TCP, or TLS with our certificate and the host's name checked. `read` and `write` do what is possible
now.

What blocks for longer than the timeouts given is the resolver of a port (ESP32), which cannot be asked in pieces: give an address to avoid
it.
"""

import asyncio
import errno
import socket
import sys

_NO_DELAY = (6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY; the unix port and lwIP have the numbers, not always the names
_LATER = (errno.EAGAIN, errno.EINPROGRESS, getattr(errno, "EWOULDBLOCK", errno.EAGAIN))

if sys.implementation.name == "micropython":
    import select

    import tls as ssl

    def readable(sock):
        yield asyncio.core._io_queue.queue_read(sock)

    def writable(sock):
        yield asyncio.core._io_queue.queue_write(sock)

    def _trouble(sock):
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        return [1 for _, event in poller.poll(0) if event & (select.POLLERR | select.POLLHUP)]

    _WAITS = ()
else:
    import ssl

    async def _until(sock, add, remove):
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        number = sock.fileno()
        if number < 0:
            raise OSError(errno.EBADF, "closed")
        getattr(loop, add)(number, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            getattr(loop, remove)(number)

    def readable(sock):
        return _until(sock, "add_reader", "remove_reader")

    def writable(sock):
        return _until(sock, "add_writer", "remove_writer")

    def _trouble(sock):
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    _WAITS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


def tls_context(ca, cert=None, key=None):
    """A context that trusts `ca` only, and shows `cert` with `key`: bytes in PEM or DER on MicroPython, names of files on CPython."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    if sys.implementation.name == "micropython":
        context.load_verify_locations(ca)
    else:
        context.load_verify_locations(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def _now(transfer, view):
    """What a transfer did at once, None when it cannot now. OSError when the link broke."""
    try:
        return transfer(view)
    except _WAITS:
        return None
    except OSError as error:
        if error.errno in _LATER:
            return None
        raise


def unproved_context():
    """A context that proves nothing: for what is checked by its hash."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if hasattr(context, "check_hostname"):
        context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Stream:
    """An open link."""

    def __init__(self, sock, shell):
        self._sock = sock
        self._shell = shell  # the socket, or TLS around it
        self._readinto = shell.readinto if hasattr(shell, "readinto") else shell.recv_into
        self._write = shell.write if hasattr(shell, "write") else shell.send

    def read(self, view):
        """Bytes read into `view`, 0 when there are none now. EOFError when the far end closed, OSError when the link broke."""
        count = _now(self._readinto, view)
        if count is None:
            return 0
        if count <= 0:
            raise EOFError("closed by the far end")
        return count

    def write(self, view):
        """Bytes taken of `view`, 0 when none now: then the same view must be given again. OSError when the link broke."""
        return _now(self._write, view) or 0

    def readable(self):
        """Await it: until there may be something to read.

        TLS is asked through its socket: `read` gave 0 before, so it holds nothing back.
        """
        return readable(self._sock)

    def writable(self):
        """Await it: until something may be taken."""
        return writable(self._sock)

    def close(self):
        """End the link; nothing is raised."""
        for one in (self._shell, self._sock):
            try:
                one.close()
            except OSError:
                pass


async def open_stream(host, port, context=None, server_name=None, timeout_s=10):
    """A connected Stream. OSError (or the port's own TLS error) when the host cannot be reached or is not whom its certificate says.

    With TLS the handshake happens with the first writes and reads, under the timeouts of whoever does them.
    """
    info = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    sock = socket.socket(info[0], info[1], info[2])
    try:
        sock.setblocking(False)
        try:
            sock.connect(info[-1])
        except OSError as error:
            if error.errno not in _LATER:
                raise
        await asyncio.wait_for(writable(sock), timeout_s)
        if _trouble(sock):
            raise OSError(errno.ECONNREFUSED, "%s port %d" % (host, port))
        try:
            sock.setsockopt(*_NO_DELAY)
        except OSError:  # a port without it: packets may wait for the answer to the one before
            pass
        shell = sock
        if context is not None:
            shell = context.wrap_socket(sock, server_hostname=server_name or host, do_handshake_on_connect=False)
            sock = shell if hasattr(shell, "fileno") else sock
    except BaseException:
        sock.close()
        raise
    return Stream(sock, shell)
