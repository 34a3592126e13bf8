"""What a box is told at its set-up: the broker of its platform, and who it is there. Kept in `uplink.json` of the data folder, mode 0600.

Replaced durably and whole or not at all. An authority of its own (PEM) lies in `uplink-ca.pem` beside it, written first. An enrolled box
has no password: its identity lies in the folder `identity` beside it (`gateway/identity.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from broker.errors import ConfigError, StoreError
from broker.replace_file import replace_file
from gateway.identity import Identity
from gateway.settings import Host, Node, Tenant, UplinkBroker

FILE: Final = "uplink.json"
CA_FILE: Final = "uplink-ca.pem"
IDENTITY_FOLDER: Final = "identity"
MAX_CA_CHARS: Final = 16_000


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) > 256 or not text.isprintable():
        raise ValueError("give the password that the platform printed for this box")
    return value


def _pem(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if text and not (text.startswith("-----BEGIN CERTIFICATE-----") and text.endswith("-----END CERTIFICATE-----")):
        raise ValueError("paste the whole certificate, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----")
    return f"{text}\n" if text else ""


class BoxCredential(BaseModel):
    """Broker, tenant, node and password of one box. `ca_pem` empty: the system's certificates. `enrolled`: known by its certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: Host
    port: int = Field(ge=1, le=65_535)
    tls: bool = True
    tenant: Tenant
    node: Node
    enrolled: bool = False
    password: Annotated[SecretStr, AfterValidator(_secret)] = Field(default=SecretStr(""), validate_default=True)
    ca_pem: Annotated[str, Field(max_length=MAX_CA_CHARS), AfterValidator(_pem)] = ""

    @property
    def username(self) -> str:
        """User name and client id on the broker."""
        return f"{self.tenant}/{self.node}"

    def broker(self, data_dir: Path) -> UplinkBroker:
        """The broker as the gateway's settings have it."""
        if self.enrolled:
            return UplinkBroker(host=self.host, port=self.port, tls=True, identity=data_dir / IDENTITY_FOLDER)
        return UplinkBroker(host=self.host, port=self.port, tls=self.tls, ca_file=data_dir / CA_FILE if self.tls and self.ca_pem else None)

    @field_validator("password")
    @classmethod
    def _given(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if not value.get_secret_value() and not info.data.get("enrolled"):
            raise ValueError("give the password that the platform printed for this box")
        return value

    @field_serializer("password")
    def _told(self, value: SecretStr) -> str:
        return value.get_secret_value()


def credential_of_identity(identity: Identity) -> BoxCredential:
    """The credential of a box that is enrolled."""
    place = identity.place
    return BoxCredential(host=place.host, port=place.port, tenant=place.tenant, node=place.node, enrolled=True)


def load_credential(data_dir: Path) -> BoxCredential | None:
    """What was saved, None before the set-up. ConfigError when it cannot be read."""
    path = data_dir / FILE
    cure = f"remove {path} and set the box up again"
    try:
        return BoxCredential.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="let the user of the gateway read it") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise ConfigError(f"{path}: {field}: {first['msg']}", cure=cure) from error


def save_credential(data_dir: Path, credential: BoxCredential) -> None:
    """Keep it durably. StoreError when the disk does not let us: what was there before still is."""
    try:
        if credential.ca_pem:
            replace_file(data_dir / CA_FILE, credential.ca_pem.encode())
        replace_file(data_dir / FILE, credential.model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        raise StoreError(
            f"{data_dir / FILE}: {error.strerror}", cure="give the data folder room, and to the user of the gateway"
        ) from error
