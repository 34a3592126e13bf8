"""Ed25519 and SHA-512 of the kit: the vectors of RFC 8032, another implementation as an oracle, and everything strictness refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from kit import ed25519

from tests.firmware import KIT
from tests.micropython import find_or_unpack_micropython

# RFC 8032, section 7.1: secret, public key, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(3)]


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


@pytest.mark.parametrize(("secret", "key", "message", "signature"), RFC_8032)
def test_vectors_of_the_standard(secret: str, key: str, message: str, signature: str) -> None:
    assert public(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))).hex() == key
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))
    assert not ed25519.verify(bytes.fromhex(key), bytes.fromhex(message) + b"\0", bytes.fromhex(signature))


def test_constants_are_those_of_their_formulas() -> None:
    p = ed25519.P
    assert ed25519.D * 121666 % p == -121665 % p
    assert ed25519._ROOT**2 % p == p - 1
    assert ed25519._BASE_Y * 5 % p == 4
    assert ed25519._point(ed25519._BASE_Y)[0] == ed25519._BASE_X
    assert ed25519._power(7) == pow(7, 2**252 - 3, p)


@given(st.binary(max_size=700))
def test_digest_is_that_of_sha_512(data: bytes) -> None:
    assert ed25519.sha512(data) == hashlib.sha512(data).digest()


@given(st.sampled_from(KEYS), st.binary(max_size=300), st.integers(0, 511))
def test_every_signature_verifies_and_none_with_a_bit_turned(key: Ed25519PrivateKey, message: bytes, bit: int) -> None:
    signature = key.sign(message)
    assert ed25519.verify(public(key), message, signature)
    turned = bytearray(signature)
    turned[bit >> 3] ^= 1 << (bit & 7)
    assert not ed25519.verify(public(key), message, bytes(turned))


@given(st.binary(max_size=40), st.binary(max_size=10), st.binary(max_size=70))
def test_no_bytes_raise(key: bytes, message: bytes, signature: bytes) -> None:
    assert not ed25519.verify(key, message, signature)


def test_s_beyond_the_order_is_refused() -> None:
    signature = KEYS[0].sign(b"hello")
    beyond = (int.from_bytes(signature[32:], "little") + ed25519.L).to_bytes(32, "little")
    assert not ed25519.verify(public(KEYS[0]), b"hello", signature[:32] + beyond)


def small_points() -> list[bytes]:
    """All eight points of small order, each in its canonical form: multiples of one of order eight."""
    p, d = ed25519.P, ed25519.D

    def plus(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        k = d * a[0] * b[0] * a[1] * b[1] % p
        x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + k, -1, p)
        y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, p)
        return x % p, y % p

    y = 2
    while True:  # L times any point is one of small order; a random one is of order eight as often as not
        point = ed25519._point(y)
        y += 1
        if point is None:
            continue
        found, addend, order = (0, 1), (point[0], point[1]), ed25519.L
        while order:
            if order & 1:
                found = plus(found, addend)
            addend, order = plus(addend, addend), order >> 1
        points = {(0, 1)}
        at = found
        while at not in points:
            points.add(at)
            at = plus(at, found)
        if len(points) == 8:
            return [(y | (x & 1) << 255).to_bytes(32, "little") for x, y in points]


def test_keys_of_small_order_are_refused() -> None:
    """Under such a key R = B, S = 1 would sign one message in eight at least, and under the neutral point every one."""
    base = ed25519._BASE_Y.to_bytes(32, "little")
    keys = small_points()
    assert len(keys) == 8
    forged = base + (1).to_bytes(32, "little")
    assert not any(ed25519.verify(key, bytes([i]), forged) for key in keys for i in range(16))


def test_points_in_another_than_the_canonical_form_are_refused() -> None:
    p = ed25519.P
    for y in range(19):  # y and y + p fit 255 bits both; x = 0 has no sign
        assert ed25519._point(y + p) is None
        assert ed25519._point(y + p | 1 << 255) is None
    assert ed25519._point(1) is not None
    assert ed25519._point(1 | 1 << 255) is None
    assert ed25519._point(p - 1 | 1 << 255) is None


def test_point_r_in_another_form_is_refused_though_it_is_the_same_point() -> None:
    """S = k a makes R the neutral point; written as y = 1 it verifies, as y = 1 + p or with a sign it must not."""
    secret = hashlib.sha512(bytes([1]) * 32).digest()[:32]
    a = int.from_bytes(secret, "little") & ((1 << 254) - 8) | 1 << 254
    key = public(KEYS[1])
    for r, good in ((1, True), (1 + ed25519.P, False), (1 | 1 << 255, False)):
        encoded = r.to_bytes(32, "little")
        k = int.from_bytes(hashlib.sha512(encoded + key + b"m").digest(), "little")
        assert ed25519.verify(key, b"m", encoded + (k * a % ed25519.L).to_bytes(32, "little")) is good


def test_micropython_says_the_same(tmp_path: Path) -> None:
    """A device's heap of 128 K words; the verdicts on all vectors and on each with a bit turned."""
    lines = [f"{key} {message or '-'} {signature}" for _, key, message, signature in RFC_8032]
    lines += [f"{key} {message or '-'} {signature[:-2]}1f" for _, key, message, signature in RFC_8032]
    lines += [f"{point.hex()} 00 {'01'.ljust(64, '0') * 2}" for point in small_points()]
    script = tmp_path / "verify.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(KIT)!r})\nfrom binascii import unhexlify\nfrom kit import ed25519\n"
        f"for line in {lines!r}:\n    key, message, signature = line.split()\n"
        "    print(int(ed25519.verify(unhexlify(key), unhexlify(message) if message != '-' else b'', unhexlify(signature))))\n"
    )
    said = find_or_unpack_micropython().run(script, heap="128wk").split()
    assert said == ["1"] * 3 + ["0"] * (3 + 8)


def test_the_module_needs_nothing_of_cpython() -> None:
    assert "import" not in (KIT / "kit" / "ed25519.py").read_text().partition('"""\n\n')[2]
