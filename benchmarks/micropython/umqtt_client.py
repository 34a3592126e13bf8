"""umqtt.simple at QoS 1, on MicroPython: umqtt_client.py CONFIG.json publishes the same messages and prints `RATE ms`.

Its `ussl` is gone from MicroPython 1.25: one call of `tls` stands in.
"""

import json
import sys

from kit.ticks import ticks_diff, ticks_ms


class Ussl:
    """What umqtt.simple imports for TLS."""

    @staticmethod
    def wrap_socket(sock, **files):
        from kit.stream import tls_context

        held = []
        for name in ("ca", "cert", "key"):
            with open(files[name], "rb") as file:
                held.append(file.read())
        return tls_context(*held).wrap_socket(sock, server_hostname="localhost")


sys.modules["ussl"] = Ussl

from umqtt.simple import MQTTClient  # noqa: E402

with open(sys.argv[1]) as read:
    config = json.load(read)
files = {name: config[name] for name in ("ca", "cert", "key")} if config.get("ca") else {}
client = MQTTClient(config["user"], config["host"], config["port"], config["user"], config["password"], 30, bool(files), files)
client.connect()
topic, payload = config["topic"].encode(), bytes(config["size"])
start = ticks_ms()
for _ in range(config["messages"]):
    client.publish(topic, payload, qos=1)
print("RATE", ticks_diff(ticks_ms(), start))
client.disconnect()
