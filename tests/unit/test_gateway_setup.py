"""The set-up page without a network: code and tries, form, credential on disk, HTTP byte by byte, what the page shows, the notice."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ConfigError, StoreError
from gateway.setup_code import ALPHABET, LAST_WAIT_S, SetupCode
from gateway.setup_credential import BoxCredential, load_credential, save_credential
from gateway.setup_form import Form, credential_of, typed
from gateway.setup_http import MAX_BODY, MAX_HEAD, Refusal, Request, RequestReader, is_this_machine
from gateway.setup_notice import lan_address, notice, qr_text
from gateway.setup_page import BoxView, form_page, state_page

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
GIVEN = {"host": "mqtt.gym.example", "port": "8883", "tls": "on", "tenant": "gym", "node": "box1", "password": "s3cret-word"}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def code_of(clock: Clock) -> SetupCode:
    return SetupCode(random.Random(5).randrange, clock)


def wrong_of(code: SetupCode) -> str:
    return ("A" if code.text[0] != "A" else "B") + code.text[1:]


def credential(**more: object) -> BoxCredential:
    made = credential_of({**GIVEN, **{k: str(v) for k, v in more.items()}})
    assert isinstance(made, BoxCredential)
    return made


def test_code_is_two_groups_without_look_alikes_and_taken_however_it_is_typed() -> None:
    code = code_of(Clock())
    assert len(code.text) == 9
    assert code.text[4] == "-"
    assert not set("01OIL") & set(ALPHABET)
    for given_text in (code.text, code.text.lower(), code.text.replace("-", ""), f" {code.text[:4]} {code.text[5:]} "):
        assert code.is_right(given_text)
    assert not code.is_right("")
    assert not code.is_right(code.text + "A")
    assert not code.is_right("ÄÖ-€")


def test_five_wrong_codes_in_a_row_close_the_page_for_longer_and_longer() -> None:
    clock = Clock()
    code = code_of(clock)
    for _ in range(4):
        assert not code.is_right(wrong_of(code))
        assert code.wait_s() == 0
    waits = []
    for _ in range(8):
        assert not code.is_right(wrong_of(code))
        waits.append(code.wait_s())
        clock.now_s += code.wait_s()
    assert waits == [30, 60, 120, 240, 480, 900, 900, LAST_WAIT_S]
    assert code.wait_s() == 0
    assert code.is_right(code.text)


def test_the_right_code_starts_the_count_afresh() -> None:
    code = code_of(Clock())
    for _ in range(3):
        for _ in range(4):
            code.is_right(wrong_of(code))
        assert code.is_right(code.text)
    assert code.wait_s() == 0


def test_a_form_becomes_a_credential() -> None:
    made = credential_of(typed(b"host=mqtt.gym.example&port=8883&tls=on&tenant=gym&node=box1&password=s3cret-word&code=X&other=1"))
    assert made == credential()
    assert made.username == "gym/box1"
    assert made.tls


def test_an_unticked_box_means_no_tls_and_a_whole_user_name_may_be_pasted() -> None:
    made = credential_of({"host": "10.0.0.5", "port": "1883", "tenant": "", "node": "gym/box1", "password": "x"})
    assert isinstance(made, BoxCredential)
    assert (made.tls, made.username) == (False, "gym/box1")


@pytest.mark.parametrize(
    ("field", "value"),
    [("host", ""), ("port", "0"), ("port", "66000"), ("port", "no"), ("tenant", "My Gym"), ("tenant", "platform"), ("node", ""), ("node", "a/b/c"),
     ("password", ""), ("password", "a\nb"), ("ca_pem", "MIIB")],
)  # fmt: skip
def test_each_wrong_field_is_named_and_the_password_is_not_kept(field: str, value: str) -> None:
    form = credential_of({**GIVEN, field: value})
    assert isinstance(form, Form)
    assert field in form.wrong
    assert "password" not in form.values
    assert "s3cret" not in form_page(form, [])


@given(st.binary(max_size=400))
def test_any_body_is_a_form_or_none(body: bytes) -> None:
    assert isinstance(credential_of(typed(body)), Form | BoxCredential)


def test_credential_is_kept_whole_with_mode_0600_and_read_back(tmp_path: Path) -> None:
    assert load_credential(tmp_path) is None
    save_credential(tmp_path, credential(ca_pem=PEM))
    assert load_credential(tmp_path) == credential(ca_pem=PEM)
    for name in ("uplink.json", "uplink-ca.pem"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert {p.name for p in tmp_path.iterdir()} == {"uplink.json", "uplink-ca.pem"}
    assert credential(ca_pem=PEM).broker(tmp_path).ca_file == tmp_path / "uplink-ca.pem"
    assert credential().broker(tmp_path).ca_file is None
    assert "s3cret" not in repr(credential())


def test_a_folder_that_cannot_be_written_keeps_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"uplink\.json"):
        save_credential(tmp_path / "missing", credential())
    (tmp_path / "uplink.json").mkdir()  # cannot be replaced by a file
    with pytest.raises(StoreError):
        save_credential(tmp_path, credential())
    assert [p.name for p in tmp_path.iterdir()] == ["uplink.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"host": "x"}', json.dumps({**GIVEN, "port": 1, "tls": True, "more": 1}).encode()])
def test_a_damaged_credential_names_the_file_and_never_the_password(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "uplink.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"uplink\.json") as failure:
        load_credential(tmp_path)
    assert "s3cret" not in str(failure.value)
    assert "set the box up again" in failure.value.cure


def request(raw: bytes, size: int) -> object:
    reader = RequestReader()
    for place in range(0, len(raw), size):
        if (read := reader.feed(raw[place : place + size])) is not None:
            return read
    return None


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_a_request_reads_the_same_however_it_is_cut(size: int) -> None:
    raw = b"POST /?code=AB&code=C&x=%C3%A4 HTTP/1.1\r\nHost: box:80\r\nContent-Length: 4\r\n\r\na=1&"
    assert request(raw, size) == Request("POST", "/", "box:80", {"code": "AB", "x": "ä"}, b"a=1&")
    assert request(raw[:-1], size) is None


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET\r\n\r\n", 400), (b"GET http://x/ HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n bad\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400), (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413), (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, 431), (b"GET /?" + b"&".join(b"a=1" for _ in range(9)) + b" HTTP/1.1\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(raw: bytes, status: int) -> None:
    read = request(raw, 4096)
    assert isinstance(read, Refusal)
    assert read.status == status


@given(st.binary(max_size=600), st.integers(1, 50))
def test_any_bytes_are_a_request_a_refusal_or_not_whole_yet(raw: bytes, size: int) -> None:
    assert isinstance(request(raw, size), Request | Refusal | None)


def test_only_names_of_this_machine_are_answered() -> None:
    names = ("gymbox", "localhost")
    for host in (
        "192.168.1.20:8880",
        "192.168.1.20",
        "[fe80::1]:8880",
        "gymbox",
        "GymBox:8880",
        "gymbox.local",
        "localhost:1",
        "gymbox.lan.",
    ):
        assert is_this_machine(host, names), host
    for host in ("", "evil.example", "gymbox.evil.example", "192.168.1.20.evil.example:80", "local", "gymbox.local.evil"):
        assert not is_this_machine(host, names), host


def test_pages_escape_what_comes_from_outside_and_name_no_other_host() -> None:
    bad = '<script>alert("1")</script>'
    form = Form({"code": bad, "host": bad, "port": bad, "ca_pem": bad, "tenant": bad, "node": bad}, {"": bad, "host": bad})
    device = {"device": bad, "name": bad, "state": bad, "profiles": [bad], "reason": bad, "rssi_dbm": bad, "battery_pct": bad}
    view = BoxView(bad, bad, connected=False, trouble=bad, hours_left=None, frames_owed=0, clock_set=False)
    for page in (form_page(form, [device] * 80), state_page(view, [device]), state_page(view, [])):
        assert "<script" not in page
        assert "http" not in page.replace("http-equiv", "")


def test_state_shows_hours_uplink_and_sensors_with_their_state() -> None:
    view = BoxView("gym/box1", "mqtt.gym.example:8883", connected=True, trouble="", hours_left=37.25, frames_owed=3)
    strap = {
        "device": "ble-a1",
        "name": "Strap 7",
        "state": "live",
        "profiles": ["heart_rate_measurement"],
        "rssi_dbm": -61,
        "battery_pct": 80,
    }
    page = state_page(view, [strap])
    for text in ("gym/box1", "37.2 h", ">up<", "3 frames", "Strap 7", "heart rate measurement", "-61 dBm", "battery 80 %", ">live<"):
        assert text in page


def test_notice_has_address_code_and_a_square_qr_code() -> None:
    text = notice("192.168.1.20", 8880, "K7QM-3F9T")
    assert "http://192.168.1.20:8880/" in text
    assert "K7QM-3F9T" in text
    lines = qr_text("http://192.168.1.20:8880/?code=K7QM-3F9T").split("\n")
    assert {len(line) for line in lines} == {33}  # version 3: 29 modules, and 2 light ones on each side
    assert len(lines) == 17
    assert set("".join(lines)) == set("█▀▄ ")
    assert "http://[fd00::1]:8880/" in notice("fd00::1", 8880, "K7QM-3F9T")
    assert lan_address().count(".") == 3
