"""Feeds the kit's parsers what no peer should send, on MicroPython and CPython: fuzz.py COUNT SEED. Nothing may be raised but what they promise.

Prints a CRC of all that was read, the same on both interpreters, and the longest time that one input took, in milliseconds.
"""

import sys
from binascii import crc32

from kit import sntp
from kit.acks import read_ack
from kit.desired import why_not
from kit.mqtt_codec import ProtocolError, Receiver, put_puback, put_publish
from kit.ticks import ticks_diff, ticks_us

ACKS = (b"\x94\x01\x07\x91\x92\x00\x03\x91\x93\x04\x04\xa3bad", b"\x94\x01\xcf\xfe\xdc\xba\x98vT2\x10\x92\x92\x00\x02\x92\x04\x09\x90")
WORDS = ("version", "bindings", "frame_ms", "device", "athlete", "from_us", "to_us", "full_policy", "gym", "", "x" * 40)


class Dice:
    """The same numbers everywhere."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % limit

    def bytes(self, most):
        return bytes([self.below(256) for _ in range(self.below(most + 1))])

    def damaged(self, good):
        raw = bytearray(good)
        for _ in range(1 + self.below(3)):
            raw[self.below(len(raw))] = self.below(256)
        return bytes(raw[: self.below(len(raw) + 1)]) if self.below(2) else bytes(raw)

    def document(self, depth=0):
        kind = self.below(8 if depth < 3 else 6)
        if kind == 0:
            return None
        if kind == 1:
            return self.below(20000) - 100
        if kind == 2:
            return (1 << 70) * self.below(3)
        if kind in (3, 4):
            return WORDS[self.below(len(WORDS))]
        if kind == 5:
            return self.below(100) / 8
        if kind == 6:
            return [self.document(depth + 1) for _ in range(self.below(4))]
        made = {}
        for _ in range(self.below(5)):
            key = WORDS[self.below(len(WORDS))]  # the interpreters differ in what of a pair they work out first
            made[key] = self.document(depth + 1)
        return made


def ack(dice):
    said = read_ack(dice.damaged(ACKS[dice.below(2)]) if dice.below(2) else dice.bytes(60))
    return repr(said and (said[0], said[1], [(first, last, reason.encode()) for first, last, reason in said[2]]))


def packets(dice):
    stream = bytearray(400)
    end = put_publish(stream, 0, b"pl/1/gym/watch/ack", ACKS[0], 1, False, False, 7)
    end = put_publish(stream, end, b"cfg", bytes(40 + dice.below(260)), dice.below(2), True, False, 8)
    end = put_puback(stream, end, 9)
    raw = dice.damaged(bytes(stream[:end])) if dice.below(4) else dice.bytes(300)
    receiver, at, said = Receiver(256), 0, []
    try:
        while at < len(raw):
            space = receiver.space()
            piece = min(1 + dice.below(90), len(space), len(raw) - at)
            assert piece
            space[:piece] = raw[at : at + piece]
            receiver.took(piece)
            at += piece
            while True:
                kind = receiver.next()
                if not kind:
                    break
                payload = receiver.payload if kind == 3 else None
                said.append((kind, receiver.pid, receiver.qos, None if payload is None else crc32(bytes(payload)) & 0xFFFFFFFF))
    except ProtocolError as error:
        said.append(str(error))
    return repr(said)


def time_packet(dice):
    packet = bytearray(48)
    packet[0], packet[1], packet[32], packet[40] = 0x24, 2, 0xEE, 0xEE
    return repr(
        sntp.answer(dice.damaged(bytes(packet)) if dice.below(4) else dice.bytes(60), bytes(8), dice.below(1000), 1000 + dice.below(100000))
    )


def config(dice):
    document = dice.document()
    return str(not why_not(document)) if isinstance(document, dict) else "no object"  # which key is named first differs


def main(count, seed):
    for parser in (ack, packets, time_packet, config):
        dice, crc, longest = Dice(seed), 0, 0
        for _ in range(count):
            start = ticks_us()
            said = parser(dice)
            longest = max(longest, ticks_diff(ticks_us(), start))
            crc = crc32(said.encode(), crc)
        print(parser.__name__, count, crc & 0xFFFFFFFF, longest // 1000)


main(int(sys.argv[1]), int(sys.argv[2]))
