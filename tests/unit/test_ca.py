"""The certificate authority: what it makes, OpenSSL's opinion of it, and every reason to get nothing."""

from __future__ import annotations

import base64
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from broker.enrolment import (
    CURES,
    Denied,
    DeniedError,
    EnrolmentCode,
    fingerprint,
    new_code,
    proven_roots,
    read_enrolment_code,
    renew_at_s,
)  # fmt: skip
from broker.errors import BadInputError, ConfigError
from paceline import ca_certificates as made
from paceline.ca_authority import MAX_FRESH, Authority
from paceline.ca_book import Kept
from paceline.ca_doctor import identity_findings
from paceline.ca_rules import CaRules
from paceline.config import Settings
from paceline.site import open_site
from paceline.site_identity import server_file

DAY = 86_400
NODE = "gym/watch-7"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ca(tmp_path: Path, clock: Clock):
    with Authority.open(tmp_path / "ca", CaRules(life_days=90, grace_days=30, code_hours=24), clock) as authority:
        yield authority


def enrolled(ca: Authority, name: str = NODE) -> tuple[made.Key, Kept]:
    code, _, _ = ca.add_node(name)
    key = made.new_key()
    return key, ca.enrol(code, made.make_request(key, name))


def denied(what) -> Denied:
    with pytest.raises(DeniedError) as caught:
        what()
    assert caught.value.cure
    return caught.value.denied


def openssl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


# -- the folder


def test_keys_and_book_are_for_their_owner_only(ca: Authority, tmp_path: Path) -> None:
    enrolled(ca)
    ca.keep_server(tmp_path / "ca" / "x" / "server.pem", ("localhost",))
    for path in (tmp_path / "ca").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_a_second_start_finds_the_same_root(tmp_path: Path, clock: Clock) -> None:
    with Authority.open(tmp_path / "ca", clock_s=clock) as first:
        roots = first.roots()
        written = first.revoked_file.read_bytes()
    with Authority.open(tmp_path / "ca", clock_s=clock) as second:
        assert second.roots() == roots
        assert second.revoked_file.read_bytes() == written
        assert not second.publish()


def test_no_code_is_in_the_book(ca: Authority, tmp_path: Path) -> None:
    code, _, _ = ca.add_node(NODE)
    assert all(code.encode() not in path.read_bytes() for path in (tmp_path / "ca").rglob("*") if path.is_file())


# -- enrolment


def test_a_code_gives_a_certificate_for_its_name_and_key(ca: Authority) -> None:
    key, kept = enrolled(ca)
    held = x509.load_der_x509_certificate(kept.der)
    assert made.common_name(held) == NODE
    assert held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    ) == [f"paceline:{NODE}"]
    assert held.public_key() == key.public_key()
    assert kept.not_after_s - ca.now_s() == 90 * DAY


def test_openssl_takes_the_chain_and_knows_the_revoked(ca: Authority, tmp_path: Path, clock: Clock) -> None:
    _, one = enrolled(ca)
    _, two = enrolled(ca, "gym/box1")
    for name, kept in (("one", one), ("two", two)):
        (tmp_path / name).write_text(ca.chain(kept))
    ca.revoke("gym/box1")
    check = ("verify", "-CAfile", str(ca.roots_file), "-crl_check", "-CRLfile", str(ca.revoked_file), "-purpose", "sslclient", "-attime")
    at = str(int(clock.now_s))
    assert openssl(tmp_path, *check, at, "one").returncode == 0
    assert "revoked" in openssl(tmp_path, *check, at, "two").stderr
    assert openssl(tmp_path, *check, str(one.not_after_s + 5), "one").returncode != 0
    assert openssl(tmp_path, *check[:-2], "sslserver", "-attime", at, "one").returncode != 0


def test_a_used_code_is_refused_to_another_key(ca: Authority) -> None:
    code, _, _ = ca.add_node(NODE)
    request = made.make_request(made.new_key(), NODE)
    first = ca.enrol(code, request)
    assert ca.enrol(code, request) == first
    assert denied(lambda: ca.enrol(code, made.make_request(made.new_key(), NODE))) is Denied.USED_CODE


def test_an_expired_code_is_refused(ca: Authority, clock: Clock) -> None:
    code, _, expires_s = ca.add_node(NODE)
    clock.now_s = expires_s
    assert denied(lambda: ca.enrol(code, made.make_request(made.new_key(), NODE))) is Denied.EXPIRED_CODE


def test_a_newer_code_ends_the_one_before(ca: Authority) -> None:
    old, _, _ = ca.add_node(NODE)
    new, _, _ = ca.add_node(NODE)
    request = made.make_request(made.new_key(), NODE)
    assert denied(lambda: ca.enrol(old, request)) is Denied.UNKNOWN_CODE
    assert ca.enrol(new, request).name == NODE


def test_a_code_is_for_one_name(ca: Authority) -> None:
    code, _, _ = ca.add_node(NODE)
    assert denied(lambda: ca.enrol(code, made.make_request(made.new_key(), "gym/other"))) is Denied.WRONG_NAME
    assert denied(lambda: ca.enrol(new_code(), made.make_request(made.new_key(), NODE))) is Denied.UNKNOWN_CODE
    assert denied(lambda: ca.enrol("x", made.make_request(made.new_key(), NODE))) is Denied.UNKNOWN_CODE


def test_a_request_that_is_none_is_refused(ca: Authority) -> None:
    code, _, _ = ca.add_node(NODE)
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        builder = x509.CertificateSigningRequestBuilder().subject_name(made._name(NODE))
        request = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else made._HASH)
        text = request.public_bytes(made.serialization.Encoding.PEM).decode()
        assert denied(lambda text=text: ca.enrol(code, text)) is Denied.BAD_REQUEST
    good = made.make_request(made.new_key(), NODE)
    for text in ("", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", good[:-60]):
        assert denied(lambda text=text: ca.enrol(code, text)) is Denied.BAD_REQUEST
    assert ca.enrol(code, good).name == NODE  # what was refused used nothing up


@given(at=st.integers(0, 10_000), to=st.integers(0, 255))
def test_a_request_with_a_changed_byte_never_gets_a_certificate_of_another_key(at: int, to: int) -> None:
    der = bytearray(x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(made.serialization.Encoding.DER))
    if der[at % len(der)] == to:
        return
    der[at % len(der)] = to
    with pytest.raises(DeniedError):
        made.read_request(_pem(bytes(der)))


REQUEST = made.make_request(made.read_key(made.key_pem(made.new_key())), NODE)


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("name", ["gym", "platform/ingest", "gym/upload", "Gym/x", "gym/" + "a" * 32 + "b", "a" * 32 + "/" + "b" * 32, ""])
def test_names_that_cannot_be_in_a_certificate_are_refused(ca: Authority, name: str) -> None:
    with pytest.raises(BadInputError):
        ca.add_node(name)


# -- renewal


def test_a_certificate_is_renewed_at_two_thirds_of_its_life(ca: Authority, clock: Clock) -> None:
    _, kept = enrolled(ca)
    due_s = renew_at_s(kept.not_before_s, kept.not_after_s)
    clock.now_s = due_s - 2
    assert ca.standing(kept) == ""
    clock.now_s = due_s + 1
    assert ca.standing(kept) == "two thirds of its life are over"
    after = ca.renew(kept.der, made.make_request(made.new_key(), NODE))
    assert after.not_after_s > kept.not_after_s
    assert ca.standing(after) == ""
    assert ca.check_shown(kept.der) == kept, "the old one holds until it ends: a link may live on with it"


def test_an_expired_certificate_is_renewed_within_the_grace_only(ca: Authority, clock: Clock) -> None:
    _, kept = enrolled(ca)
    request = made.make_request(made.new_key(), NODE)
    clock.now_s = kept.not_after_s + 30 * DAY
    assert ca.renew(kept.der, request).name == NODE
    clock.now_s += 1
    assert denied(lambda: ca.renew(kept.der, request)) is Denied.EXPIRED


def test_a_renewal_asked_again_for_the_same_key_gives_the_same_certificate(ca: Authority, clock: Clock) -> None:
    key, kept = enrolled(ca)
    clock.now_s = renew_at_s(kept.not_before_s, kept.not_after_s) + 1
    after = ca.renew(kept.der, made.make_request(key, NODE))
    assert after.serial != kept.serial, "a device keeps its key"
    clock.now_s += 100
    assert ca.renew(kept.der, made.make_request(key, NODE)) == after
    ca.rotate()
    assert ca.renew(after.der, made.make_request(key, NODE)).root == 2, "of another root it is another question"


def test_a_node_cannot_fill_the_book(ca: Authority, clock: Clock) -> None:
    _, kept = enrolled(ca)
    for _ in range(MAX_FRESH - 1):
        ca.renew(kept.der, made.make_request(made.new_key(), NODE))
    last = made.make_request(made.new_key(), NODE)
    assert denied(lambda: ca.renew(kept.der, last)) is Denied.TOO_MANY
    assert len(ca.book.certificates(NODE, "node")) == MAX_FRESH
    clock.now_s = kept.not_after_s + 1
    assert ca.renew(kept.der, last).not_after_s > kept.not_after_s, "those are due themselves now"
    _, other = enrolled(ca, "gym/other")
    assert ca.renew(other.der, made.make_request(made.new_key(), "gym/other")), "each node has its own number"


def test_a_renewal_is_for_the_name_that_was_shown(ca: Authority) -> None:
    _, kept = enrolled(ca)
    assert denied(lambda: ca.renew(kept.der, made.make_request(made.new_key(), "gym/other"))) is Denied.WRONG_NAME
    assert denied(lambda: ca.renew(None, made.make_request(made.new_key(), NODE))) is Denied.NO_CERTIFICATE


def test_certificates_of_another_authority_are_not_ours(ca: Authority, tmp_path: Path, clock: Clock) -> None:
    with Authority.open(tmp_path / "other", clock_s=clock) as other:
        _, foreign = enrolled(other)
        assert denied(lambda: ca.renew(foreign.der, made.make_request(made.new_key(), NODE))) is Denied.NOT_OURS


# -- revocation


def test_a_revoked_node_gets_nothing_until_it_is_added_again(ca: Authority) -> None:
    _, kept = enrolled(ca)
    unused, _, _ = ca.add_node(NODE)
    ca.revoke(NODE)
    request = made.make_request(made.new_key(), NODE)
    assert denied(lambda: ca.renew(kept.der, request)) is Denied.REVOKED
    assert denied(lambda: ca.enrol(unused, request)) is Denied.UNKNOWN_CODE
    code, _, _ = ca.add_node(NODE)
    assert ca.enrol(code, request).revoked_s is None
    assert denied(lambda: ca.renew(kept.der, request)) is Denied.REVOKED


def test_a_renewal_that_meets_a_revocation_leaves_no_certificate_that_holds(ca: Authority, tmp_path: Path, clock: Clock) -> None:
    _, kept = enrolled(ca)
    ending: list[threading.Thread] = []

    def revoke() -> None:
        with Authority.open(tmp_path / "ca", clock_s=clock) as operator:
            operator.revoke(NODE)

    def interrupted() -> float:  # the authority looks at the clock once it saw that the certificate is not revoked
        if not ending:
            ending.append(threading.Thread(target=revoke))
            ending[0].start()
            ending[0].join(1.0)  # until the book lets it: now, or after the renewal
        return clock()

    with Authority.open(tmp_path / "ca", clock_s=clock) as service:
        service._clock_s = interrupted
        with suppress(DeniedError):
            service.renew(kept.der, made.make_request(made.new_key(), NODE))
    ending[0].join(60)
    assert [one.serial for one in ca.book.certificates(NODE, "node") if one.revoked_s is None] == []


def test_enrolling_anew_ends_the_certificates_before(ca: Authority) -> None:
    _, kept = enrolled(ca)
    before = ca.revoked_file.read_text()
    _, after = enrolled(ca)
    assert denied(lambda: ca.check_shown(kept.der)) is Denied.REVOKED
    assert ca.check_shown(after.der) == after
    assert ca.revoked_file.read_text() != before


def test_revoking_who_was_never_added_says_so(ca: Authority) -> None:
    with pytest.raises(ConfigError, match="never added"):
        ca.revoke("gym/nobody")


def test_what_expired_leaves_the_list(ca: Authority, clock: Clock) -> None:
    _, kept = enrolled(ca)
    ca.revoke(NODE)
    [listed] = x509.load_pem_x509_crl(ca.revoked_file.read_bytes())
    assert listed.serial_number == int(kept.serial, 16)
    clock.now_s = kept.not_after_s
    assert ca.publish()
    assert list(x509.load_pem_x509_crl(ca.revoked_file.read_bytes())) == []


# -- two roots


def test_both_roots_are_trusted_until_all_nodes_have_moved(ca: Authority, tmp_path: Path) -> None:
    _, old = enrolled(ca)
    first = ca.roots()
    ca.rotate()
    assert ca.roots().count("BEGIN CERTIFICATE") == 2
    assert ca.revoked_file.read_text().count("BEGIN X509 CRL") == 2
    assert ca.standing(old) == "the authority has a new root"
    with pytest.raises(ConfigError, match="gym/watch-7"):
        ca.retire()
    with pytest.raises(ConfigError, match="two roots"):
        ca.rotate()
    new = ca.renew(old.der, made.make_request(made.new_key(), NODE))
    assert ca.behind() == []
    ca.retire()
    assert ca.roots().count("BEGIN CERTIFICATE") == 1
    assert first not in ca.roots()
    (tmp_path / "new").write_text(ca.chain(new))
    assert openssl(tmp_path, "verify", "-no_check_time", "-CAfile", str(ca.roots_file), "new").returncode == 0


@pytest.mark.parametrize("changes", [1, 3])
def test_a_node_that_slept_through_changes_of_roots_still_knows_the_server(ca: Authority, tmp_path: Path, changes: int) -> None:
    (tmp_path / "first").write_text(ca.roots())
    for _ in range(changes):
        ca.rotate()
        ca.retire()
    ca.keep_server(tmp_path / "server.pem", ("localhost",))
    chain = (tmp_path / "server.pem").read_text()
    leaf, *vouched = chain[chain.index("-----BEGIN CERT") :].split("-----END CERTIFICATE-----\n")[:-1]
    (tmp_path / "leaf").write_text(f"{leaf}-----END CERTIFICATE-----\n")
    (tmp_path / "vouched").write_text("".join(f"{one}-----END CERTIFICATE-----\n" for one in vouched))
    said = openssl(
        tmp_path, "verify", "-no_check_time", "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile", "first", "-untrusted", "vouched", "leaf"
    )  # fmt: skip
    assert said.returncode == 0, said.stderr


# -- servers and our own processes


def test_a_server_certificate_is_kept_until_names_life_or_root_change(ca: Authority, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "server.pem"
    assert ca.keep_server(path, ("localhost", "127.0.0.1"))
    assert not ca.keep_server(path, ("localhost", "127.0.0.1"))
    assert not ca.keep_server(path, ("localhost",))
    assert ca.keep_server(path, ("broker", "localhost"))
    assert not any(ca.keep_server(path, names) for names in (("localhost", "127.0.0.1"), ("broker",)))
    clock.now_s += 61 * DAY
    assert ca.keep_server(path, ("localhost",))
    ca.rotate()
    assert ca.keep_server(path, ("localhost",))
    path.write_text("damaged")
    assert ca.keep_server(path, ("localhost",))
    assert not ca.keep_server(path, ("localhost",))


def test_our_own_processes_are_platform_principals_and_never_renewed_by_the_service(ca: Authority, tmp_path: Path) -> None:
    path = tmp_path / "ingest.pem"
    assert ca.keep_client(path, "platform/ingest")
    assert not ca.keep_client(path, "platform/ingest")
    held = x509.load_pem_x509_certificate(path.read_bytes())
    assert denied(lambda: ca.check_shown(made.der_of(held))) is Denied.NOT_OURS


# -- the code as a line


@given(
    host=st.sampled_from(["enrol.example", "10.0.0.5", "::1", "localhost"]),
    port=st.integers(1, 65_535),
    node=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True).filter(lambda text: text not in {"upload", "platform"}),
)
def test_a_code_survives_as_a_line(host: str, port: int, node: str) -> None:
    code = EnrolmentCode(host, port, "gym", node, new_code(), fingerprint(b"root"))
    assert read_enrolment_code(f" {code.text}\n") == code


@given(st.text(max_size=120))
def test_other_lines_are_refused_with_a_cure(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_enrolment_code(text)
    assert caught.value.cure


def test_every_cut_of_a_code_is_refused() -> None:
    line = EnrolmentCode("h", 8443, "gym", "x", new_code(), fingerprint(b"")).text
    for end in range(len(line)):
        with pytest.raises(BadInputError):
            read_enrolment_code(line[:end])


def test_only_the_root_the_code_names_is_taken(ca: Authority, tmp_path: Path, clock: Clock) -> None:
    with Authority.open(tmp_path / "other", clock_s=clock) as other:
        mixed = other.roots() + ca.roots()
        root = ca.book.roots()[0].fingerprint
        assert proven_roots(mixed, root) == ca.roots()
        with pytest.raises(BadInputError, match="does not have the authority"):
            proven_roots(other.roots(), root)


def test_every_refusal_has_a_cure() -> None:
    assert set(CURES) == set(Denied)


def test_doctor_says_what_of_certificates_keeps_a_site_from_working(tmp_path: Path) -> None:
    tree = {"data": tmp_path, "tenant": "gym", "central": {"kind": "mosquitto", "program": "nowhere", "host": "0.0.0.0"}}
    site = open_site(Settings.model_validate(tree))
    (site.secrets / "authority" / "root-1.key").chmod(0o644)
    server_file(site, "central").write_text("")
    wrong = {finding.check: finding.found for finding in identity_findings(site) if not finding.ok}
    assert set(wrong) == {"mosquitto", "identity names", "authority", "certificate central"}
    assert "root-1.key" in wrong["authority"]
    assert all(finding.cure for finding in identity_findings(site) if not finding.ok)
    assert identity_findings(open_site(Settings.model_validate({"data": tmp_path / "plain"}))) == []
