"""The device's side of the enrolment contract, beside the box's: the same codes, roots and answers are taken and refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import authority as kit
from kit import enrol

from broker.enrolment import EnrolmentCode, fingerprint, new_code, proven_roots, read_enrolment_code
from broker.errors import BadInputError
from paceline.ca_authority import Authority

LINE = EnrolmentCode("platform.example", 8443, "gym", "watch-7", new_code(), fingerprint(b"root"))


@given(
    host=st.sampled_from(["platform.example", "10.0.0.5", "::1", "localhost"]),
    port=st.integers(1, 65_535),
    node=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True).filter(lambda text: text not in {"upload", "platform"}),
)
def test_a_code_means_the_same_to_a_device_as_to_a_box(host: str, port: int, node: str) -> None:
    line = EnrolmentCode(host, port, "gym", node, new_code(), fingerprint(node.encode()))
    read = kit.read_code(line.text)
    assert EnrolmentCode(*(read[key] for key in ("enrol_host", "enrol_port", "tenant", "node", "enrol_code", "enrol_root"))) == line
    assert read_enrolment_code(line.text) == line


def test_a_cut_code_names_no_field_but_the_code() -> None:
    for end in range(len("https://"), len(LINE.text)):
        _, wrong = enrol.check({"code": LINE.text[:end], "wifi_ssid": "Hall"})
        assert set(wrong) == {"code"}, LINE.text[:end]


def test_a_code_of_a_certificate_needs_no_password_and_no_authority() -> None:
    document, wrong = enrol.check({"code": LINE.text, "wifi_ssid": "Hall"})
    assert wrong == {}
    assert (document["tenant"], document["node"], document["tls"], "password" in document) == ("gym", "watch-7", True, False)


def test_the_root_is_proved_as_a_box_proves_it(tmp_path: Path) -> None:
    with Authority.open(tmp_path / "one") as one, Authority.open(tmp_path / "two") as two:
        root, mixed = one.book.roots()[0].fingerprint, two.roots() + one.roots()
        assert kit.proven(mixed, root) == proven_roots(mixed, root) == one.roots()
        with pytest.raises(ValueError, match="does not have the authority"):
            kit.proven(two.roots(), root)
        with pytest.raises(BadInputError):
            proven_roots(two.roots(), root)


def test_an_answer_is_its_object_and_a_refusal_its_cure() -> None:
    def answer(status: str, body: object) -> bytes:
        return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode()

    assert kit.answer_of(answer("201 Created", {"certificate": "x"})) == {"certificate": "x"}
    with pytest.raises(ValueError, match="used before: ask for another"):
        kit.answer_of(answer("403 Forbidden", {"error": "used_code", "message": "used before", "cure": "ask for another"}))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_answer_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        kit.answer_of(raw)


async def test_a_service_that_takes_the_link_and_says_nothing_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "ASK_S", 0.3)
    held: list[asyncio.StreamWriter] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    with Authority.open(tmp_path / "one") as one:
        roots = tmp_path / "roots.pem"
        roots.write_text(one.roots())
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        document = {"enrol_host": "127.0.0.1", "enrol_port": server.sockets[0].getsockname()[1], "ca_pem": one.roots()}
        try:
            with pytest.raises(EOFError, match="no answer from"):
                await asyncio.wait_for(kit.look_after(document, 1, (), lambda _pem: str(roots)), 60)
        finally:
            server.close()
            for writer in held:
                writer.close()
