"""The conversation with a stick, against the virtual one: start-up, scan, channels, transfers, and what happens when something is lost."""

from __future__ import annotations

import random
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ant_bursts import Bursts, cut
from gateway.ant_framing import Framer, Id, Message, encode
from gateway.ant_messages import ChannelId, Code, Data, network_key, understand
from gateway.ant_stick import QUIET_S, Phase, Stick, StickSettings
from gateway.ant_transfers import Delivered
from simulators.ant_machines import Trainer
from simulators.ant_room import room
from simulators.ant_sensors import HeartRate
from simulators.ant_stick import StickFaults, StickModel, VirtualStick
from tests.ant_world import KEY, AntWorld, searches

FULL = "hr:30,trainer:2,treadmill,power:2,speed,cadence,speed_cadence,stride,oxygen,air,core,weight"


def delivered(world: AntWorld) -> list[Delivered]:
    return [out for out in world.output if isinstance(out, Delivered)]


def test_scanning_stick_hears_a_whole_room_with_id_and_signal():
    world = AntWorld(room(FULL))
    world.run(20)
    assert world.stick.scanning
    assert (world.stick.version, world.stick.serial) == ("VSTICK1.00", 4711)
    assert len(world.heard) == 43
    assert world.pages == world.whole
    assert all(-85 <= out.rssi_dbm <= -45 for out in world.output if not isinstance(out, Delivered) and out.rssi_dbm is not None)


def test_captured_trainer_frame_is_understood():
    data = bytes.fromhex("0010193ddb00005c35e02e0a110510006800871f")
    heard = understand(Message(Id.BROADCAST, data))
    assert heard == Data(Id.BROADCAST, 0, bytes.fromhex("10193ddb00005c35"), ChannelId(2606, 17, 5), None, 0x1F87)


def test_device_number_has_twenty_bits():
    world = AntWorld([HeartRate(0x2_0001), HeartRate(0x5_0001)])
    world.run(5)
    assert set(world.heard) == {"ant-120-131073", "ant-120-327681"}
    assert world.pages == world.whole


@pytest.mark.parametrize("seed", range(5))
def test_every_whole_page_arrives_with_one_corrupt_byte_in_100_frames_and_lost_bytes(seed: int):
    world = AntWorld(room("hr:30,trainer:2,treadmill"), faults=StickFaults(corrupt_every=100, lose_every=77, seed=seed))
    world.run(60)
    assert world.virtual.damaged > 100
    assert world.pages == world.whole


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_stream_cut_anywhere_gives_the_same_pages(seed: int):
    draw = random.Random(seed)

    def pieces(data: bytes) -> list[bytes]:
        cuts = sorted(draw.randint(0, len(data)) for _ in range(draw.randint(0, 4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    world = AntWorld(room("hr:2,trainer"), cut=pieces)
    world.run(3)
    assert world.pages == world.whole


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=14)), max_size=30), st.binary(max_size=64))
def test_any_messages_and_bytes_leave_a_conversation_that_goes_on_or_fails_with_a_reason(sent: list[tuple[int, bytes]], junk: bytes):
    stick = Stick(StickSettings(KEY, ()), 0.0)
    now = 0.0
    for number, data in sent:
        now += 0.3
        stick.feed(encode(Message(number, data)) + junk, now)
        stick.wake(now)
        stick.outgoing()
    assert stick.phase is not Phase.FAILED or stick.reason


def test_without_an_answer_the_conversation_fails_and_says_what_was_not_answered():
    world = AntWorld(room("hr"), faults=StickFaults(deaf=True))
    world.run(30)
    assert world.stick.phase is Phase.FAILED
    assert world.stick.reason == "no answer to a question about the stick"


def test_answers_lost_at_the_start_are_asked_for_again():
    for lose in range(2, 9):
        world = AntWorld(room("hr:2"), faults=StickFaults(lose_every=lose))
        world.run(40, until=world.listening)
        assert world.listening(), f"every {lose}: {world.stick.reason}"


def test_stick_that_lost_its_power_is_set_up_again():
    world = AntWorld(room("hr:3"))
    world.run(5)
    world.virtual.restart()
    before = world.heard.total()
    world.run(5)
    assert world.stick.restarts == 1
    assert world.heard.total() > before + 3 * 4 * 3
    assert world.pages == world.whole


def test_scan_that_was_closed_behind_our_back_is_opened_again():
    world = AntWorld(room("hr"))
    world.run(3)
    world.virtual.feed(encode(Message(Id.CLOSE, b"\0")))
    world.run(3)
    assert world.stick.restarts == 1
    assert world.listening()


def test_stick_that_falls_silent_is_asked_and_then_given_up():
    world = AntWorld(room("hr"))
    world.run(3)
    world.virtual.faults.deaf = True
    world.run(QUIET_S - 1)
    assert world.listening()
    world.run(5)
    assert world.stick.phase is Phase.FAILED


def test_quiet_room_is_not_a_broken_stick():
    world = AntWorld([])
    world.run(120)
    assert world.listening()
    assert world.stick.restarts == 0


def test_stick_with_another_key_hears_nobody():
    world = AntWorld(room("hr:3"), key=bytes(8))
    world.run(10)
    assert world.listening()
    assert not world.heard


def test_key_is_in_no_text():
    key = bytes.fromhex("00112233445566aa")
    stick = Stick(StickSettings(key, ()), 0.0)
    assert "aa" not in repr(stick._set)
    with pytest.raises(ValueError, match="8 bytes, this one has 7"):
        network_key(0, key[:7])


def test_stick_that_cannot_scan_gives_each_master_a_channel_of_its_own():
    world = AntWorld(room("hr:3,trainer:2,power:1"), model=StickModel(can_scan=False))
    world.run(90)
    assert not world.stick.scanning
    assert len(world.heard) == 6
    tracked = [c.who for c in world.stick.channels.values() if c.who is not None]
    assert len(tracked) == len(set(tracked)) == 6


def test_stick_that_cannot_extend_its_messages_is_asked_whom_it_hears():
    world = AntWorld(room("hr:2,trainer"), model=StickModel(can_scan=False, can_extend=False))
    world.run(60)
    assert set(world.heard) == {sensor.device for sensor in world.sensors}
    assert all(page in world.whole[device] for device, pages in world.pages.items() for page in pages)


def test_stick_that_says_it_can_scan_and_refuses_gets_channels():
    class Liar(VirtualStick):
        def _answer(self, number: int, wanted: int) -> None:
            told, self.model = self.model, StickModel()
            super()._answer(number, wanted)
            self.model = told

    world = AntWorld(room("hr"), make=Liar, model=StickModel(can_scan=False))
    world.run(20)
    assert world.stick.capabilities is not None
    assert world.stick.capabilities.can_scan
    assert not world.stick.scanning
    assert world.heard.total() > 20


def test_collision_of_two_channels_is_counted():
    world = AntWorld(room("hr,speed,cadence,power"), model=StickModel(can_scan=False), faults=StickFaults(collide=True))
    world.run(600, until=lambda: any(c.counts["collisions"] for c in world.stick.channels.values()))
    assert any(c.counts["collisions"] for c in world.stick.channels.values())
    assert world.virtual.collisions > 0


def test_sensor_that_left_frees_its_channel_and_is_found_again():
    world = AntWorld([HeartRate(7)], model=StickModel(can_scan=False, channels=2))
    world.run(10)
    world.virtual.leave(world.sensors[0])
    world.run(30)
    before = world.heard.total()
    assert all(c.who is None for c in world.stick.channels.values())
    assert sum(c.counts["searches_ended"] for c in world.stick.channels.values()) > 0
    world.virtual.come(world.sensors[0])
    world.run(15)
    assert world.heard.total() > before + 10


def test_acknowledged_message_reaches_a_trainer_while_the_stick_scans():
    trainer = Trainer(9)
    world = AntWorld([trainer, HeartRate(1)])
    world.run(2)
    page = bytes((49, 255, 255, 255, 255, 255)) + (4 * 250).to_bytes(2, "little")
    world.stick.send(ChannelId(9, 17, 5), page, 1, world.t_us / 1e6)
    world.run(10)
    assert delivered(world) == [Delivered(1, ok=True)]
    assert trainer.commands == [page]
    assert trainer.truth["power_w"] == 250
    assert world.pages == world.whole


def test_failed_transfer_is_repeated_and_then_given_up():
    for failures, ok in ((3, True), (4, False)):
        trainer = Trainer(9)
        world = AntWorld([trainer], faults=StickFaults(fail_transfers=failures))
        world.run(2)
        world.stick.send(ChannelId(9, 17, 5), bytes((48, 255, 255, 255, 255, 255, 255, 60)), 5, world.t_us / 1e6)
        world.run(15)
        assert [(d.ticket, d.ok) for d in delivered(world)] == [(5, ok)]
        assert len(trainer.commands) == ok


def test_transfer_to_a_device_that_is_not_there_ends_with_a_reason():
    for can_scan in (True, False):
        world = AntWorld([HeartRate(1)], model=StickModel(can_scan=can_scan))
        world.run(3)
        world.stick.send(ChannelId(9, 17, 5), bytes(8), 2, world.t_us / 1e6)
        world.run(20)
        (end,) = delivered(world)
        assert not end.ok
        assert end.reason


def test_message_given_up_never_reaches_the_machine_beside():
    trainers = [Trainer(9), Trainer(10)]
    world = AntWorld(list(trainers))
    world.run(2)
    world.virtual.leave(trainers[0])
    world.stick.send(ChannelId(9, 17, 5), bytes((48, 255, 255, 255, 255, 255, 255, 200)), 1, world.t_us / 1e6)
    world.stick.send(ChannelId(10, 17, 5), bytes((48, 255, 255, 255, 255, 255, 255, 40)), 2, world.t_us / 1e6)
    world.run(20)
    world.virtual.come(trainers[0])
    world.run(5)
    assert [(d.ticket, d.ok) for d in delivered(world)] == [(1, False), (2, True)]
    assert [[page[7] for page in trainer.commands] for trainer in trainers] == [[], [40]]


@pytest.mark.parametrize("lose", [2, 3, 5])
def test_messages_reach_the_right_machines_though_answers_are_lost(lose: int):
    trainers = [Trainer(9), Trainer(10)]
    world = AntWorld(list(trainers), faults=StickFaults(lose_every=lose))
    world.run(30, until=world.listening)
    for i in range(10):
        world.stick.send(ChannelId(9 + i % 2, 17, 5), bytes((48, 255, 255, 255, 255, 255, 255, i)), i, world.t_us / 1e6)
    world.run(150)
    assert len(delivered(world)) == 10
    for which, trainer in enumerate(trainers):
        assert {page[7] % 2 for page in trainer.commands} <= {which}
        assert {d.ticket for d in delivered(world) if d.ok and d.ticket % 2 == which} <= {page[7] for page in trainer.commands}


def test_transfer_on_a_tracking_channel_and_a_burst():
    trainer = Trainer(9)
    world = AntWorld([trainer], model=StickModel(can_scan=False))
    world.run(10)
    pages = bytes((49, 255, 255, 255, 255, 255, 0x20, 0x03)) + bytes((48, 255, 255, 255, 255, 255, 255, 50))
    world.stick.send(ChannelId(9, 17, 5), pages, 3, world.t_us / 1e6)
    world.run(3)
    assert [d.ok for d in delivered(world)] == [True]
    assert trainer.commands == [pages[:8], pages[8:]]


def test_stick_that_starts_afresh_ends_what_waits():
    world = AntWorld([HeartRate(1)])
    world.run(3)
    world.stick.send(ChannelId(9, 17, 5), bytes(8), 4, world.t_us / 1e6)
    world.run(0.5)
    world.virtual.restart()
    world.run(3)
    assert [(d.ticket, d.reason) for d in delivered(world)] == [(4, "the stick has started afresh")]


@given(st.binary(min_size=1, max_size=300))
def test_burst_is_joined_as_it_was_cut(content: bytes):
    bursts = Bursts()
    parts = [understand(message) for message in cut(3, content)]
    whole = [bursts.take(part) for part in parts if isinstance(part, Data)]
    assert whole[:-1] == [None] * (len(whole) - 1)
    assert whole[-1] == content.ljust(len(whole) * 8, b"\0")
    assert bursts.dropped == 0


@given(st.integers(3, 12), st.data())
def test_burst_with_a_packet_missing_is_dropped_whole(packets: int, data: st.DataObject):
    bursts = Bursts()
    messages = cut(3, bytes(8 * packets))
    del messages[data.draw(st.integers(0, packets - 2))]
    parts = [understand(message) for message in messages]
    assert all(bursts.take(part) is None for part in parts if isinstance(part, Data))


def test_code_of_a_collision_is_that_of_the_protocol():
    assert (Code.COLLISION, Code.BACK_TO_SEARCH, Code.INVALID_SCAN_TRANSMIT) == (9, 8, 49)


def test_a_hundred_thousand_mutated_frames_raise_nothing_and_pile_up_nothing():
    """A twentieth of the nightly run."""
    mutate(100_000, seed=1)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_two_million_mutated_frames_raise_nothing_and_pile_up_nothing():
    mutate(2_000_000, seed=2)


def mutate(count: int, seed: int) -> None:
    """Frames of a real conversation, changed, cut, doubled and shuffled, into conversations that scan and that search."""
    draw = random.Random(seed)
    frames: list[bytes] = []
    for can_scan in (True, False):
        virtual = VirtualStick(room("hr:3,trainer,power"), KEY, model=StickModel(can_scan=can_scan), faults=StickFaults(collide=True))
        stick = Stick(StickSettings(KEY, searches(virtual.sensors.values())), 0.0)
        for step in range(1, 3000):
            virtual.advance(step * 10_000)
            data = virtual.take()
            frames += [encode(message) for message in Framer().feed(data)]
            stick.feed(data, step / 100)
            stick.wake(step / 100)
            virtual.feed(stick.outgoing())
    stick, now_s = Stick(StickSettings(KEY, searches(room("hr,trainer,power"))), 0.0), 0.0
    failed = 0
    for _ in range(count):
        frame = bytearray(draw.choice(frames))
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(frame))
            match draw.randrange(4):
                case 0:
                    frame[at] = draw.randrange(256)
                case 1 if len(frame) > 1:
                    del frame[at]
                case 2:
                    frame.insert(at, draw.randrange(256))
                case _:
                    frame[-1] ^= draw.randrange(256)
        if draw.random() < 0.3:  # changed inside, with the checksum right again
            body = bytes(frame[:-1])
            frame = bytearray(body + bytes((reduce(lambda a, b: a ^ b, body, 0),)))
        now_s += 0.01
        stick.feed(bytes(frame), now_s)
        if now_s >= stick.deadline_s():
            stick.wake(now_s)
        if draw.random() < 0.001:
            stick.send(ChannelId(draw.randrange(1, 9), 17, 5), bytes(8), 1, now_s)
        assert len(stick.outgoing()) < 4000
        assert len(stick.commands) < 200
        assert stick.framer.waiting < 60
        if stick.phase is Phase.FAILED:
            assert stick.reason
            failed += 1
            stick = Stick(StickSettings(KEY, searches(room("hr,trainer,power")), may_scan=bool(failed % 2)), now_s)
