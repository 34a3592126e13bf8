"""The set-up of a device, as lines of a console and as one page of HTTP. The shell; what is right stands in `enrol.py`.

A device that knows no platform opens a Wi-Fi of its own (`paceline-XXXX`, its password is the code that the console prints), serves one
page at http://192.168.4.1/ and listens to its serial console: a line of JSON each.

    {"do": "show"}                       who it is, what it runs, what was refused last
    {"do": "set", "code": "mqtts://...", "wifi_ssid": "Hall", "wifi_password": "..."}
    {"do": "request"}                    a certificate request for its name (or that of a "code"); its key is made here and stays
    {"do": "certificate", "pem": "..."}  the certificate for it
    {"do": "restart"}

What is set is tried before it is kept: Wi-Fi, then the broker with that name and password.
"""

import asyncio
import json

from kit import certificate, enrol, p256

ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
CODE_LENGTH = 8
MAX_REQUEST = 8192
SILENT_S = 10
_STYLE = (
    "body{font:16px sans-serif;max-width:26em;margin:2em auto;padding:0 1em}"
    "input,textarea{width:100%;font:inherit;margin:.2em 0 1em}b{color:#b00}"
)
_LABELS = (
    ("wifi_ssid", "Wi-Fi", "text"),
    ("wifi_password", "Its password", "password"),
    ("code", "Enrolment code (one line, printed by the platform)", "text"),
    ("ca_pem", "Certificate of the broker's authority, for mqtts:// (PEM)", "pem"),
    ("athlete", "Athlete who wears it (may stay empty)", "text"),
)


def setup_code(random):
    """Eight characters that are not mistaken for each other; the password of the set-up Wi-Fi."""
    return "".join([ALPHABET[int.from_bytes(random(4), "little") % len(ALPHABET)] for _ in range(CODE_LENGTH)])


class Setup:
    """`kept` is what the device keeps (a dictionary; `save(document)` makes it durable), `show()` what it says of itself, `random(count)`
    gives bytes.

    `trial(document)` is awaited before anything is kept: "" if Wi-Fi and broker take it, else why not. `done` is set once it is set up.
    """

    def __init__(self, kept, save, show, random, trial):
        self.kept = kept
        self.done = asyncio.Event()
        self._save = save
        self._show = show
        self._random = random
        self._trial = trial
        self._busy = False

    async def set(self, given):
        """What was typed, tried and kept: {} or {field: sentence}; "" is the field of what is wrong with all of it."""
        if self._busy:
            return {"": "another one is being tried"}
        document, wrong = enrol.check(given)
        if document is None:
            return wrong
        self._busy = True
        try:
            known = {key: self.kept[key] for key in ("key", "certificate_pem") if key in self.kept}
            known.update(document)
            if "enrol_code" in known:
                known["key"] = self._key()
                known["enrolled"] = known["enrol_code"][:8]  # tells one set-up from the next; the code is used up
            why = await self._trial(known)
        finally:
            self._busy = False
        if why:
            return {"": why}
        for key in enrol.FIELDS:
            self.kept.pop(key, None)
        self.kept.update({key: known[key] for key in enrol.FIELDS + ("certificate_pem",) if key in known})
        self._save(self.kept)
        self.done.set()
        return {}

    def request(self, code=""):
        """A certificate request, PEM, for who it is or, before the set-up, for whom an enrolment code names. The key is made once; it never
        leaves.
        """
        who = enrol.read_code(code) if code else self.kept
        if not (enrol.is_id(who.get("tenant")) and enrol.is_id(who.get("node"))):
            raise ValueError("give the enrolment code, or set it up first: the request is for tenant/node")
        secret = int(self._key(), 16)
        return certificate.pem("CERTIFICATE REQUEST", certificate.request(secret, who["tenant"] + "/" + who["node"]))

    def _key(self):
        if "key" not in self.kept:
            self.kept["key"] = "%064x" % p256.new_secret(self._random)
            self._save(self.kept)
        return self.kept["key"]

    def certificate(self, text):
        """Keep the certificate that was made for the request. ValueError if it is none, or of another key."""
        der = certificate.der_of(text)
        if "key" not in self.kept:
            raise ValueError("ask for a request first: the key is made with it")
        if p256.public_of(int(self.kept["key"], 16)) not in der:
            raise ValueError("this certificate is for another key")
        self.kept["certificate_pem"] = text
        self._save(self.kept)

    async def line(self, text):
        """The answer to one line of the console, as a line; None for an empty one. Never raises for what is in it."""
        text = text.strip()
        if not text:
            return None
        try:
            asked = json.loads(text)
            do = asked.get("do") if isinstance(asked, dict) else None
        except ValueError:
            do = None
        try:
            if do == "show":
                said = dict(self._show())
                said["user"] = self.kept.get("tenant", "") + "/" + self.kept.get("node", "") if "node" in self.kept else ""
                return json.dumps({"ok": True, "said": said})
            if do == "set":
                wrong = await self.set(asked)
                return json.dumps({"ok": not wrong, "wrong": wrong})
            if do == "request":
                return json.dumps({"ok": True, "pem": self.request(str(asked.get("code", "")))})
            if do == "certificate":
                self.certificate(str(asked.get("pem", "")))
                return json.dumps({"ok": True})
            if do == "restart":
                self.done.set()
                return json.dumps({"ok": True})
        except ValueError as error:
            return json.dumps({"ok": False, "wrong": {"": str(error)}})
        return json.dumps({"ok": False, "wrong": {"": 'a line of JSON: {"do": "show"}, set, request, certificate or restart'}})

    # -- the page

    async def answer(self, method, path, body):
        """(status, HTML) of a request."""
        if path.partition("?")[0] != "/":
            return "302 Found", ""  # phones ask for pages of their own to find out whether this is the internet
        if method == "GET":
            return "200 OK", page({}, {}, self._show())
        if method != "POST":
            return "405 Method Not Allowed", ""
        given = form_of(body)
        wrong = await self.set(given)
        if wrong:
            return "422 Unprocessable Entity", page(given, wrong, self._show())
        return "200 OK", _page("<h1>Set up</h1><p>The broker took it. The device starts again; this Wi-Fi goes away.</p>")

    async def serve(self, reader, writer):
        """One connection of `asyncio.start_server`."""
        try:
            request = await asyncio.wait_for(read_request(reader), SILENT_S)
            if request is not None:
                status, body = await self.answer(*request)
                place = "Location: /\r\n" if status[0] == "3" else ""
                raw = body.encode()
                head = "HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n"
                writer.write((head % (status, len(raw), place)).encode() + raw)
                await asyncio.wait_for(writer.drain(), SILENT_S)
        except (OSError, ValueError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), SILENT_S)
            except (OSError, asyncio.TimeoutError):
                pass


async def read_request(reader):
    """(method, path, body) of one request; None if it is none, or longer than the page ever asks for."""
    head = b""
    while b"\r\n\r\n" not in head:
        raw = await reader.read(512)
        head += raw
        if not raw or len(head) > MAX_REQUEST:
            return None
    head, body = head.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3:
        return None
    length = 0
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            length = int(value)
    if not 0 <= length <= MAX_REQUEST:
        return None
    while len(body) < length:
        raw = await reader.read(512)
        if not raw:
            return None
        body += raw
    return words[0], words[1], body[:length]


def form_of(body):
    """The fields of a form as a browser sends it (application/x-www-form-urlencoded)."""
    found = {}
    for pair in bytes(body).split(b"&"):
        name, _, value = pair.partition(b"=")
        found[_unquoted(name)] = _unquoted(value)
    return found


def page(given, wrong, show):
    """The form with what was typed and what is wrong with it. A password is never repeated."""
    said = "".join(["<p><b>%s</b></p>" % escaped(wrong[""])] if wrong.get("") else [])
    last = show.get("refused")
    if last:
        said += "<p>The platform refused data of this device: <b>%s</b></p>" % escaped(str(last))
    rows = []
    for name, label, kind in _LABELS:
        told = " <b>%s</b>" % escaped(wrong[name]) if name in wrong else ""
        value = escaped(str(given.get(name, ""))) if kind != "password" else ""
        if kind == "pem":
            field = '<textarea name="%s" rows="3">%s</textarea>' % (name, value)
        else:
            field = '<input name="%s" type="%s" value="%s" maxlength="256">' % (name, kind, value)
        rows.append("<label>%s%s%s</label>" % (label, told, field))
    shown = ("host", "port", "tenant", "node", "password")
    said += "".join(["<p>%s: <b>%s</b></p>" % (name, escaped(wrong[name])) for name in shown if name in wrong])
    return _page(
        '<h1>Set up %s</h1>%s<form method="post" action="/">%s<button>Check and save</button></form>'
        % (escaped(show.get("name", "this device")), said, "".join(rows))
    )


def escaped(text):
    """Text as HTML shows it."""
    for char, word in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, word)
    return text


def _page(body):
    view = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    return '<!doctype html><html lang="en"><head>%s<title>Paceline</title><style>%s</style></head><body>%s</body></html>' % (
        view,
        _STYLE,
        body,
    )


def _unquoted(raw):
    out = bytearray()
    at = 0
    while at < len(raw):
        char = raw[at]
        if char == 0x2B:
            char = 0x20
        elif char == 0x25:
            digits = bytes(raw[at + 1 : at + 3]).lower()
            if len(digits) == 2 and all([digit in b"0123456789abcdef" for digit in digits]):
                char = int(digits.decode(), 16)
                at += 2
        out.append(char)
        at += 1
    try:
        return out.decode()
    except ValueError:
        return ""
