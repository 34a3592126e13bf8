"""The set-up page of a box as HTML (pure): a form until the box is set up, then what state it is in. No script, no other host, no secret.

Everything that comes from outside is escaped. Readable on a phone; dark where the reader's system is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from gateway.setup_form import Form

MAX_SHOWN: Final = 60
_STATES: Final = {
    "live": ("live", "good"),
    "near": ("heard", "good"),
    "connecting": ("connecting", "warn"),
    "waiting": ("waits", "warn"),
    "lost": ("lost", "bad"),
    "refused": ("not taken", "soft"),
}
_STYLE: Final = Path(__file__).with_suffix(".css").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class BoxView:
    """What the page knows of a box that is set up. `hours_left` None: not known yet."""

    name: str
    uplink: str
    connected: bool
    trouble: str
    hours_left: float | None
    frames_owed: int
    clock_set: bool = True


def form_page(form: Form, devices: Sequence[Mapping[str, Any]]) -> str:
    """The form with what was typed and what is wrong with it."""
    about = "It sends what sensors say to your Paceline platform. The code is on its screen, or in its log."
    head = f'<h1>Set up this box</h1><p class="soft">{about}</p>'
    whole = f'<p class="wrong" role="alert">{escape(form.wrong[""])}</p>' if form.wrong.get("") else ""
    opened = " open" if form.values.get("ca_pem") or "ca_pem" in form.wrong else ""
    pem = escape(form.values.get("ca_pem", ""))
    fields = (
        _field(form, "code", "Code", 'autocomplete="off" autocapitalize="characters" spellcheck="false" required')
        + _field(
            form,
            "enrolment",
            "Enrolment code",
            'autocomplete="off" autocapitalize="none" spellcheck="false"',
            "the line that paceline node add printed; all below stays empty then",
        )
        + '<div class="two">'
        + _field(form, "host", "Broker", 'autocapitalize="none" spellcheck="false" inputmode="url"')
        + _field(form, "port", "Port", 'inputmode="numeric"')
        + "</div>"
        + f'<label><input type="checkbox" name="tls"{" checked" if "tls" in form.values else ""}>Encrypted (TLS)</label>'
        + f"<details{opened}><summary>The broker has a certificate of its own</summary>"
        + f'<label for="ca_pem">Its authority, as PEM{_wrong(form, "ca_pem")}</label>'
        + f'<textarea id="ca_pem" name="ca_pem" spellcheck="false">{pem}</textarea></details>'
        + _field(form, "tenant", "Gym", 'autocapitalize="none" spellcheck="false"', "its id on the platform")
        + _field(form, "node", "This box", 'autocapitalize="none" spellcheck="false"', "its id, or gym/box as the platform prints it")
        + _field(form, "password", "Password", 'type="password" autocomplete="off"', "printed by the platform with the id")
    )
    body = f'{head}<form class="panel" method="post" action="/">{whole}{fields}<button>Check and save</button></form>{_near(devices)}'
    return _page("Set up this box", body)


def state_page(view: BoxView, devices: Sequence[Mapping[str, Any]]) -> str:
    """What state the box is in; read only, and read again every ten seconds."""
    uplink = '<b class="good">up</b>' if view.connected else '<b class="bad">away</b>'
    hours = "not known yet" if view.hours_left is None else f"{view.hours_left:.1f} h at this rate"
    rows = [("Platform", uplink), ("Broker", escape(view.uplink)), ("Not sent yet", f"{view.frames_owed} frames"), ("Room for", hours)]
    if not view.clock_set:
        rows.append(("Clock", '<b class="bad">not set</b>'))
    shown = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    trouble = f'<p class="wrong">{escape(view.trouble)}</p>' if view.trouble else ""
    head = f'<h1>{escape(view.name)}</h1><p class="soft">This box is set up.</p>'
    state = f'<div class="panel"><h2>State</h2>{trouble}<dl>{shown}</dl></div>'
    return _page(view.name, head + state + _near(devices), refresh=True)


def done_page(*, stays: bool) -> str:
    """Between the set-up and the start. `stays`: the state is shown here from then on."""
    then = "Its state is shown here in a moment." if stays else "This page is closed now."
    return _page("Set up", f'<h1>Set up</h1><div class="panel"><p>The broker took it: this box starts. {then}</p></div>', refresh=stays)


def _field(form: Form, name: str, label: str, attributes: str, about: str = "") -> str:
    value = escape(form.values.get(name, ""))
    small = f"<small>{about}</small>" if about else ""
    invalid = ' aria-invalid="true"' if name in form.wrong else ""
    field = f'<input id="{name}" name="{name}" value="{value}" maxlength="256"{invalid} {attributes}>'
    return f'<div><label for="{name}">{label}{small}{_wrong(form, name)}</label>{field}</div>'


def _wrong(form: Form, name: str) -> str:
    return f'<span class="wrong" role="alert">{escape(form.wrong[name])}</span>' if name in form.wrong else ""


def _near(devices: Sequence[Mapping[str, Any]]) -> str:
    if not devices:
        return '<div class="panel"><h2>Near this box</h2><p class="soft">No sensor heard yet.</p></div>'
    rows = "".join(_device(device) for device in devices[:MAX_SHOWN])
    more = f"<li><small>and {len(devices) - MAX_SHOWN} more</small></li>" if len(devices) > MAX_SHOWN else ""
    return f'<div class="panel"><h2>Near this box ({len(devices)})</h2><ul>{rows}{more}</ul></div>'


def _device(device: Mapping[str, Any]) -> str:
    word, tone = _STATES.get(str(device.get("state")), ("", "soft"))
    facts = [", ".join(str(name).replace("_", " ") for name in device.get("profiles") or ()), str(device.get("device", ""))]
    if isinstance(rssi := device.get("rssi_dbm"), int):
        facts.append(f"{rssi} dBm")
    if isinstance(battery := device.get("battery_pct"), int):
        facts.append(f"battery {battery} %")
    facts.append(str(device.get("reason") or ""))
    name = escape(str(device.get("name") or device.get("device") or "?"))
    return f'<li><b>{name}</b><span class="{tone}">{word}</span><small>{escape(" · ".join(fact for fact in facts if fact))}</small></li>'


def _page(title: str, body: str, *, refresh: bool = False) -> str:
    again = '<meta http-equiv="refresh" content="10;url=/">' if refresh else ""
    view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    title = f"<title>{escape(title)} - Paceline</title>"
    head = f'<meta charset="utf-8">{view}{again}{title}<link rel="icon" href="data:,"><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'
