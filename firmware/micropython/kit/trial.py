"""Tries what a device was told at its set-up: the Wi-Fi, then the broker with that name and password. Bounded; what is wrong comes back as
a sentence.
"""

import asyncio

from kit.certificate import private_key
from kit.mqtt_codec import ProtocolError, Receiver, connect_packet
from kit.stream import open_stream, tls_context

TRY_S = 20
_REFUSED = {
    1: "the broker speaks another version of MQTT",
    2: "the broker does not take this name as client id",
    3: "the broker is not available now",
    4: "the broker does not know this name and password",
    5: "the broker does not let this name in with this password",
}


def own_certificate(document):
    """(certificate, key) as `tls_context` takes them, if the device has one; its own key, made here."""
    if not document.get("certificate_pem"):
        return ()
    return document["certificate_pem"].encode(), private_key(int(document["key"], 16))


async def try_document(document, wifi, ca_of=None, timeout_s=TRY_S):
    """An empty text if both take it, else why not. `wifi(ssid, password)` says the same; `ca_of(pem)` gives what `tls_context` takes."""
    why = await wifi(document["wifi_ssid"], document.get("wifi_password", ""))
    if why:
        return why
    if "enrol_code" in document:
        why = await _try_enrolment(document, ca_of, timeout_s)
        if why:
            return why
    where = "%s:%d" % (document["host"], document["port"])
    try:
        return await asyncio.wait_for(_try_broker(document, ca_of), timeout_s)
    except asyncio.TimeoutError:
        return "no answer from %s within %d s" % (where, timeout_s)
    except EOFError:
        return "%s closed the connection without an answer: are name, password and TLS right?" % where
    except (OSError, ValueError, ProtocolError) as error:
        return "%s cannot be reached: %s" % (where, error)


async def _try_enrolment(document, ca_of, timeout_s):
    from kit import authority

    where = "%s:%d" % (document["enrol_host"], document["enrol_port"])
    try:
        await asyncio.wait_for(authority.enrol(document, int(document["key"], 16), ca_of), 3 * timeout_s)
    except asyncio.TimeoutError:
        return "no answer from %s within %d s" % (where, 3 * timeout_s)
    except (ValueError, KeyError) as error:
        return str(error)
    except (OSError, EOFError) as error:
        return "%s cannot be reached: %s" % (where, error)
    return ""


async def _try_broker(document, ca_of):
    context = None
    if document["tls"]:
        pem = document["ca_pem"].encode()
        context = tls_context(ca_of(pem) if ca_of is not None else pem, *own_certificate(document))
    user = "%s/%s" % (document["tenant"], document["node"])
    stream = await open_stream(document["host"], document["port"], context)
    try:
        packet = memoryview(connect_packet(user, user, document.get("password", ""), 30, True))
        while len(packet):
            count = stream.write(packet)
            packet = packet[count:]
            if not count:
                await stream.writable()
        receiver = Receiver(256)
        while not receiver.next():
            count = stream.read(receiver.space())
            receiver.took(count)
            if not count:
                await stream.readable()
        return "" if receiver.code == 0 else _REFUSED.get(receiver.code, "the broker refuses with code %d" % receiver.code)
    finally:
        stream.close()
