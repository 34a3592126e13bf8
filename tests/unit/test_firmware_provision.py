"""The set-up of a device: what is typed is kept only if all of it is right and was tried; keys and requests are those another implementation reads."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from kit import certificate, enrol, p256
from kit.provision import MAX_REQUEST, Setup, form_of, page, setup_code

CODE = "mqtts://broker.example:8883/gym/watch-7#s3cret-_"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
GOOD = {"wifi_ssid": "Hall", "wifi_password": "long enough", "code": CODE, "ca_pem": PEM}
SECRETS = st.integers(1, p256.N - 1)


# -- keys and requests


@given(SECRETS, st.binary(max_size=100))
def test_signatures_are_those_of_the_standard(secret: int, message: bytes) -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), p256.public_of(secret))
    assert key.public_numbers() == ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
    r, s = p256.sign(secret, message)
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


def test_nonces_are_those_of_rfc_6979() -> None:
    """Appendix A.2.5: the key, the message "sample", SHA-256."""
    secret = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    r, s = p256.sign(secret, b"sample")
    assert r == 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    assert s == 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8


@pytest.mark.parametrize("secret", [1, 2, 3, p256.N - 1, p256.N - 2, 1 << 255])
def test_public_points_of_secrets_at_the_edge(secret: int) -> None:
    numbers = ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
    assert p256.public_of(secret) == b"\x04" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def test_secret_lies_within_the_order() -> None:
    assert p256.new_secret(bytes) == 1
    assert 1 <= p256.new_secret(lambda count: b"\xff" * count) < p256.N


@given(SECRETS, st.from_regex(r"[a-z0-9]{1,32}/[a-z0-9]{1,32}", fullmatch=True))
def test_request_names_the_device_and_is_signed_by_its_key(secret: int, user: str) -> None:
    pem = certificate.pem("CERTIFICATE REQUEST", certificate.request(secret, user))
    request = x509.load_pem_x509_csr(pem.encode())
    assert request.is_signature_valid
    assert [name.value for name in request.subject] == [user]
    assert request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == user
    assert certificate.der_of(pem, "CERTIFICATE REQUEST") == request.public_bytes(serialization.Encoding.DER)


@given(SECRETS)
def test_private_key_is_read_by_tls(secret: int) -> None:
    key = serialization.load_der_private_key(certificate.private_key(secret), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.private_numbers().private_value == secret


# -- what is typed


def test_enrolment_code_is_the_whole_identity() -> None:
    document, wrong = enrol.check(GOOD)
    assert not wrong
    assert document == {
        "wifi_ssid": "Hall", "wifi_password": "long enough", "host": "broker.example", "port": 8883, "tls": True, "tenant": "gym",
        "node": "watch-7", "password": "s3cret-_", "ca_pem": PEM,
    }  # fmt: skip
    plain, wrong = enrol.check({"wifi_ssid": "Hall", "code": "mqtt://10.0.0.5/gym/band#pw"})
    assert not wrong
    assert (plain["port"], plain["tls"], plain["host"]) == (1883, False, "10.0.0.5")
    six, _ = enrol.check({"wifi_ssid": "Hall", "code": "mqtt://[fe80::1]:1884/gym/band#pw#with#marks"})
    assert (six["host"], six["port"], six["password"]) == ("fe80::1", 1884, "pw#with#marks")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"wifi_ssid": ""}, "wifi_ssid"),
        ({"wifi_ssid": "x" * 33}, "wifi_ssid"),
        ({"wifi_password": "short"}, "wifi_password"),
        ({"code": "http://x"}, "code"),
        ({"code": "mqtts://host/gym/watch-7"}, "code"),
        ({"code": "mqtts://host:99999/gym/watch-7#pw"}, "port"),
        ({"code": "mqtts://host:x/gym/watch-7#pw"}, "port"),
        ({"code": "mqtts://host/Gym/watch-7#pw"}, "tenant"),
        ({"code": "mqtts://host/gym/watch 7#pw"}, "node"),
        ({"code": "mqtts://host/gym#pw"}, "node"),
        ({"code": "mqtts:///gym/watch#pw"}, "host"),
        ({"ca_pem": "MIIB"}, "ca_pem"),
        ({"ca_pem": ""}, "ca_pem"),
        ({"athlete": "Ann!"}, "athlete"),
        ({"athlete": "a" * 300}, "athlete"),
        ({"update_url": "http://x\n"}, "update_url"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(change: dict[str, str], field: str) -> None:
    document, wrong = enrol.check({**GOOD, **change})
    assert document is None
    assert field in wrong


@given(st.dictionaries(st.sampled_from([*enrol.FIELDS, "code", "other"]), st.text(max_size=60), max_size=13))
def test_no_text_raises(given_: dict[str, str]) -> None:
    document, wrong = enrol.check(given_)
    assert (document is None) == bool(wrong)


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=40), max_size=6))
def test_forms_are_read_as_browsers_send_them(fields: dict[str, str]) -> None:
    fields.pop("", None)
    assert form_of(urlencode(fields).encode()) == (fields or {"": ""})


@given(st.binary(max_size=200))
def test_no_form_raises(body: bytes) -> None:
    assert all(isinstance(value, str) for value in form_of(body).values())


# -- the set-up


class Desk:
    """A set-up whose trial says `why`; `saved` is what was made durable, in order."""

    def __init__(self, why: str = "", kept: dict[str, Any] | None = None) -> None:
        self.why = why
        self.saved: list[dict[str, Any]] = []
        self.tried: list[dict[str, Any]] = []
        self.setup = Setup(
            kept if kept is not None else {},
            lambda document: self.saved.append(dict(document)),
            lambda: {"name": "paceline-1a2b", "refused": "future_time"},
            lambda count: bytes(range(count)),
            self.trial,
        )

    async def trial(self, document: dict[str, Any]) -> str:
        self.tried.append(document)
        return self.why

    async def ask(self, **asked: object) -> dict[str, Any]:
        answer = await self.setup.line(json.dumps(asked))
        assert answer is not None
        return json.loads(answer)


async def test_console_sets_shows_and_never_tells_the_password() -> None:
    desk = Desk()
    assert await desk.ask(do="set", **GOOD) == {"ok": True, "wrong": {}}
    assert desk.saved[-1]["password"] == "s3cret-_"
    assert desk.setup.done.is_set()
    shown = await desk.ask(do="show")
    assert shown["said"]["user"] == "gym/watch-7"
    assert shown["said"]["refused"] == "future_time"
    assert "s3cret" not in json.dumps(shown)


async def test_nothing_is_kept_that_the_broker_does_not_take() -> None:
    kept = {"tenant": "gym", "node": "old", "password": "still good"}
    desk = Desk("the broker does not know this name and password", kept)
    answer = await desk.ask(do="set", **GOOD)
    assert answer == {"ok": False, "wrong": {"": "the broker does not know this name and password"}}
    assert not desk.saved
    assert kept["node"] == "old"
    assert not desk.setup.done.is_set()


async def test_key_is_made_once_and_only_its_own_certificate_is_kept() -> None:
    desk = Desk()
    assert not (await desk.ask(do="request"))["ok"]
    await desk.ask(do="set", **GOOD)
    first, again = await desk.ask(do="request"), await desk.ask(do="request")
    request = x509.load_pem_x509_csr(first["pem"].encode())
    assert request.is_signature_valid
    assert request.public_key() == x509.load_pem_x509_csr(again["pem"].encode()).public_key()
    authority = ec.generate_private_key(ec.SECP256R1())
    mine, other = (_certificate(key, authority) for key in (request.public_key(), authority.public_key()))
    assert "another key" in (await desk.ask(do="certificate", pem=other))["wrong"][""]
    assert "damaged" in (await desk.ask(do="certificate", pem=PEM))["wrong"][""]
    assert (await desk.ask(do="certificate", pem=mine))["ok"]
    assert desk.saved[-1]["certificate_pem"] == mine
    await desk.ask(do="set", **GOOD)  # told a new Wi-Fi: it stays who it is
    assert desk.saved[-1]["key"] == desk.setup.kept["key"]


def _certificate(key: Any, authority: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gym/watch-7")])
    builder = x509.CertificateBuilder(name, name, key, 7, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
    return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[1]",
        '{"do": "fly"}',
        '{"do": 7}',
        "{}",
        "null",
        '"show"',
        '{"do": "set", "code": 5}',
        '{"do": "set", "wifi_ssid": 5}',
        '{"do": "set", "password": {"a": 1}, "wifi_password": 7, "ca_pem": [1], "host": 9}',
    ],
)
async def test_console_answers_whatever_it_is_told(line: str) -> None:
    answer = await Desk().setup.line(line)
    assert answer is not None
    assert not json.loads(answer)["ok"]
    assert await Desk().setup.line("   ") is None


Ask = Callable[[bytes], Awaitable[bytes]]


async def served(desk: Desk, use: Callable[[Ask], Awaitable[None]]) -> None:
    server = await asyncio.start_server(desk.setup.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def ask(raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return answer

    try:
        await use(ask)
    finally:
        server.close()
        await server.wait_closed()


def post(fields: dict[str, str]) -> bytes:
    body = urlencode(fields).encode()
    return b"POST / HTTP/1.1\r\nHost: 192.168.4.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_page_takes_the_form_and_says_what_is_wrong() -> None:
    desk = Desk()

    async def use(ask: Ask) -> None:
        form = await ask(b"GET / HTTP/1.1\r\n\r\n")
        assert b"200 OK" in form
        assert b"future_time" in form
        again = await ask(post({**GOOD, "athlete": '<b>"Ann"'}))
        assert b"422" in again
        assert b"1-32 of a-z" in again
        assert b"long enough" not in again  # no password is repeated
        assert b"<b>&quot;" not in again
        assert b"&lt;b&gt;&quot;Ann&quot;" in again
        assert b"302 Found" in await ask(b"GET /generate_204 HTTP/1.1\r\n\r\n")
        assert b"405" in await ask(b"PUT / HTTP/1.1\r\n\r\n")
        assert not desk.saved
        assert b"The broker took it" in await ask(post({**GOOD, "athlete": "ann"}))
        assert desk.saved[-1]["athlete"] == "ann"

    await served(desk, use)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET /",
        b"\r\n\r\n",
        b"\xff\xfe / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\nshort",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_REQUEST,
    ],
)
async def test_page_outlives_what_is_no_request(raw: bytes) -> None:
    async def use(ask: Ask) -> None:
        with contextlib.suppress(ConnectionError):
            assert await ask(raw) == b""
        assert b"200 OK" in await ask(b"GET / HTTP/1.1\r\n\r\n")

    await served(Desk(), use)


def test_page_fits_a_device_and_shows_no_secret() -> None:
    shown = page({"wifi_password": "secret of Wi-Fi", "code": CODE}, {"": "no", "host": "is needed"}, {"name": "x<y"})
    assert len(shown) < 3000
    assert "secret of Wi-Fi" not in shown
    assert "x&lt;y" in shown


def test_code_of_the_set_up_has_eight_clear_characters() -> None:
    counter = iter(range(1000))
    code = setup_code(lambda count: next(counter).to_bytes(count, "little"))
    assert len(code) == 8
    assert not set(code) & set("IO01L")
