"""The form of the set-up page (pure): what was typed becomes a credential, or one sentence for each field that is wrong.

Never repeats a password. Bounded by the body the server takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from pydantic import ValidationError

from gateway.setup_credential import BoxCredential

FIELDS: Final = ("code", "enrolment", "host", "port", "tls", "ca_pem", "tenant", "node", "password")
_KEPT: Final = ("code", "enrolment", "host", "port", "tls", "ca_pem", "tenant", "node")
_SAYS: Final = {
    "host": "give the name or address of the platform's broker",
    "port": "a port is a number from 1 to 65535: 8883 with TLS as a rule",
    "tenant": "the gym's id: 1-32 of a-z 0-9 . _ - starting with a letter or digit",
    "node": "this box's id: 1-32 of a-z 0-9 . _ - starting with a letter or digit",
    "password": "give the password that the platform printed for this box",
    "ca_pem": "paste the whole certificate, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
}


@dataclass(frozen=True, slots=True)
class Form:
    """What the page shows in its fields, and what is wrong with them (`""`: with the whole)."""

    values: dict[str, str] = field(default_factory=lambda: {"port": "8883", "tls": "on"})
    wrong: dict[str, str] = field(default_factory=dict[str, str])


def typed(body: bytes) -> dict[str, str]:
    """The fields of a form as a browser sends it; unknown ones are left out, spaces at the ends too."""
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=2 * len(FIELDS))
    except ValueError:
        return {}
    return {name: value.strip() for name, value in pairs if name in FIELDS}


def credential_of(values: dict[str, str]) -> BoxCredential | Form:
    """The credential that was typed, or the form again with what is wrong."""
    tenant, slash, node = values.get("node", "").partition("/")  # the platform prints tenant/node: whoever pastes it whole is right
    whole = slash and values.get("tenant", "") in {"", tenant}
    fields = {**values, "tenant": tenant, "node": node} if whole else values
    try:
        return BoxCredential.model_validate(
            {name: fields.get(name, "") for name in ("host", "port", "tenant", "node", "password", "ca_pem")} | {"tls": "tls" in fields}
        )
    except ValidationError as error:
        wrong = {str(e["loc"][0]): _SAYS.get(str(e["loc"][0]), e["msg"]) for e in error.errors(include_input=False)}
        return again(values, wrong)


def again(values: dict[str, str], wrong: dict[str, str]) -> Form:
    """The form as it was typed, without the password."""
    return Form({name: values[name] for name in _KEPT if name in values}, wrong)
