"""The platform's side of commands: sent until answered, answered only by the box they went to, and refused for who is not bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.commands import Command, CommandReason, CommandState, Notice, NoticeEvent, Reply, decode_command
from broker.errors import StoreError
from processors.api import ApiOptions
from processors.api.kinds import PREFIX
from processors.equipment import ACCEPTED_AGAIN_S, AGAIN_S, KEEP_US, SILENT_US, EquipmentDesk
from tests.api_stores import NOW_US, Stores, client_of, stores

LATER_US = NOW_US + 60_000_000


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[EquipmentDesk]:
    made = EquipmentDesk(tmp_path / "equipment.db")
    yield made
    made.close()


def command(ident: str = "command-1", *, expires_us: int = LATER_US) -> Command:
    made = {"id": ident, "device": "mill", "athlete": "ann", "expires_us": expires_us, "order": {"action": "speed_mps", "value": 2.0}}
    return Command.model_validate(made)


def reply(state: CommandState, reason: CommandReason | None = None, ident: str = "command-1") -> Reply:
    return Reply(id=ident, device="mill", state=state, reason=reason)


def state_of(desk: EquipmentDesk, ident: str = "command-1") -> str:
    found = desk.find("gym", ident)
    assert found is not None
    return found.state


def test_command_is_due_until_its_box_answers(desk: EquipmentDesk) -> None:
    assert desk.send("gym", "box", command(), NOW_US).state == "sent"
    assert desk.changed.is_set()
    (due,) = desk.due(NOW_US)
    assert (due.topic, decode_command(due.payload), due.again_s) == ("pl/1/gym/box/cmd", command(), AGAIN_S)
    assert not desk.changed.is_set()
    assert desk.answered("gym", "box", reply(CommandState.ACCEPTED), NOW_US)
    assert [one.again_s for one in desk.due(NOW_US)] == [ACCEPTED_AGAIN_S]
    assert desk.answered("gym", "box", reply(CommandState.DONE), NOW_US)
    assert desk.due(NOW_US) == []
    assert state_of(desk) == "done"


def test_final_answer_stays(desk: EquipmentDesk) -> None:
    desk.send("gym", "box", command(), NOW_US)
    desk.answered("gym", "box", reply(CommandState.REFUSED, CommandReason.LIMIT), NOW_US)
    for late in (CommandState.ACCEPTED, CommandState.DONE):
        assert not desk.answered("gym", "box", reply(late), NOW_US)
    assert state_of(desk) == "refused"


@pytest.mark.parametrize(("tenant", "node"), [("gym", "other"), ("otherhall", "box")])
def test_answer_of_another_box_counts_for_nothing(desk: EquipmentDesk, tenant: str, node: str) -> None:
    desk.send("gym", "box", command(), NOW_US)
    assert not desk.answered(tenant, node, reply(CommandState.DONE), NOW_US)
    assert state_of(desk) == "sent"


def test_same_id_twice_is_one_command(desk: EquipmentDesk) -> None:
    desk.send("gym", "box", command(), NOW_US)
    again = desk.send("gym", "elsewhere", command(expires_us=LATER_US + 5), NOW_US + 1)
    assert (again.node, again.command.expires_us, again.sent_us) == ("box", LATER_US, NOW_US)
    assert len(desk.due(NOW_US)) == 1


def test_command_nobody_answers_is_lost_until_somebody_does(desk: EquipmentDesk) -> None:
    desk.send("gym", "box", command(), NOW_US)
    assert desk.due(LATER_US + 1) == []
    assert state_of(desk) == "sent"
    desk.due(LATER_US + SILENT_US + 1)
    found = desk.find("gym", "command-1")
    assert found is not None
    assert found.reply is not None
    assert (found.state, found.reply.reason) == ("lost", "no_answer")
    assert desk.answered("gym", "box", reply(CommandState.DONE), LATER_US + SILENT_US + 2)
    assert state_of(desk) == "done"


def test_restart_goes_on_sending_what_is_good(tmp_path: Path) -> None:
    first = EquipmentDesk(tmp_path / "equipment.db")
    first.send("gym", "box", command(), NOW_US)
    first.close()
    second = EquipmentDesk(tmp_path / "equipment.db")
    assert len(second.due(NOW_US)) == 1
    second.close()


def test_notices_are_kept_by_machine_and_all_is_forgotten_in_time(desk: EquipmentDesk) -> None:
    desk.send("gym", "box", command(), NOW_US)
    desk.answered("gym", "box", Notice(device="mill", event=NoticeEvent.CONTROL_LOST), NOW_US)
    desk.answered("gym", "box", Notice(device="bike", event=NoticeEvent.STOP_OWED), NOW_US + 1)
    assert [one.notice.device for one in desk.notices("gym", None, 10)] == ["bike", "mill"]
    assert [one.notice.event for one in desk.notices("gym", "mill", 10)] == ["control_lost"]
    assert desk.notices("otherhall", None, 10) == []
    desk.forget(NOW_US + KEEP_US + 2)
    assert desk.notices("gym", None, 10) == []
    assert desk.find("gym", "command-1") is None


def test_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"equipment\.db"):
        EquipmentDesk(tmp_path / "nowhere" / "equipment.db")


@pytest.fixture
def got(tmp_path: Path) -> Iterator[Stores]:
    with stores(tmp_path, "gym") as made:
        yield made


ORDER = {"order": {"action": "target_power_w", "value": 200}}


async def test_route_sends_to_the_box_of_the_binding_and_tells_what_it_answered(got: Stores) -> None:
    assert got.services.desk is not None
    with client_of(got, ApiOptions("gym")) as http:
        sent = await http.post(f"{PREFIX}/equipment/strap1", json={**ORDER, "athlete": "ann", "good_for_s": 5})
        assert sent.status_code == 202
        line = sent.json()
        assert (line["state"], line["node"], line["athlete"], line["order"]) == ("sent", "box", "ann", ORDER["order"])
        assert line["expires_us"] == line["sent_us"] + 5_000_000
        where = f"{PREFIX}/equipment/strap1/{line['id']}"
        answer = Reply(id=line["id"], device="strap1", state=CommandState.REFUSED, reason=CommandReason.NO_CONTROL, detail="not permitted")
        got.services.desk.answered("gym", "box", answer, NOW_US + 5)
        seen = (await http.get(where)).json()
        assert (seen["state"], seen["reason"], seen["detail"], seen["answered_us"]) == (
            "refused",
            "no_control",
            "not permitted",
            NOW_US + 5,
        )
        listed = (await http.get(f"{PREFIX}/equipment/strap1?limit=1")).json()
        assert [one["id"] for one in listed["commands"]] == [line["id"]]
        assert [one["notice"]["event"] for one in listed["notices"]] == ["stopped"]


@pytest.mark.parametrize(
    ("device", "body", "status", "says"),
    [
        ("strap9", ORDER, 409, "nobody is bound"),
        ("strap1", {**ORDER, "athlete": "hidden.person"}, 409, "bound to somebody else"),
        ("strap1", {**ORDER, "node": "other"}, 409, "nobody is bound"),
        ("STRAP", ORDER, 404, "there is no device"),
        ("strap1", {"order": {"action": "fly"}}, 422, "order"),
        ("strap1", {"order": {"action": "stop"}, "good_for_s": 3600}, 422, "good_for_s"),
        ("strap1", {**ORDER, "id": "short"}, 422, "id"),
        ("strap1", {**ORDER, "force": True}, 422, "force"),
    ],
)
async def test_route_refuses_what_no_box_would_carry_out(got: Stores, device: str, body: dict[str, object], status: int, says: str) -> None:
    assert got.services.desk is not None
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.post(f"{PREFIX}/equipment/{device}", json=body)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert got.services.desk.due(NOW_US) == []


async def test_request_that_is_sent_twice_is_one_command(got: Stores) -> None:
    assert got.services.desk is not None
    with client_of(got, ApiOptions("gym")) as http:
        first = (await http.post(f"{PREFIX}/equipment/strap1", json={**ORDER, "id": "my-own-id-7"})).json()
        second = (await http.post(f"{PREFIX}/equipment/strap1", json={**ORDER, "id": "my-own-id-7"})).json()
    assert first == second
    assert len(got.services.desk.due(NOW_US)) == 1


@pytest.mark.parametrize(
    ("device", "change"), [("strap2", {}), ("strap1", {"order": {"action": "stop"}}), ("strap1", {"athlete": "hidden.person"})]
)
async def test_id_of_another_command_is_refused(got: Stores, device: str, change: dict[str, object]) -> None:
    assert got.services.desk is not None
    with client_of(got, ApiOptions("gym")) as http:
        assert (await http.post(f"{PREFIX}/equipment/strap1", json={**ORDER, "id": "my-own-id-7"})).status_code == 202
        answer = await http.post(f"{PREFIX}/equipment/{device}", json={**ORDER, "id": "my-own-id-7", **change})
    assert (answer.status_code, answer.json()["cure"]) == (409, "draw a new id for each command")
    assert len(got.services.desk.due(NOW_US)) == 1


async def test_api_without_a_control_connection_says_so(got: Stores) -> None:
    got.services.desk = None
    with client_of(got, ApiOptions("gym")) as http:
        for answer in (await http.post(f"{PREFIX}/equipment/strap1", json=ORDER), await http.get(f"{PREFIX}/equipment")):
            assert answer.status_code == 503
            assert "paceline run" in answer.json()["cure"]
