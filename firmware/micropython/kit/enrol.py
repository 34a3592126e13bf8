"""What a device is told at its set-up, checked: Wi-Fi, and who it is on which broker. Pure; the same as a box is told (broker, tenant,
node, password).

An enrolment code is one line that holds all of the second part, as `paceline firmware provision` prints it:

    mqtts://broker.example:8883/gym/watch-7#PASSWORD       mqtt:// without TLS
    https://platform.example:8443/gym/watch-7#CODE.ROOT    a certificate instead of a password (`authority.py`)

`FIELDS` are the keys of the document a device keeps. Each wrong field has one sentence; nothing is kept while one is wrong.
"""

FIELDS = ("wifi_ssid", "wifi_password", "host", "port", "tls", "tenant", "node", "password", "ca_pem", "athlete", "update_url") + (
    "enrol_host",
    "enrol_port",
    "enrolled",
)
MAX_TEXT = 256
MAX_PEM = 4000
_ID = "abcdefghijklmnopqrstuvwxyz0123456789._-"


def read_code(text):
    """The part of the document that an enrolment code holds. ValueError says what is wrong with it."""
    text = text.strip()
    if text.startswith("https://"):
        from kit import authority

        return authority.read_code(text)
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("mqtt", "mqtts"):
        raise ValueError("an enrolment code begins with https://, mqtts:// or mqtt://")
    rest, mark, password = rest.partition("#")
    where, _, user = rest.partition("/")
    tenant, _, node = user.partition("/")
    if not mark or not password:
        raise ValueError("the password after # is missing: copy the whole line")
    host, _, port = where.rpartition(":") if ":" in where and not where.endswith("]") else (where, "", "")
    return {
        "host": host.strip("[]"),
        "port": port or ("8883" if scheme == "mqtts" else "1883"),
        "tls": scheme == "mqtts",
        "tenant": tenant,
        "node": node,
        "password": password,
    }


def check(given):
    """(document, {}) of what was typed, or (None, {field: sentence}). `code`, if given, comes before the single fields."""
    wrong = {}
    found = {key: given[key] for key in FIELDS if given.get(key) not in (None, "")}
    for key in FIELDS + ("code",):
        if key not in ("port", "tls", "enrol_port") and not isinstance(given.get(key, ""), (str, type(None))):
            wrong[key] = "is text, in quotes"
    if wrong:
        return None, wrong
    if given.get("code"):
        try:
            found.update(read_code(given["code"]))
        except ValueError as error:
            return None, {"code": str(error)}
    for key in ("wifi_ssid", "tenant", "node") + (() if "enrol_code" in found else ("host", "password")):
        if not found.get(key):
            wrong[key] = "is needed"
    for key in ("tenant", "node", "athlete"):
        if found.get(key) and not is_id(found[key]):
            wrong[key] = "1-32 of a-z 0-9 . _ - beginning with a letter or digit"
    for key, value in found.items():
        if isinstance(value, str) and (
            len(value) > (MAX_PEM if key == "ca_pem" else MAX_TEXT) or (key != "ca_pem" and not _is_plain(value))
        ):
            wrong[key] = "is too long, or holds what cannot be printed"
    if len(found.get("wifi_ssid", "").encode()) > 32:
        wrong["wifi_ssid"] = "at most 32 bytes"
    if found.get("wifi_password") and not 8 <= len(found["wifi_password"]) <= 63:
        wrong["wifi_password"] = "8 to 63 characters, or none for an open network"
    try:
        found["port"] = int(found.get("port", 8883))
        if not 1 <= found["port"] <= 65535:
            raise ValueError
    except (ValueError, TypeError):
        wrong["port"] = "a number from 1 to 65535"
    found["tls"] = found.get("tls") in (True, 1, "on", "true", "1")
    if "ca_pem" in found:
        text = found["ca_pem"] = found["ca_pem"].replace("\r\n", "\n").strip() + "\n"
        if not (text.startswith("-----BEGIN CERTIFICATE-----") and text.endswith("-----END CERTIFICATE-----\n")):
            wrong["ca_pem"] = "paste the whole certificate, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
    elif found["tls"] and "host" in found:
        wrong["ca_pem"] = "TLS needs the certificate of the broker's authority: the device knows no other"
    return (None, wrong) if wrong else (found, {})


def is_id(text):
    """Whether it may name a tenant, node or athlete."""
    return isinstance(text, str) and 1 <= len(text) <= 32 and text[0] not in "._-" and all([c in _ID for c in text])


def _is_plain(text):
    return all([" " <= c != "\x7f" for c in text])
