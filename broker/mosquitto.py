"""Configuration of a mosquitto (2.0 or newer) that holds the same rules as the embedded broker: who may connect, publish and read what.

`render_config` is pure; `write_config` puts the files in a folder. Needed wherever a broker listens on more than loopback. mosquitto checks
reads when it delivers, not when a client subscribes, so a foreign subscription is granted there and stays silent.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.errors import ConfigError
from broker.topics import NODE_PUBLISHES, NODE_READS, PLATFORM, ROOT, UPLOAD_NODE

CONFIG_NAME: Final = "mosquitto.conf"
ACL_NAME: Final = "acl"
PASSWORD_NAME: Final = "passwords"  # noqa: S105 - a file name
PLATFORM_USERS: Final = ("platform/ingest", "platform/control", "platform/gateway")
# Both are told as log_type information.
RUNNING: Final = " running\n"  # the end of the line mosquitto logs once it serves; until then a SIGHUP ends it
RELOADED: Final = "Reloading config"  # what mosquitto logs when it begins to read its files again


class TlsSettings(BaseModel):
    """Certificate of the listener. With `require_client_certificate` a client must hold one signed by `cafile`, besides its secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    certfile: Path
    keyfile: Path
    cafile: Path | None = None
    crlfile: Path | None = None  # the revoked, a list of each authority in `cafile`
    require_client_certificate: bool = False
    certificate_is_identity: bool = False  # the common name is the user name; no secret is asked and no password file read

    @model_validator(mode="after")
    def _complete(self) -> TlsSettings:
        if (self.require_client_certificate or self.certificate_is_identity) and self.cafile is None:
            raise ValueError("client certificates need cafile, the authority that signed them")
        if self.crlfile is not None and not self.require_client_certificate:
            raise ValueError("crlfile needs require_client_certificate: it lists client certificates")
        if self.certificate_is_identity and not self.require_client_certificate:
            raise ValueError("certificate_is_identity needs require_client_certificate")
        return self


class MosquittoSettings(BaseModel):
    """What differs from site to site. `directory` is where the files will lie; mosquitto wants absolute paths."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    directory: Path
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    tls: TlsSettings | None = None
    password_file: Path | None = None  # None: `passwords` in `directory`
    run_as: str = ""  # the account mosquitto changes to when root starts it; "" is its own default, which must be able to read the files
    platform_users: tuple[str, ...] = PLATFORM_USERS
    max_packet_bytes: int = Field(default=128 * 1024, ge=70_000, le=268_435_455)  # a client that sends more is disconnected
    max_queued_messages: int = Field(default=100_000, ge=1)
    max_connections: int = Field(default=-1, ge=-1)  # -1: as many as the process may open files
    memory_limit_bytes: int = Field(default=0, ge=0)  # 0: none; a node whose publish is refused keeps its spool and sends again
    persistence_directory: Path | None = None  # None: off; the spools of the nodes are the truth


def render_config(settings: MosquittoSettings) -> dict[str, str]:
    """The text of each file by name. ConfigError for a plain listener beyond loopback or a platform user that is none."""
    if settings.tls is None and not is_loopback(settings.host):
        raise ConfigError(
            f"broker.host: a listener on {settings.host} without TLS would send secrets in clear",
            cure="set tls.certfile and tls.keyfile, or listen on 127.0.0.1",
        )
    return {CONFIG_NAME: _render_main(settings), ACL_NAME: _render_acl(settings.platform_users)}


def write_config(settings: MosquittoSettings) -> Path:
    """Write the files into `settings.directory` and return the path of `mosquitto.conf`. A password file that is needed is made, empty."""
    files = render_config(settings)
    settings.directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        target = settings.directory / name
        target.write_text(text, encoding="utf-8")
        target.chmod(0o600)
    passwords = password_path(settings)
    by_certificate = settings.tls is not None and settings.tls.certificate_is_identity
    if not by_certificate and not passwords.exists():
        passwords.touch(mode=0o600)
    return settings.directory / CONFIG_NAME


def password_path(settings: MosquittoSettings) -> Path:
    """Where this broker reads its credentials (`broker/credentials.py` adds and removes them; SIGHUP makes mosquitto read them again)."""
    return settings.password_file or settings.directory / PASSWORD_NAME


def is_loopback(host: str) -> bool:
    """Whether `host` can only be reached from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _render_main(settings: MosquittoSettings) -> str:
    lines = [
        "# Made by `paceline broker config mosquitto`; change the settings and make it again.",
        f"listener {settings.port} {settings.host}",
        "protocol mqtt",
        f"max_connections {settings.max_connections}",
        "use_username_as_clientid true",
        *_tls_lines(settings.tls),
        "",
        "allow_anonymous false",
        *([] if settings.tls is not None and settings.tls.certificate_is_identity else [f"password_file {password_path(settings)}"]),
        f"acl_file {settings.directory / ACL_NAME}",
        "",
        f"max_packet_size {settings.max_packet_bytes}",
        "max_inflight_messages 1000",
        "# Not 0: with 0, 2.0.11 disconnects a client whose publish the ACL refuses. A full session drops its newest messages, and",
        "# memory_limit (0: none) bounds the process: what is refused or dropped the nodes still have in their spool and send again.",
        f"max_queued_messages {settings.max_queued_messages}",
        f"memory_limit {settings.memory_limit_bytes}",
        "set_tcp_nodelay true",
        *([f"user {settings.run_as}"] if settings.run_as else []),
        "sys_interval 0",
        *_persistence_lines(settings.persistence_directory),
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "",
    ]
    return "\n".join(lines)


def _tls_lines(tls: TlsSettings | None) -> list[str]:
    if tls is None:
        return []
    lines = [f"certfile {tls.certfile}", f"keyfile {tls.keyfile}", "tls_version tlsv1.2"]
    if tls.cafile is not None:
        lines.append(f"cafile {tls.cafile}")
    if tls.crlfile is not None:
        lines.append(f"crlfile {tls.crlfile}")
    if tls.require_client_certificate:
        lines.append("require_certificate true")
    if tls.certificate_is_identity:
        lines.append("use_identity_as_username true")
    return lines


def _persistence_lines(directory: Path | None) -> list[str]:
    if directory is None:
        return ["persistence false"]
    return ["persistence true", f"persistence_location {directory}/", "autosave_interval 60"]


def _render_acl(platform_users: tuple[str, ...]) -> str:
    lines = [f"# A node writes and reads its own leaves only; %u is its user name, tenant/node. The node name {UPLOAD_NODE} is reserved."]
    lines += [f"pattern deny {ROOT}/+/{UPLOAD_NODE}/#"]
    lines += [f"pattern write {ROOT}/%u/{leaf}" for leaf in NODE_PUBLISHES]
    lines += [f"pattern read {ROOT}/%u/{leaf}" for leaf in NODE_READS]
    for user in platform_users:
        if not user.startswith(f"{PLATFORM}/"):
            raise ConfigError(f"broker.platform_users: {user!r} is not platform/name", cure="use platform/ingest, platform/control ...")
        lines += ["", f"user {user}", f"topic deny {ROOT}/{PLATFORM}/#", f"topic deny {ROOT}/+/{UPLOAD_NODE}/#"]
        lines += [f"topic write {ROOT}/+/+/{leaf}" for leaf in NODE_READS]
        lines += [f"topic read {ROOT}/+/+/{leaf}" for leaf in (*NODE_PUBLISHES, *NODE_READS)]
    return "\n".join([*lines, ""])
