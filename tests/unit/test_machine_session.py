"""The session of a machine: control asked for, targets reached, everything refused that must be, and a stop that is never given up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.commands import CommandReason, NoticeReason, Target
from device_profiles.samples import Identity
from gateway.fec import CAPABILITIES, Fec
from gateway.ftms import STATUS, TREADMILL_DATA, Ftms
from gateway.limits import GymLimits, Limits, Span, gym_limits
from gateway.machine_effects import Moves, Write
from gateway.machine_session import OWN_ECHO_S, STOP_AGAIN_S, STOP_FOR_S, MachineSession
from tests.machine_model import Bench, FecModel, FtmsModel

ALL = Limits()


def mill(model: FtmsModel, limits: Limits = ALL) -> Bench:
    bench = Bench(MachineSession(Ftms()), model.take)
    bench.run(bench.session.linked(Ftms(), bench.now_s))
    bench.session.learned(limits)
    return bench


def test_control_is_asked_for_once_and_targets_are_reached() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.order("b", "speed_mps", 2.5)
    bench.order("c", "incline_pct", -1.5)
    bench.order("d", "target_power_w", 250)
    bench.order("e", "resistance", 12.5)
    bench.road("f", 8.1)
    assert {bench.state(ident) for ident in "abcdef"} == {("done", "")}
    assert (model.running, model.speed_kmh, model.incline_pct, model.power_w, model.resistance) == (True, 9.0, -1.5, 250, 12.5)
    assert model.road == (0.0, 8.1, 0.004, 0.51)
    assert [raw for raw in model.got if raw == b"\x00"] == [b"\x00"]


def test_messages_are_the_bytes_of_the_standard() -> None:
    model = FtmsModel()
    bench = mill(model)
    for ident, action, value in (("a", "start", None), ("b", "speed_mps", 1 / 3.6), ("c", "resistance", 10), ("d", "resistance", 30)):
        bench.order(ident, action, value)
    bench.order("e", "pause")
    bench.order("f", "spindown")
    bench.order("g", "reset")
    bench.order("h", "stop")
    assert [raw.hex() for raw in model.got] == ["00", "07", "026400", "046400", "042c01", "0802", "1301", "01", "00", "0801"]


PAD = Identity(name="TM11GY-0042")


def test_machine_that_counts_miles_is_told_miles() -> None:
    model = FtmsModel()
    bench = Bench(MachineSession(Ftms(PAD)), model.take)
    bench.run(bench.session.linked(Ftms(PAD), bench.now_s))
    bench.session.learned(ALL)
    bench.order("a", "start")
    bench.order("b", "speed_mps", 1.609344 / 3.6)
    assert [raw.hex() for raw in model.got] == ["00", "07", "026400"]


def test_start_that_would_pause_a_belt_is_refused_while_it_runs() -> None:
    model = FtmsModel()
    bench = Bench(MachineSession(Ftms(PAD)), model.take)
    bench.run(bench.session.linked(Ftms(PAD), bench.now_s))
    bench.session.learned(ALL)
    bench.order("a", "start")
    bench.order("b", "start")
    assert (bench.state("a"), bench.state("b")) == (("done", ""), ("refused", "invalid"))
    bench.order("c", "pause")
    bench.order("d", "start")
    bench.told(0x2ADA, b"\x04")
    bench.order("e", "start")
    assert (bench.state("d"), bench.state("e")) == (("done", ""), ("refused", "invalid"))
    assert [raw.hex() for raw in model.got] == ["00", "07", "0802", "07"]


def test_other_machines_take_a_second_start() -> None:
    bench = mill(FtmsModel())
    bench.order("a", "start")
    bench.order("b", "start")
    assert bench.state("b") == ("done", "")


def test_resistance_of_one_byte_is_a_quirk_and_ends_where_a_byte_does() -> None:
    old = Ftms(Identity(name="Sportneer 1"))
    assert old.plan(Target(action="resistance", value=10)) == (b"\x04\x64",)
    assert old.facts({}).spans["resistance"].high == 25.5


def test_what_a_profile_cannot_say_is_a_limit() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "target_power_w", 5000)
    assert bench.state("a") == ("refused", "limit")
    assert model.got == []


def test_machine_that_gives_no_control_refuses_each_command() -> None:
    model = FtmsModel(deny=True)
    bench = mill(model)
    bench.order("a", "start")
    bench.order("b", "target_power_w", 100)
    assert bench.state("a") == bench.state("b") == ("refused", "no_control")
    assert set(model.got) == {b"\x00"}
    assert bench.moves == []


def test_control_that_was_lost_unnoticed_is_asked_for_again_once() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    model.held = False  # nobody told us
    bench.order("b", "speed_mps", 2)
    assert bench.state("b") == ("done", "")
    assert [raw[0] for raw in model.got] == [0, 7, 2, 0, 2]
    bench.answer = lambda raw: b"\x80" + raw[:1] + (b"\x01" if raw[0] == 0 else b"\x05")  # control is given, and then it is not
    bench.order("c", "speed_mps", 3)
    assert bench.state("c") == ("refused", "no_control")


def test_control_taken_back_ends_what_is_under_way_and_owes_no_stop() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.hold = True
    bench.order("b", "speed_mps", 2)
    bench.order("c", "incline_pct", 2)
    bench.told(STATUS, model.revoke())
    assert bench.state("b") == ("lost", "control_lost")
    assert bench.state("c") == ("refused", "control_lost")
    assert bench.notices == [("control_lost", "")]
    assert bench.moves == [True, False]
    bench.hold = False
    bench.order("d", "start")  # the next command asks for control again
    assert bench.state("d") == ("done", "")


def test_control_taken_back_during_a_stop_is_asked_for_again() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.hold = True
    bench.run(bench.session.stop(NoticeReason.BINDING_ENDED, bench.now_s))
    bench.told(STATUS, model.revoke())
    bench.hold = False
    bench.let_go()
    assert not model.running
    assert bench.notices == [("stopped", "binding_ended")]


@pytest.mark.parametrize(
    ("result", "reason"), [(2, "not_supported"), (3, "invalid"), (4, "failed"), (77, "failed")], ids=["2", "3", "4", "unknown"]
)
def test_refusal_of_the_machine_is_passed_on_and_owes_no_stop(result: int, reason: str) -> None:
    bench = mill(FtmsModel())
    bench.answer = lambda raw: bytes([0x80, raw[0], 1 if raw[0] == 0 else result])
    bench.order("a", "speed_mps", 2)
    assert bench.state("a") == ("refused", reason)
    assert bench.moves == [True, False]


@pytest.mark.parametrize("answer", [b"", b"\x80", b"\x80\x02", b"\x80\x03\x01", b"\x11\x22\x33"])
def test_answer_that_makes_no_sense_is_a_failure(answer: bytes) -> None:
    bench = mill(FtmsModel())
    bench.answer = lambda raw: b"\x80\x00\x01" if raw[0] == 0 else answer
    bench.order("a", "speed_mps", 2)
    assert bench.state("a") == ("refused", "failed")


def test_value_without_answer_is_sent_twice_and_then_lost() -> None:
    model = FtmsModel()
    bench = mill(model)
    sent: list[bytes] = []
    bench.answer = lambda raw: model.take(raw) if raw[0] == 0 else sent.append(raw)
    bench.order("a", "speed_mps", 2)
    assert bench.state("a") == ("lost", "no_answer")
    assert len(sent) == 2
    assert bench.moves == [True]  # nobody knows, so a stop stays owed
    bench.order("b", "start")
    assert bench.state("b") == ("lost", "no_answer")
    assert len(sent) == 3  # a start is a toggle on some machines


def test_request_for_control_without_answer_is_a_refusal() -> None:
    bench = mill(FtmsModel())
    bench.answer = lambda raw: None
    bench.order("a", "start")
    assert bench.state("a") == ("refused", "no_control")


def test_beyond_a_limit_is_refused_before_anything_is_sent() -> None:
    model = FtmsModel()
    limits = gym_limits([GymLimits(max_speed_mps=5, max_power_w=300)], {"speed_mps": Span(0.2, 4.0, "the machine", 0.1)})
    bench = mill(model, limits)
    bench.order("a", "speed_mps", 4.5)
    bench.order("b", "target_power_w", 301)
    bench.order("c", "speed_mps", 0.1)
    assert {bench.state(ident) for ident in "abc"} == {("refused", "limit")}
    assert bench.replies["a"].detail == "speed_mps 4.5 m/s: the machine allows 0.2 to 4 m/s"
    assert bench.replies["b"].detail == "target_power_w 301 W: the gym allows 0 to 300 W"
    assert model.got == []
    bench.order("d", "speed_mps", 2.04)
    assert model.speed_kmh == 7.2  # the nearest value the machine knows


def test_what_the_machine_says_it_lacks_is_refused() -> None:
    bench = mill(FtmsModel(), Limits(missing=frozenset({"target_power_w"})))
    bench.order("a", "target_power_w", 100)
    assert bench.state("a") == ("refused", "not_supported")


def test_machine_that_was_not_asked_for_its_limits_takes_a_stop_only() -> None:
    model = FtmsModel()
    bench = Bench(MachineSession(Ftms()), model.take)
    bench.order("a", "stop")
    bench.run(bench.session.linked(Ftms(), bench.now_s))
    bench.order("b", "start")
    bench.order("c", "stop")
    assert bench.state("a") == bench.state("b") == ("refused", "not_controllable")
    assert bench.state("c") == ("done", "")


def test_belt_goes_up_and_down_in_steps() -> None:
    model = FtmsModel()
    bench = mill(model, Limits(ramp_mps2=0.5))
    bench.order("a", "start")
    bench.order("b", "speed_mps", 2)
    assert "b" not in bench.replies
    bench.wait(10)
    assert bench.state("b") == ("done", "")
    bench.order("c", "speed_mps", 1)
    bench.wait(10)
    speeds = [int.from_bytes(raw[1:], "little") / 360 for raw in model.got if raw[0] == 2]
    assert speeds == pytest.approx([0.5, 1, 1.5, 2, 1.5, 1], abs=0.01)


def test_ramp_does_not_creep_below_the_slowest_speed_of_the_belt() -> None:
    model = FtmsModel()
    bench = mill(model, Limits({"speed_mps": Span(0.5, 5, "the machine")}, ramp_mps2=0.2))
    bench.order("a", "speed_mps", 0.9)
    bench.wait(5)
    speeds = [int.from_bytes(raw[1:], "little") / 360 for raw in model.got if raw[0] == 2]
    assert speeds == pytest.approx([0.5, 0.7, 0.9], abs=0.01)


def test_ramp_begins_at_the_speed_the_machine_tells() -> None:
    model = FtmsModel()
    bench = mill(model, Limits(ramp_mps2=0.5))
    bench.told(TREADMILL_DATA, bytes.fromhex("0000") + (720).to_bytes(2, "little"))
    bench.order("a", "speed_mps", 3)
    assert int.from_bytes(model.got[-1][1:], "little") == 900
    bench.wait(5)
    bench.told(STATUS, b"\x05" + (360).to_bytes(2, "little"))  # somebody turned it down at the machine
    bench.order("b", "speed_mps", 3)
    assert int.from_bytes(model.got[-1][1:], "little") == 540


def test_newer_target_takes_the_place_of_one_that_waits_or_ramps() -> None:
    model = FtmsModel()
    bench = mill(model, Limits(ramp_mps2=0.5))
    bench.order("a", "speed_mps", 5)
    bench.order("b", "speed_mps", 4)
    bench.order("c", "speed_mps", 1)
    bench.wait(5)
    assert bench.state("a") == ("refused", "superseded")
    assert bench.state("c") == ("done", "")
    assert model.speed_kmh == pytest.approx(3.6)


def test_of_each_action_only_the_newest_waits() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.hold = True
    bench.order("a", "start")
    for n in range(50):
        bench.order(f"speed{n}", "speed_mps", n / 20)
        bench.order(f"power{n}", "target_power_w", n)
    bench.hold = False
    bench.let_go()
    assert [ident for ident, reply in bench.replies.items() if reply.state == "done"] == ["a", "speed49", "power49"]
    assert {bench.state(f"speed{n}") for n in range(49)} == {("refused", "superseded")}
    assert len(model.got) == 4


def test_order_that_waited_too_long_is_refused() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.hold = True
    bench.order("a", "start")
    bench.order("b", "speed_mps", 2, good_for_s=5)
    bench.now_s += 6
    bench.hold = False
    bench.let_go()
    assert bench.state("a") == ("done", "")
    assert bench.state("b") == ("refused", "expired")
    assert model.speed_kmh == 0


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_stop_and_pause_wait_for_nothing(action: str) -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.hold = True
    bench.order("b", "speed_mps", 2)
    bench.order("c", "incline_pct", 2)
    bench.hold = False
    bench.order("d", action)
    assert bench.state("b") == ("lost", "stopped")
    assert bench.state("c") == ("refused", "stopped")
    assert bench.state("d") == ("done", "")
    assert not model.running
    assert bench.session.moving is (action == "pause")


def test_second_stop_and_a_pause_do_not_end_a_stop_under_way() -> None:
    bench = mill(FtmsModel())
    bench.order("a", "start")
    bench.hold = True
    bench.order("b", "stop")
    bench.order("c", "stop")
    bench.order("d", "pause")
    bench.hold = False
    bench.let_go()
    assert {bench.state(ident) for ident in "abcd"} == {("done", "")}


def test_machine_without_a_stop_is_unloaded() -> None:
    model = FtmsModel(knows_stop=False)
    bench = mill(model)
    bench.order("a", "target_power_w", 200)
    bench.order("b", "stop")
    assert bench.state("b") == ("done", "")
    assert "load was taken off" in bench.replies["b"].detail
    assert model.power_w == 0
    assert bench.moves == [True, False]


def test_stop_that_is_refused_is_tried_again_until_it_is_taken() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    model.held, model.deny = False, True
    bench.session.told(STATUS, b"\x01", bench.now_s)  # a reset: control has to be asked for
    bench.order("b", "stop")
    assert bench.state("b") == ("refused", "no_control")
    bench.wait(20 * STOP_AGAIN_S)
    assert model.running
    assert bench.notices == [("stop_failed", "")]  # told once
    model.deny = False
    bench.wait(2 * STOP_AGAIN_S)
    assert not model.running
    assert bench.notices[-1] == ("stopped", "")
    assert bench.moves == [True, False]


def test_stop_is_given_up_after_ten_minutes_and_that_is_told() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.run(bench.session.lost(bench.now_s))
    assert bench.notices == [("stop_owed", "link_lost")]
    bench.wait(STOP_FOR_S + 1)
    assert bench.notices[-1] == ("stop_failed", "too_late")
    assert bench.moves == [True, False]
    bench.run(bench.session.linked(Ftms(), bench.now_s))
    assert model.got[-1] == b"\x07"


def test_lost_link_answers_everything_and_the_stop_goes_first_afterwards() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.hold = True
    bench.order("b", "speed_mps", 2)
    bench.order("c", "incline_pct", 2)
    bench.run(bench.session.lost(bench.now_s))
    bench.held_back = None
    assert bench.state("b") == ("lost", "link_lost")
    assert bench.state("c") == ("refused", "link_lost")
    model.held, bench.hold = False, False
    bench.now_s += 60
    bench.run(bench.session.linked(Ftms(), bench.now_s))
    assert model.got[-2:] == [b"\x00", b"\x08\x01"]
    assert not model.running
    assert bench.notices == [("stop_owed", "link_lost"), ("stopped", "link_lost")]


def test_stop_owed_by_the_process_before_goes_as_soon_as_there_is_a_link() -> None:
    model = FtmsModel(running=True)
    bench = Bench(MachineSession(Ftms(), moving=True), model.take)
    bench.run(bench.session.stop(NoticeReason.BOX_RESTARTED, bench.now_s, for_s=300))
    bench.wait(200)
    bench.run(bench.session.linked(Ftms(), bench.now_s))
    assert not model.running
    assert bench.notices == [("stop_owed", "box_restarted"), ("stopped", "box_restarted")]


def test_nothing_is_stopped_that_was_not_moved_by_command() -> None:
    model = FtmsModel(running=True)
    bench = mill(model)
    assert bench.session.stop(NoticeReason.PLATFORM_LOST, bench.now_s) == []
    bench.run(bench.session.lost(bench.now_s))
    assert bench.notices == []


@pytest.mark.parametrize(("status", "reason"), [(b"\x02\x01", "user"), (b"\x03", "safety_key"), (b"\x02", "user")])
def test_stop_at_the_machine_ends_what_waits_and_only_a_start_moves_it_again(status: bytes, reason: str) -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    model.press_stop()
    bench.told(STATUS, status)
    bench.order("b", "speed_mps", 2)
    assert bench.state("b") == ("refused", "halted")
    assert bench.notices == [("halted", reason)]
    assert bench.moves == [True, False]
    bench.order("c", "start")
    bench.order("d", "speed_mps", 2)
    assert bench.state("d") == ("done", "")


def test_pause_at_the_machine_still_owes_a_stop() -> None:
    bench = mill(FtmsModel())
    bench.order("a", "start")
    bench.told(STATUS, b"\x02\x02")
    assert bench.session.moving
    bench.told(STATUS, b"\x04")  # and goes on there
    bench.order("b", "speed_mps", 2)
    assert bench.state("b") == ("done", "")


def test_echo_of_our_own_stop_is_not_a_button() -> None:
    bench = mill(FtmsModel())
    bench.order("a", "start")
    bench.hold = True
    bench.order("b", "pause")
    bench.told(STATUS, b"\x02\x02")  # before the answer
    bench.hold = False
    bench.let_go()
    bench.told(STATUS, b"\x02\x02")  # and after it
    bench.order("c", "speed_mps", 1)
    assert bench.state("c") == ("done", "")
    assert bench.notices == []
    bench.now_s += OWN_ECHO_S
    bench.told(STATUS, b"\x02\x01")
    assert bench.notices == [("halted", "user")]


def fec(model: FecModel, page54: bytes | None = None) -> Bench:
    bench = Bench(MachineSession(Fec()), model.take)
    bench.run(bench.session.linked(Fec(), bench.now_s))
    facts = Fec().facts({CAPABILITIES: page54})
    bench.session.learned(Limits(facts.spans, facts.missing))
    return bench


def test_trainer_on_ant_reaches_its_targets_and_stop_takes_the_load_off() -> None:
    model = FecModel()
    bench = fec(model)
    bench.order("a", "target_power_w", 212.25)
    assert (bench.state("a"), model.power_w) == (("done", ""), 212.25)
    bench.road("b", 4.5)
    assert (bench.state("b"), model.grade_pct, model.wind_kmh) == (("done", ""), pytest.approx(4.5), 0)
    bench.order("c", "resistance", 20)
    assert (bench.state("c"), model.resistance_pct) == (("done", ""), 20)
    bench.order("d", "stop")
    assert (bench.state("d"), model.resistance_pct) == (("done", ""), 0)
    assert [raw[0] for raw in model.got] == [49, 50, 51, 48, 48]
    assert bench.moves == [True, False]


def test_road_of_which_the_trainer_took_the_wind_alone_owes_a_stop() -> None:
    model = FecModel()
    bench = fec(model)
    bench.answer = lambda raw: model.take(raw) if raw[0] != 51 else bytes([71, 51, 9, 2, *raw[4:8]])
    bench.road("a", 4.5)
    assert bench.state("a") == ("refused", "not_supported")
    assert bench.session.moving
    bench.order("b", "stop")
    assert (bench.state("b"), bench.moves) == (("done", ""), [True, False])


def test_value_refused_only_when_it_was_sent_again_owes_a_stop() -> None:
    model = FtmsModel()
    bench = mill(model)
    bench.order("a", "start")
    bench.order("b", "stop")
    answers = iter([None, b"\x80\x05\x04"])
    bench.answer = lambda raw: next(answers) if raw[0] == 5 else model.take(raw)
    bench.order("c", "target_power_w", 100)
    assert bench.state("c") == ("refused", "failed")
    assert bench.session.moving


@pytest.mark.parametrize("action", ["start", "pause", "reset", "spindown", "speed_mps", "incline_pct"])
def test_what_fec_has_no_word_for_is_refused(action: str) -> None:
    model = FecModel()
    bench = fec(model)
    bench.order("a", action, 1 if action in {"speed_mps", "incline_pct"} else None)
    assert bench.state("a") == ("refused", "not_supported")
    assert model.got == []


@pytest.mark.parametrize(
    ("status", "state"), [(0, "done"), (4, "done"), (1, "failed"), (2, "not_supported"), (3, "invalid"), (255, "failed")]
)
def test_command_status_of_page_71_is_the_answer(status: int, state: str) -> None:
    bench = fec(FecModel(status=status))
    bench.order("a", "target_power_w", 100)
    assert bench.state("a") in {("done", ""), ("refused", state)}
    assert (bench.state("a")[0] == "done") is (state == "done")


def test_old_answer_of_page_71_is_no_answer_to_a_new_command() -> None:
    bench = fec(FecModel())
    bench.answer = lambda raw: bytes([71, 48, 9, 0, 0, 0, 0, 0])
    bench.order("a", "target_power_w", 100)
    assert bench.state("a") == ("refused", "failed")


def test_capabilities_of_page_54_say_what_is_missing() -> None:
    bench = fec(FecModel(), bytes([54, 255, 255, 255, 255, 200, 0, 0b011]))
    bench.road("a", 1)
    bench.order("b", "target_power_w", 100)
    assert bench.state("a") == ("refused", "not_supported")
    assert bench.state("b") == ("done", "")


def test_ranges_and_features_of_a_machine_become_limits() -> None:
    facts = Ftms().facts(
        {
            0x2AD4: bytes.fromhex("3200d0070a00"),  # 0.5 to 20 km/h in steps of 0.1
            0x2AD5: bytes.fromhex("e2ff96000500"),  # -3 to 15 % in steps of 0.5
            0x2AD6: bytes.fromhex("0000"),  # too short: it says nothing
            0x2AD8: bytes.fromhex("000000000100"),  # from 0 to 0: no range
            0x2ACC: bytes.fromhex("0000000003000000"),
        }
    )
    assert facts.spans["speed_mps"] == Span(pytest.approx(0.5 / 3.6), pytest.approx(20 / 3.6), "the machine", pytest.approx(0.1 / 3.6))
    assert facts.spans["incline_pct"] == Span(-3, 15, "the machine", 0.5)
    assert facts.spans["resistance"] == Span(0, 1000, "its profile")
    assert facts.spans["target_power_w"] == Span(0, 4000, "its profile")
    assert facts.missing == {"resistance", "target_power_w", "simulation", "spindown"}
    assert Ftms().facts({}).missing == Ftms().facts({0x2ACC: bytes(8)}).missing == frozenset()


def test_limits_that_leave_nothing_refuse_everything() -> None:
    limits = gym_limits([GymLimits(max_speed_mps=1)], {"speed_mps": Span(2, 5, "the machine")})
    bench = mill(FtmsModel(), limits)
    for n, speed in enumerate((0.0, 1.0, 1.5, 2.0, 5.0)):
        bench.order(f"s{n}", "speed_mps", speed)
        assert bench.state(f"s{n}") == ("refused", "limit")


ACTIONS = st.sampled_from(["start", "stop", "pause", "reset", "speed_mps", "incline_pct", "target_power_w"])
EVENTS = st.one_of(
    st.tuples(st.just("order"), ACTIONS),
    st.tuples(st.just("own_stop"), st.sampled_from([NoticeReason.PLATFORM_LOST, NoticeReason.BINDING_ENDED])),
    st.tuples(st.just("withdraw"), st.just("")),
    st.tuples(st.just("status"), st.sampled_from([b"\xff", b"\x02\x01", b"\x02\x02", b"\x03", b"\x04", b"\x01"])),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.5, 30.0])),
    st.tuples(st.just("let_go"), st.sampled_from(["answer", "silence", "refuse", "deny"])),
)


def whatever_happens(events: list[tuple[str, object]], ramped: bool) -> None:
    """Each order is answered once, a stop is owed before anything moves, and in the end nothing does."""
    model = FtmsModel()
    limits = Limits(ramp_mps2=0.4 if ramped else None)
    bench = mill(model, limits)
    bench.hold = True
    up, orders = True, 0
    for kind, what in events:
        match kind:
            case "order":
                orders += 1
                value = {"speed_mps": 3.0, "incline_pct": 2.0, "target_power_w": 150.0}.get(str(what))
                bench.order(f"o{orders}", str(what), value)
            case "own_stop":
                bench.run(bench.session.stop(NoticeReason(str(what)), bench.now_s))
            case "withdraw":
                bench.run(bench.session.withdraw(CommandReason.NOT_BOUND, bench.now_s))
            case "status" if up:
                assert isinstance(what, bytes)
                if what == b"\xff":
                    model.held = False
                bench.told(STATUS, what)
            case "link" if bool(what) != up:
                up = bool(what)
                if up:
                    model.held = False
                    bench.run(bench.session.linked(Ftms(), bench.now_s))
                    bench.session.learned(limits)
                else:
                    bench.held_back = None
                    bench.run(bench.session.lost(bench.now_s))
            case "wait":
                bench.wait(float(str(what)))
            case "let_go" if bench.held_back is not None:
                answers = {
                    "answer": model.take,
                    "silence": lambda raw: None,
                    "refuse": lambda raw: bytes([0x80, raw[0], 4]),
                    "deny": lambda raw: bytes([0x80, raw[0], 5]),
                }
                bench.answer = answers[str(what)]
                bench.let_go()
            case _:
                pass
    moved_before_write = False
    for effect in bench.effects:
        if isinstance(effect, Moves):
            moved_before_write = effect.moving
        elif isinstance(effect, Write) and effect.payload[0] in {0x02, 0x03, 0x05, 0x07}:
            assert moved_before_write, "a stop must be owed before the first message that moves"
    # in the end all is well again: whatever is still owed is done
    bench.hold, bench.answer = False, model.take
    if bench.held_back is not None:
        bench.let_go()
    if not up:
        model.held = False
        bench.run(bench.session.linked(Ftms(), bench.now_s))
        bench.session.learned(limits)
    bench.wait(60)
    bench.run(bench.session.stop(NoticeReason.SHUTDOWN, bench.now_s))
    bench.wait(60)
    assert set(bench.replies) == {f"o{n}" for n in range(1, orders + 1)}
    assert not bench.session.moving
    assert model.speed_kmh == 0 or bench.moves == [] or bench.moves[-1] is False


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_whatever_happens_each_order_is_answered_once_and_what_moves_is_stopped(events: list[tuple[str, object]], ramped: bool) -> None:
    whatever_happens(events, ramped)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@settings(max_examples=20_000, deadline=None)
@given(st.lists(EVENTS, max_size=120), st.booleans())
def test_twenty_thousand_sessions_end_well(events: list[tuple[str, object]], ramped: bool) -> None:
    whatever_happens(events, ramped)
