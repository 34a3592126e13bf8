"""Identity with a real mosquitto and the real enrolment service: who gets a certificate, who gets in, and how a revoked node is put out."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from broker.enrolment import Denied, DeniedError, EnrolmentCode, Grant, new_code
from broker.errors import BadInputError, LinkError
from gateway import enrolment
from gateway.enrolment import ask_standing, enrol, renew
from gateway.identity import NODE_FILE, Identity, client_files, keep_grant, load_identity, make_request
from gateway.setup_check import try_credential
from gateway.setup_code import SetupCode
from gateway.setup_credential import BoxCredential, load_credential
from gateway.setup_desk import SetupDesk
from gateway.setup_http import Answer, Request
from paceline import ca_certificates as made
from paceline import enrol_service
from paceline.ca_authority import Authority
from paceline.ca_doctor import identity_findings
from paceline.ca_revocation import knock, knock_with, revoke_everywhere
from paceline.cli import cli
from paceline.doctor import connects, may_send
from paceline.enrol_service import MAX_CONNECTIONS, MAX_OF_ADDRESS, EnrolDesk, EnrolService
from paceline.site_identity import broker_place
from tests.identity_site import IdentitySite, until
from tests.mqtt_client import PahoClient

DAY = 86_400


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentitySite]:
    with asyncio.Runner() as runner:
        opened = IdentitySite(tmp_path_factory.mktemp("identity"))
        runner.run(opened.__aenter__())
        try:
            yield opened
        finally:
            runner.run(opened.__aexit__())


def client(site: IdentitySite, name: str, context: ssl.SSLContext | None = None) -> PahoClient:
    return PahoClient(site.broker, None, client_id="any", context=context or site.shown(name))


def let_in(site: IdentitySite, identity: Identity) -> bool:
    return knock(broker_place(site.site), site.authority.roots(), identity.files.node_file.read_bytes())


def denied(what) -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        what()
    assert caught.value.cure
    return caught.value


def aged(site: IdentitySite, name: str, days: float) -> Identity:
    """A node that enrolled so long ago."""
    folder = site.node_folder(name)
    with Authority.open(site.site.secrets / "authority", site.authority.rules, lambda: time.time() - days * DAY) as then:
        code = site.code(name)
        line, _, _ = then.add_node(name)
        key = made.key_pem(made.new_key())
        kept = then.enrol(line, make_request(key, name))
        folder.mkdir(parents=True)
        grant = Grant(
            certificate=then.chain(kept),
            roots=then.roots(),
            host=site.broker.host,
            port=site.broker.port,
            not_before_s=kept.not_before_s,
            not_after_s=kept.not_after_s,
            time_s=then.now_s(),
        )
        return keep_grant(folder, key, grant, code)


# -- enrolment


def test_an_enrolled_node_is_who_its_code_named_and_nobody_else(site: IdentitySite) -> None:
    with client(site, "platform/ingest") as platform, client(site, "gym/box1") as box:
        platform.subscribe("pl/1/+/+/up")
        box.publish("pl/1/gym/box2/up", b"not mine")
        box.publish("pl/1/gym/box1/up", b"mine")
        assert [(m.topic, m.payload) for m in platform.wait_messages(1)] == [("pl/1/gym/box1/up", b"mine")]


def test_a_code_works_once(site: IdentitySite, tmp_path: Path) -> None:
    code = site.code("gym/once")
    first = enrol(code, tmp_path / "one")
    assert let_in(site, first)
    assert denied(lambda: enrol(code, tmp_path / "two")).denied is Denied.USED_CODE


def test_a_node_that_lost_the_answer_asks_again_with_the_same_code(site: IdentitySite, tmp_path: Path) -> None:
    code, folder = site.code("gym/lost"), tmp_path / "node"
    before = enrol(code, folder)
    pem = before.files.node_file.read_text()
    key = pem[: pem.index("-----BEGIN CERTIFICATE-----")]
    before.files.node_file.rename(folder / "asked.key")
    (folder / "asked.key").write_text(key)
    assert load_identity(folder) is None
    assert enrol(code, folder).files.node_file.read_text() == pem


def test_a_code_of_another_authority_is_noticed_before_anything_is_sent(site: IdentitySite, tmp_path: Path) -> None:
    with Authority.open(tmp_path / "other") as other:
        foreign = replace(site.code("gym/box9"), root=other.book.roots()[0].fingerprint)
    with pytest.raises(BadInputError, match="does not have the authority"):
        enrol(foreign, tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_a_service_that_is_away_is_named_with_the_cure(site: IdentitySite, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="localhost:1") as caught:
        enrol(replace(site.code("gym/away"), port=1), tmp_path)
    assert "up there" in caught.value.cure


def test_a_service_that_sends_a_byte_now_and_then_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "WHOLE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of the handshake, 16 KB long
                while True:
                    peer.sendall(b"\x02")
                    time.sleep(0.01)

        dripping = threading.Thread(target=drip)
        dripping.start()
        code = EnrolmentCode("127.0.0.1", server.getsockname()[1], "gym", "box", new_code(), "r" * 43)
        with pytest.raises(LinkError, match="no whole answer"):
            enrol(code, tmp_path)
        dripping.join(60)
        assert not dripping.is_alive()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/enrol/v1/certificates", b"no json", 400, "bad_request"),
        ("POST", "/enrol/v1/certificates", b'{"code": "x"}', 400, "bad_request"),
        ("POST", "/enrol/v1/certificates", b'{"request": "x", "code": "y", "z": 1}', 400, "bad_request"),
        ("POST", "/enrol/v1/renewals", b'{"request": "x"}', 401, "no_certificate"),
        ("GET", "/enrol/v1/standing", b"", 401, "no_certificate"),
        ("DELETE", "/enrol/v1/roots", b"", 405, "no_such_route"),
        ("GET", "/", b"", 404, "no_such_route"),
        ("POST 100000 bytes", "/enrol/v1/certificates", b"x", 413, "bad_http"),
    ],
)
def test_what_is_no_question_gets_a_word_and_a_status(
    site: IdentitySite, method: str, path: str, body: bytes, status: int, word: str
) -> None:
    context = ssl.create_default_context(cafile=str(site.authority.roots_file))
    link = http.client.HTTPSConnection("localhost", site.site.settings.identity.port, context=context, timeout=60)
    method, _, length = method.removesuffix(" bytes").partition(" ")
    link.request(method, path, body, {"Content-Length": length} if length else {})
    answer = link.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (status, word)
    link.close()


async def test_who_holds_connections_or_says_nothing_keeps_nobody_else_out_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Authority.open(tmp_path / "authority") as authority, ExitStack() as held:
        authority.keep_server(tmp_path / "enrol.pem", ("localhost",))
        desk = EnrolDesk(authority, "localhost", 8883)
        context = ssl.create_default_context(cafile=str(authority.roots_file))
        counts = desk.counts
        async with EnrolService(desk, authority, tmp_path / "enrol.pem", "127.0.0.1", 0, lambda: None) as service:

            def silent(source: str) -> socket.socket:
                return held.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60, source_address=(source, 0)))

            def asked() -> bytes:
                with context.wrap_socket(silent("127.0.0.1"), server_hostname="localhost") as other:
                    other.sendall(b"GET /enrol/v1/roots HTTP/1.1\r\n\r\n")
                    return other.recv(12)

            monkeypatch.setattr(enrol_service, "HANDSHAKE_S", 60.0)
            for _ in range(MAX_OF_ADDRESS + 3):  # none of them begins its handshake
                await asyncio.to_thread(silent, "127.0.0.9")
            await until(lambda: counts.turned_away == 3)
            assert counts.open == {"127.0.0.9": MAX_OF_ADDRESS}
            assert await asyncio.to_thread(asked) == b"HTTP/1.1 200"
            held.close()
            await until(lambda: not counts.open)
            assert (counts.failed_handshakes, counts.answers) == (MAX_OF_ADDRESS, {"roots": 1})
            monkeypatch.setattr(enrol_service, "HANDSHAKE_S", 0.05)
            assert await asyncio.to_thread(silent("127.0.0.9").recv, 1) == b""
            assert counts.failed_handshakes == MAX_OF_ADDRESS + 1
            for last in range(MAX_CONNECTIONS // MAX_OF_ADDRESS + 1):
                monkeypatch.setattr(enrol_service, "HANDSHAKE_S", 60.0)
                for _ in range(MAX_OF_ADDRESS):
                    await asyncio.to_thread(silent, f"127.0.0.{20 + last}")
            await until(lambda: counts.turned_away == 3 + MAX_OF_ADDRESS)
            assert counts.open.total() == MAX_CONNECTIONS
            held.close()


async def test_certificates_are_kept_fresh_after_a_time_without_files_to_open(tmp_path: Path) -> None:
    calls: list[int] = []

    def fresh() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise OSError(errno.EMFILE, "Too many open files")

    with Authority.open(tmp_path / "authority") as authority:
        authority.keep_server(tmp_path / "enrol.pem", ("localhost",))
        desk = EnrolDesk(authority, "localhost", 8883)
        async with EnrolService(desk, authority, tmp_path / "enrol.pem", "127.0.0.1", 0, fresh):
            await until(lambda: os.utime(authority.roots_file) or len(calls) >= 3)  # as another process changes the roots


def test_the_set_up_page_of_a_box_takes_the_code_and_nothing_else(site: IdentitySite, tmp_path: Path) -> None:
    async def walk() -> BoxCredential:
        screen = SetupCode(secrets.randbelow, time.monotonic)
        desk = SetupDesk(tmp_path, screen, try_credential, stays=True)

        async def post(line: str) -> Answer:
            return await desk.answer(Request("POST", "/", "", body=urlencode({"code": screen.text, "enrolment": line}).encode()))

        code = site.code("gym/paged")
        for wrong, said in ((code.text[:-1], "not whole"), (replace(code, code=new_code()).text, "newer one was given out")):
            refused = await post(wrong)
            assert refused.status == HTTPStatus.UNPROCESSABLE_ENTITY
            assert said in refused.page
        assert (await post(code.text)).status == HTTPStatus.OK
        return await desk.set_up()

    credential = asyncio.run(walk())
    assert credential.enrolled
    assert load_credential(tmp_path) == credential
    assert credential.broker(tmp_path).identity == tmp_path / "identity"


def test_commands_add_enrol_list_and_revoke_a_node(site: IdentitySite, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, ["node", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    data = ("--data", str(site.site.data))
    line = run("add", "typed", *data).split()[0]
    assert "gym/typed is enrolled until" in run("enrol", line, "--data", str(tmp_path))
    listed = {row["name"]: row["state"] for row in json.loads(run("list", "--json", *data))}
    assert listed["gym/typed"] == "enrolled"
    assert "its session after" in run("revoke", "typed", *data)
    assert [row["state"] for row in json.loads(run("list", "--json", *data)) if row["name"] == "gym/typed"] == ["revoked"]
    assert "root 1  signing" in run("authority", "show", *data)


def test_doctor_meets_the_broker_by_certificates(site: IdentitySite) -> None:
    for finding in (asyncio.run(connects(site.site, "central")), asyncio.run(may_send(site.site)), *identity_findings(site.site)):
        assert finding.ok, finding


# -- renewal


def test_a_renewed_certificate_is_for_a_new_key_and_the_one_before_still_counts(site: IdentitySite) -> None:
    identity = site.enrolled("gym/renewed")
    assert not ask_standing(identity).renew
    before = identity.files.node_file.read_bytes()
    after = renew(identity)
    assert after.files.node_file.read_bytes().split(b"-----BEGIN CERT")[0] != before.split(b"-----BEGIN CERT")[0]
    assert let_in(site, after)
    assert knock(broker_place(site.site), site.authority.roots(), before)


def test_a_node_is_told_to_renew_after_two_thirds(site: IdentitySite) -> None:
    identity = aged(site, "gym/due", 61)
    standing = ask_standing(identity)
    assert (standing.renew, standing.why) == (True, "two thirds of its life are over")
    assert not ask_standing(renew(identity)).renew


def test_an_expired_node_is_refused_by_the_broker_and_renewed_by_its_key(site: IdentitySite) -> None:
    identity = aged(site, "gym/asleep", 100)
    assert not let_in(site, identity)
    assert let_in(site, renew(identity))


def test_one_that_slept_longer_than_the_grace_needs_a_new_code(site: IdentitySite) -> None:
    error = denied(lambda: renew(aged(site, "gym/forgotten", 90 + 90 + 2)))
    assert error.denied is Denied.EXPIRED
    assert "paceline node add" in error.cure


def test_a_certificate_of_another_authority_gets_in_nowhere(site: IdentitySite, tmp_path: Path) -> None:
    with Authority.open(tmp_path / "other") as other:
        other.keep_client(tmp_path / "node" / NODE_FILE, "gym/box1")
    (tmp_path / "node" / "roots.pem").write_text(site.authority.roots())
    foreign = client_files(tmp_path / "node")
    assert not knock(broker_place(site.site), site.authority.roots(), foreign.node_file.read_bytes())
    place = site.enrolled("gym/box10").place
    with pytest.raises(LinkError) as caught:
        ask_standing(Identity(tmp_path / "node", place))
    assert "does not know the authority" in caught.value.cure


# -- revocation


def test_a_revoked_node_loses_its_open_session_and_cannot_come_back(site: IdentitySite) -> None:
    resumable = site.shown("gym/bad")
    with client(site, "gym/good") as good, client(site, "platform/ingest") as platform:
        platform.subscribe("pl/1/gym/bad/up")
        bad = client(site, "gym/bad", resumable).connect()
        bad.publish("pl/1/gym/bad/up", b"before")
        platform.wait_messages(1)
        took_s = revoke_everywhere(site.authority, "gym/bad", broker_place(site.site))
        assert bad.wait_disconnected()
        bad.close()
        assert took_s < 60
        assert not any(knock_with(broker_place(site.site), resumable) for _ in range(3))
        assert good.stays_connected(0.1)
        assert platform.stays_connected(0.1)
        assert [m.payload for m in platform.messages] == [b"before"]
    identity = load_identity(site.node_folder("gym/bad"))
    assert identity is not None
    error = denied(lambda: ask_standing(identity))
    assert (error.denied, "new code" in error.cure) == (Denied.REVOKED, True)
    assert denied(lambda: renew(identity)).denied is Denied.REVOKED


def test_revoking_again_says_the_same_and_adding_again_lets_the_node_back(site: IdentitySite, tmp_path: Path) -> None:
    identity = site.enrolled("gym/back")
    for _ in range(2):
        revoke_everywhere(site.authority, "gym/back", broker_place(site.site))
        assert not let_in(site, identity)
    after = enrol(site.code("gym/back"), tmp_path / "again")
    assert let_in(site, after)
    assert not let_in(site, identity)


def test_the_list_survives_a_killed_broker_and_is_in_force_from_its_start(site: IdentitySite) -> None:
    kept, gone = site.enrolled("gym/kept"), site.enrolled("gym/gone")

    async def killed_while_revoking() -> None:
        await site.end("broker-central", signal.SIGKILL)
        site.authority.revoke("gym/gone")
        await site.start("broker-central")

    asyncio.run(killed_while_revoking())
    assert let_in(site, kept)
    assert not let_in(site, gone)


def test_a_broker_that_is_away_is_named_and_the_book_has_it(site: IdentitySite) -> None:
    site.enrolled("gym/offline")
    place = replace(broker_place(site.site), port=1)
    with pytest.raises(LinkError, match="revoked in the book") as caught:
        revoke_everywhere(site.authority, "gym/offline", place, within_s=0.5)
    assert "repeat" in caught.value.cure


# -- last: this address is asked to wait afterwards


def test_guessing_codes_is_slowed_down(site: IdentitySite, tmp_path: Path) -> None:
    code = site.code("gym/guess")
    words: list[Denied] = []
    while Denied.TOO_MANY not in words and len(words) < 100:  # on a slow machine a try is there again meanwhile
        words.append(denied(lambda: enrol(replace(code, code=new_code()), tmp_path / "guess")).denied)
    assert set(words[:-1]) == {Denied.UNKNOWN_CODE}
    assert words[-1] is Denied.TOO_MANY
    assert denied(lambda: enrol(code, tmp_path / "guess")).denied is Denied.TOO_MANY, "the right one has to wait too"
