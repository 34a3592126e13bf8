"""A certificate from the platform's own authority: enrolled by a code, asked how it stands, renewed. HTTPS, one question a connection.

The code is one line, `https://HOST:PORT/TENANT/NODE#CODE.ROOT`: ROOT is the SHA-256 of the authority's root, so nobody else can answer.
The key never leaves the device. What the document of the device gets: `host`, `port`, `ca_pem`, `certificate_pem`.
"""

import asyncio
import binascii
import hashlib
import json

from kit import certificate
from kit.stream import open_stream, tls_context, unproved_context
from kit.ticks import sleep_ms

ROOTS = "/enrol/v1/roots"
CERTIFICATES = "/enrol/v1/certificates"
RENEWALS = "/enrol/v1/renewals"
STANDING = "/enrol/v1/standing"
MAX_ANSWER = 12_288
ASK_S = 60  # for all of a question, its handshake included
FIRST_MS = 5_000
ASK_MS = 21_600_000  # six hours
AWAY_MS = 300_000
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def read_code(text):
    """The part of the document that an enrolment code holds. ValueError says what is wrong with it."""
    rest, mark, secret = text.strip()[len("https://") :].partition("#")
    where, _, user = rest.partition("/")
    tenant, _, node = user.partition("/")
    host, _, port = where.rpartition(":") if ":" in where and not where.endswith("]") else (where, "", "443")
    code, _, root = secret.partition(".")
    if not mark or len(code) != 26 or len(root) != 43:
        raise ValueError("what stands after # is not whole: copy the whole line")
    if not host or not (1 <= len(port) <= 5 and all(["0" <= digit <= "9" for digit in port])):
        raise ValueError("an enrolment code begins with https://host:port/")
    return {
        "enrol_host": host.strip("[]"),
        "enrol_port": int(port),
        "tenant": tenant,
        "node": node,
        "tls": True,
        "enrol_code": code,
        "enrol_root": root,
    }


async def enrol(document, secret, ca_of=None):
    """Have the key `secret` certified by the code in the document, which gets what comes of it. ValueError is the authority's no with its
    cure; asking again with the same code and key is safe.

    `ca_of(pem)` gives what `tls_context` takes.
    """
    place = document["enrol_host"], document["enrol_port"]
    roots = proven((await _ask(place, "GET", ROOTS, unproved_context()))["roots"], document["enrol_root"])
    context = tls_context(_ca(roots, ca_of))
    asked = {"code": document["enrol_code"], "request": _request(document, secret)}
    _take(document, await _ask(place, "POST", CERTIFICATES, context, asked))


async def look_after(document, secret, own, ca_of=None):
    """Ask how the certificate stands; whether the document was changed: another certificate, or other roots.

    `own` is (certificate, key) as `tls_context` takes them. ValueError, OSError or EOFError when nothing came of it.
    """
    place = document["enrol_host"], document["enrol_port"]
    ca = _ca(document["ca_pem"], ca_of)
    said = await _ask(place, "GET", STANDING, tls_context(ca, *own))
    if said["renew"]:
        asked = {"request": _request(document, secret)}
        _take(document, await _ask(place, "POST", RENEWALS, tls_context(ca, *own), asked))
        return True
    changed = said["roots"] != document["ca_pem"]
    document["ca_pem"] = said["roots"]
    return changed


async def keep(device):
    """For ever: ask how the certificate of a device stands; with another one it starts again. The ring keeps what is owed."""
    from kit.trial import own_certificate

    document = device.document
    wait_ms = FIRST_MS
    while True:
        await sleep_ms(wait_ms)
        wait_ms = ASK_MS if device.node.client.up else AWAY_MS
        try:
            changed = await look_after(document, int(document["key"], 16), own_certificate(document))
        except (OSError, EOFError, ValueError, KeyError) as error:
            device.log.warning("identity: %s" % error)
            continue
        if changed:
            device.kept.save(document)
            device.log.info("identity: another certificate or other roots; starting again")
            device.close()
            await sleep_ms(1000)  # frames are closed into the ring
            device.port.machine.reset()


def proven(pem, root):
    """The certificate of `pem` whose SHA-256 (base64 for URLs) is `root`. ValueError when it is not there."""
    for part in pem.split(_BEGIN)[1:]:
        one = _BEGIN + part.partition(_END)[0] + _END + "\n"
        digest = binascii.b2a_base64(hashlib.sha256(certificate.der_of(one)).digest()).decode().strip()
        if digest.replace("+", "-").replace("/", "_").rstrip("=") == root:
            return one
    raise ValueError("the server at this address does not have the authority that the code names: ask for a new code")


def answer_of(raw):
    """The object in a whole HTTP answer. ValueError says what the other side says is wrong."""
    head, mark, body = bytes(raw).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not mark or len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ValueError("the enrolment service answers with no HTTP: are host and port its own?")
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ValueError("the enrolment service answers %s" % words[1].decode())
    if words[1] not in (b"200", b"201"):
        raise ValueError("%s: %s" % (said.get("message", said.get("error", "refused")), said.get("cure", "")))
    return said


def _request(document, secret):
    return certificate.pem("CERTIFICATE REQUEST", certificate.request(secret, document["tenant"] + "/" + document["node"]))


def _ca(pem, ca_of):
    raw = pem.encode()
    return ca_of(raw) if ca_of is not None else raw


def _take(document, told):
    for key, name in (("host", "host"), ("port", "port"), ("roots", "ca_pem"), ("certificate", "certificate_pem")):
        document[name] = told[key]
    document["tls"] = True


async def _ask(place, method, path, context, asked=None):
    try:
        return await asyncio.wait_for(_asked(place, method, path, context, asked), ASK_S)
    except asyncio.TimeoutError:
        raise EOFError("no answer from %s:%d within %d s" % (place[0], place[1], ASK_S)) from None


async def _asked(place, method, path, context, asked):
    host, port = place
    body = json.dumps(asked).encode() if asked is not None else b""
    head = "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    stream = await open_stream(host, port, context)
    try:
        question = memoryview((head % (method, path, host, len(body))).encode() + body)
        while len(question):
            count = stream.write(question)
            question = question[count:]
            if not count:
                await sleep_ms(4)  # a handshake waits for either direction, and does not say for which
        raw = bytearray()
        view = memoryview(bytearray(512))
        while len(raw) <= MAX_ANSWER:
            try:
                count = stream.read(view)
            except EOFError:
                break
            if count:
                raw.extend(view[:count])
                if _is_whole(raw):
                    break
            else:
                await stream.readable()
        if not raw:
            raise EOFError("the enrolment service closed the link: does it know the authority of this certificate?")
        return answer_of(raw)
    finally:
        stream.close()


def _is_whole(raw):
    """Whether the body is as long as the head says."""
    at = raw.find(b"\r\n\r\n")
    if at < 0:
        return False
    for line in bytes(raw[:at]).split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(raw) - at - 4 >= int(value)
    return False
