"""Keys, requests, set-up, sensors over Bluetooth, on MicroPython and CPython: both must print the same. Standard input: packets `PROFILE HEX` of golden frames.

Beside it lie `engine.py`, `profile_pack.py` and `sensor_rules.py`, as `paceline firmware build` makes them.
"""

import asyncio
import json
import sys
from binascii import hexlify

from ble import central as centrals
from ble.reading import Reading
from engine import Pack
from fakes.bluetooth import BLE, Peripheral, Room, number_of
from kit import certificate, enrol, p256
from kit.provision import Setup, form_of
from profile_pack import PACK
from sensor_rules import RULES, SERVICES


def say(*words):
    print(*[hexlify(word).decode() if isinstance(word, (bytes, bytearray)) else word for word in words])


def keys():
    for secret in (1, 12345, p256.N - 1, (1 << 255) + 7):
        say(p256.public_of(secret), certificate.request(secret, "gym/watch-7"), certificate.private_key(secret))
    pem = certificate.pem("CERTIFICATE REQUEST", certificate.request(5, "gym/a"))
    say(certificate.der_of(pem, "CERTIFICATE REQUEST"))


def setup():
    saved = []

    async def trial(document):
        return "" if document["host"] == "h" else "no"

    desk = Setup({}, lambda document: saved.append(sorted(document)), lambda: {"name": "x"}, lambda count: bytes([7] * count), trial)

    async def talk():
        for line in (
            '{"do": "set", "code": "mqtt://other/gym/a#pw", "wifi_ssid": "w"}',
            '{"do": "set", "code": "mqtt://h:1/gym/a#pw", "wifi_ssid": "w"}',
            '{"do": "request"}',
            '{"do": "certificate", "pem": "x"}',
            "?",
        ):
            answer = await desk.line(line)
            say(answer.replace('"', "'").count("'"), len(answer))
        say((await desk.answer("POST", "/", b"wifi_ssid=a%20b+c&code=mqtt%3A%2F%2Fh%2Fgym%2FA%23x"))[1])

    asyncio.run(talk())
    say(str(saved), str(sorted(form_of(b"a=%41%2B&b=%4&c=%zz&d").items())), str(enrol.check({"wifi_ssid": "x"})[0]))


def sensors(lines):
    packets = {}
    for line in lines:
        profile, packet = line.split()
        packets.setdefault(profile, []).append(bytes.fromhex(packet))
    now = [0]
    centrals.ticks_ms = lambda: now[0]
    centrals.ticks_diff = lambda later, earlier: later - earlier
    pack = Pack(PACK)
    readings = {name: Reading(pack.decoder(name), json.loads(RULES[name])) for name in packets}
    heard = {name: [] for name in packets}

    def on_packet(address, profile, payload, at_ms):
        readings[profile].feed(payload, at_ms, lambda layout, age_ms, values: heard[profile].append((layout, age_ms, values)))

    room = Room()
    for n, (profile, given) in enumerate(sorted(packets.items())):
        for service, characteristics in SERVICES.items():
            for uuid, name in characteristics:
                if name == profile:
                    source = lambda i, given=given: given[i] if i < len(given) else None  # noqa: E731
                    room.add(Peripheral("c0000000%04x" % n, profile, {service: ((uuid, source),)}))
    central = centrals.Central(BLE(room, max_links=20), SERVICES, on_packet, number_of, max_links=20)
    central.ble.active(True)
    central.ble.irq(central._irq)
    while now[0] < 120_000:
        now[0] += 20
        room.step(now[0])
        central.step(now[0])
    for profile in sorted(heard):
        say(profile, len(heard[profile]), str(heard[profile]).replace(" ", ""))


keys()
setup()
sensors([line for line in sys.stdin.read().split("\n") if line])
