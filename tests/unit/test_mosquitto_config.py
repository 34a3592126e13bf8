"""The mosquitto configuration as text; what a real mosquitto makes of it is in the broker contract."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.errors import ConfigError
from broker.mosquitto import ACL_NAME, CONFIG_NAME, MosquittoSettings, TlsSettings, is_loopback, render_config, write_config
from broker.topics import LEAVES, NODE_PUBLISHES, NODE_READS

TLS = TlsSettings(certfile=Path("/pki/server.crt"), keyfile=Path("/pki/server.key"))


def lines_of(settings: MosquittoSettings, name: str = CONFIG_NAME) -> list[str]:
    return render_config(settings)[name].splitlines()


def test_every_safe_setting_is_there() -> None:
    lines = lines_of(MosquittoSettings(directory=Path("/etc/paceline")))
    for line in (
        "listener 1883 127.0.0.1",
        "allow_anonymous false",
        "use_username_as_clientid true",
        "password_file /etc/paceline/passwords",
        "acl_file /etc/paceline/acl",
        "max_packet_size 131072",
        "max_inflight_messages 1000",
        "set_tcp_nodelay true",
        "sys_interval 0",
        "persistence false",
    ):
        assert line in lines
    assert not any(line.startswith(("certfile", "cafile", "user ")) for line in lines)


def test_tls_and_client_certificates() -> None:
    tls = TLS.model_copy(update={"cafile": Path("/pki/ca.crt"), "require_client_certificate": True, "certificate_is_identity": True})
    lines = lines_of(MosquittoSettings(directory=Path("/d"), host="0.0.0.0", port=8883, tls=tls))
    for line in (
        "certfile /pki/server.crt",
        "keyfile /pki/server.key",
        "cafile /pki/ca.crt",
        "require_certificate true",
        "use_identity_as_username true",
    ):
        assert line in lines
    assert lines.index("listener 8883 0.0.0.0") < lines.index("certfile /pki/server.crt")


def test_persistence_is_a_choice() -> None:
    lines = lines_of(MosquittoSettings(directory=Path("/d"), persistence_directory=Path("/var/lib/broker")))
    assert "persistence_location /var/lib/broker/" in lines
    assert "persistence false" not in lines


def test_acl_has_a_line_for_every_leaf_and_side() -> None:
    acl = lines_of(MosquittoSettings(directory=Path("/d"), platform_users=("platform/ingest",)), ACL_NAME)
    for leaf in LEAVES:
        assert (f"pattern write pl/1/%u/{leaf}" in acl) == (leaf in NODE_PUBLISHES)
        assert (f"pattern read pl/1/%u/{leaf}" in acl) == (leaf in NODE_READS)
        assert (f"topic write pl/1/+/+/{leaf}" in acl) == (leaf in NODE_READS)
        assert f"topic read pl/1/+/+/{leaf}" in acl
    assert acl.index("user platform/ingest") > max(i for i, line in enumerate(acl) if line.startswith("pattern"))


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "gym.example"])
def test_a_plain_listener_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="clear") as caught:
        render_config(MosquittoSettings(directory=Path("/d"), host=host))
    assert "tls" in caught.value.cure


def test_a_platform_user_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="gym/box"):
        render_config(MosquittoSettings(directory=Path("/d"), platform_users=("gym/box",)))


def test_client_certificates_need_their_authority() -> None:
    with pytest.raises(ValidationError, match="cafile"):
        TlsSettings(certfile=Path("c"), keyfile=Path("k"), require_client_certificate=True)
    with pytest.raises(ValidationError, match="require_client_certificate"):
        TlsSettings(certfile=Path("c"), keyfile=Path("k"), cafile=Path("a"), certificate_is_identity=True)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="anonymous"):
        MosquittoSettings.model_validate({"directory": "/d", "anonymous": True})


def test_files_are_written_for_the_owner_only_and_credentials_kept(tmp_path: Path) -> None:
    settings = MosquittoSettings(directory=tmp_path / "broker")
    assert write_config(settings) == tmp_path / "broker" / CONFIG_NAME
    passwords = tmp_path / "broker" / "passwords"
    passwords.write_text("kept\n")
    write_config(settings)
    assert passwords.read_text() == "kept\n"
    for name in (CONFIG_NAME, ACL_NAME, "passwords"):
        assert stat.S_IMODE((tmp_path / "broker" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_documented_example_is_what_is_generated() -> None:
    tls = TlsSettings(certfile=Path("/etc/paceline/tls/server.crt"), keyfile=Path("/etc/paceline/tls/server.key"))
    settings = MosquittoSettings(
        directory=Path("/etc/paceline/broker"), host="0.0.0.0", port=8883, platform_users=("platform/ingest",), tls=tls
    )
    page = (Path(__file__).parents[2] / "docs" / "brokers.md").read_text()
    for text in render_config(settings).values():
        assert f"```conf\n{text}```" in page
