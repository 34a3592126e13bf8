"""Framing of the ANT serial protocol: what whole frames come to, and what damage costs."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.ant_framing import MAX_DATA_BYTES, Framer, Id, Message, encode

CAPTURED = bytes.fromhex("a4144e0010193ddb00005c35e02e0a110510006800871f48")  # a trainer, heard by a real stick
pages = st.builds(
    lambda page, extended: Message(Id.BROADCAST, b"\0" + page + extended),
    st.binary(min_size=8, max_size=8),
    st.one_of(
        st.just(b""),
        st.binary(min_size=4, max_size=4).map(lambda more: b"\x80" + more),
        st.binary(min_size=4, max_size=4).map(lambda more: b"\xe0" + more + b"\x20\xc0\x80\x12\x34"),
        st.binary(min_size=4, max_size=4).map(lambda more: b"\xe0" + more + b"\x10\x00\x68\x00\x12\x34"),
    ),
)
messages = st.one_of(
    pages,
    st.builds(lambda data: Message(Id.EVENT, data), st.binary(min_size=3, max_size=3)),
    st.builds(lambda data: Message(Id.BURST, data), st.binary(min_size=9, max_size=9)),
    st.builds(lambda data: Message(Id.STARTUP, data), st.binary(min_size=1, max_size=1)),
)
without_sync = st.binary(max_size=60).map(lambda data: data.replace(b"\xa4", b"\xa3"))


def page(i: int) -> Message:
    return Message(Id.BROADCAST, bytes((0, *i.to_bytes(8, "little"), 0x80, 1, 2, 3, 4)))


def test_captured_frame_is_one_message():
    framer = Framer()
    (message,) = framer.feed(CAPTURED)
    assert message.id == Id.BROADCAST
    assert message.data == CAPTURED[3:-1]
    assert encode(message) == CAPTURED
    assert (framer.skipped, framer.broken, framer.waiting) == (0, 0, 0)


def test_single_garbage_byte_yields_nothing_and_the_next_frame_is_read():
    framer = Framer()
    assert framer.feed(b"\xde") == []
    assert len(framer.feed(CAPTURED)) == 1
    assert framer.skipped == 1


@given(st.lists(messages, max_size=12), st.data())
def test_stream_cut_anywhere_gives_the_same_messages(sent: list[Message], data: st.DataObject):
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer = Framer()
    heard: list[Message] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += framer.feed(stream[a:b])
    assert heard == sent
    assert framer.skipped == framer.waiting == 0


@given(st.lists(st.tuples(messages, without_sync), max_size=12))
def test_garbage_between_frames_costs_no_frame(sent: list[tuple[Message, bytes]]):
    stream = b"".join(garbage + encode(message) for message, garbage in sent)
    assert Framer().feed(stream) == [message for message, _ in sent]


@given(st.binary(max_size=400), st.integers(1, 40))
def test_any_bytes_are_read_without_failing_and_less_than_a_frame_is_kept(stream: bytes, step: int):
    framer = Framer()
    for at in range(0, len(stream), step):
        framer.feed(stream[at : at + step])
        assert framer.waiting <= MAX_DATA_BYTES + 4
    heard = framer.give_up()
    assert framer.waiting == 0
    assert all(encode(message) in stream for message in heard)


@given(st.integers(0, 1000), st.integers(0, 17), st.integers(1, 255))
def test_corrupt_byte_costs_its_own_frame_only(start: int, at: int, flip: int):
    sent = [page(start + i) for i in range(6)]
    frames = [bytearray(encode(message)) for message in sent]
    frames[2][at] ^= flip
    framer = Framer()
    heard = framer.feed(b"".join(frames)) + framer.give_up()
    assert [m for m in heard if m in sent] == sent[:2] + sent[3:]


@example(195, 0)
@given(st.integers(0, 1000), st.integers(0, 17))
def test_lost_byte_costs_its_own_frame_only(start: int, at: int):
    sent = [page(start + i) for i in range(6)]
    frames = [bytearray(encode(message)) for message in sent]
    del frames[2][at]
    framer = Framer()
    heard = [m for m in framer.feed(b"".join(frames)) + framer.give_up() if m in sent]
    if at == 0 and frames[1][-1] == frames[0][0]:  # the checksum before it stands where the lost sync byte did: one of the two has it
        assert heard in (sent[:2] + sent[3:], sent[:1] + sent[2:])
    else:
        assert heard == sent[:2] + sent[3:]


def test_frame_after_a_corrupt_one_is_delivered_at_once_or_with_the_next():
    """Resync within one frame: when frame k + 2 has come, frame k + 1 is out, wherever frame k was hit and whatever it became."""
    late = 0
    for at in range(18):
        for flip in range(1, 256):
            framer = Framer()
            bad = bytearray(encode(page(1)))
            bad[at] ^= flip
            framer.feed(bytes(bad))
            first = framer.feed(encode(page(2)))
            late += page(2) not in first
            assert page(2) in first + framer.feed(encode(page(3)))
    assert late < 18 * 255 * 0.02, "a frame waits for the next one only where the length became another possible one"


def test_million_damaged_bytes_cost_only_the_frames_they_hit():
    draw = random.Random(5)
    framer = Framer()
    delivered = hit = extra = 0
    for _ in range(40):
        stream = bytearray()
        whole: set[Message] = set()
        for i in range(1000):
            message = Message(Id.BROADCAST, bytes((0,)) + draw.randbytes(8) + b"\xe0" + draw.randbytes(4) + b"\x20" + draw.randbytes(4))
            frame = bytearray(encode(message))
            if i % 10 == 0:
                frame[draw.randrange(len(frame))] ^= draw.randrange(1, 256)
                hit += 1
            elif i % 10 == 5:
                del frame[draw.randrange(len(frame))]
                hit += 1
            else:
                whole.add(message)
            stream += frame
        heard = framer.feed(bytes(stream)) + framer.give_up()
        delivered += len(whole & set(heard))
        extra += len(set(heard) - whole)
        assert whole <= set(heard)
    assert delivered == 32_000
    assert hit == 8000
    assert extra <= 20, "of frames that lost a byte, one in 256 has a right checksum at most"


def test_message_that_is_too_long_names_itself():
    with pytest.raises(ValueError, match="0x4e"):
        encode(Message(0x4E, bytes(MAX_DATA_BYTES + 1)))
