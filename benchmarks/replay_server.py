"""A raw MQTT server that says yes to everything and then plays one file of packets to each subscriber as fast as it is read.

`python -m benchmarks.replay_server FILE`: prints its port, serves one connection after the other, throws away what the client sends.
It runs as its own process, so that its cost is not the client's.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen

from broker import mqtt_codec as mqtt


@contextmanager
def replay_server(stream: Path) -> Generator[int]:
    """The server in a process of its own; the port it listens on."""
    process = Popen([sys.executable, "-m", "benchmarks.replay_server", str(stream)], stdout=PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def serve(stream: bytes) -> None:
    """Until killed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _greet(connection)
                drain = threading.Thread(target=_drain, args=(connection,), daemon=True)
                drain.start()
                connection.sendall(stream)
                drain.join()


def _greet(connection: socket.socket) -> None:
    parser = mqtt.PacketParser()
    while True:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("client left before it subscribed")
        for event in parser.feed(data):
            match event:
                case mqtt.Connect():
                    connection.sendall(mqtt.encode_connack(session_present=False, code=0))
                case mqtt.Subscribe(pid=pid, filters=filters):
                    connection.sendall(mqtt.encode_suback(pid, [1] * len(filters)))
                    return
                case _:
                    pass


def _drain(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(1 << 20):
            pass


if __name__ == "__main__":
    serve(Path(sys.argv[1]).read_bytes())
