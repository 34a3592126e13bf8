"""Real brokers for tests: mosquitto and the embedded one, each as its own process on loopback, plain or with TLS.

    async with start_mosquitto(tmp_path, users=("gym/box1", "platform/ingest"), tls=True) as broker:
        broker.port, broker.password("gym/box1"), broker.cafile
        await broker.kill(); await broker.start()     # kill -9, and again on the same port

Every server is ended by its own process id. A port is bound once to find a free one; a lost race is retried with another.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.credentials import add_user, hash_secret, new_secret, write_passwords
from broker.embedded import EmbeddedSettings
from broker.mosquitto import RELOADED, RUNNING, MosquittoSettings, TlsSettings, password_path, write_config
from paceline.supervise import free_port
from tests import debian_packages
from tests.debian_packages import ServerUnavailableError, find_or_unpack, library_environment

PROJECT = debian_packages.PROJECT
START_TIMEOUT_S = 60.0


def find_or_install_mosquitto() -> Path:
    """The mosquitto binary: the system's, or the Debian package unpacked into `.cache/tools` (no root, nothing of the system changes)."""
    for place in (shutil.which("mosquitto"), "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"):
        if place and Path(place).exists():
            return Path(place)
    return find_or_unpack("mosquitto", "usr/sbin/mosquitto", ("mosquitto",))


@dataclass(frozen=True, slots=True)
class Certificates:
    """A throw-away authority, a server certificate for localhost, and a client certificate whose common name is a user name."""

    cafile: Path
    certfile: Path
    keyfile: Path


def make_certificates(folder: Path, *, name: str = "localhost") -> Certificates:
    """Make them with the openssl command (elliptic curve: fast)."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ServerUnavailableError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    if not (folder / "ca.crt").exists():
        ca = (
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            "/CN=Paceline test authority",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        openssl("req", "-x509", *curve, *ca)
    stem = name.replace("/", "_")
    openssl("req", *curve[:-2], "-keyout", f"{stem}.key", "-out", f"{stem}.csr", "-subj", f"/CN={name.replace('/', chr(92) + '/')}")
    openssl(
        "x509",
        "-req",
        "-in",
        f"{stem}.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        "ext",
        "-out",
        f"{stem}.crt",
    )
    return Certificates(folder / "ca.crt", folder / f"{stem}.crt", folder / f"{stem}.key")


@dataclass(slots=True)
class ServedBroker:
    """A broker process with its credentials. `command(port)` gives the command line; the process can be killed and started again."""

    kind: str
    command: Callable[[int], Sequence[str]]
    environment: dict[str, str]
    password_file: Path
    log_path: Path
    port: int
    host: str = "127.0.0.1"
    cafile: Path | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def password(self, user: str) -> str:
        return self.secrets[user]

    def tls_context(self) -> ssl.SSLContext | None:
        """The context a client needs, None on a plain listener."""
        return None if self.cafile is None else ssl.create_default_context(cafile=str(self.cafile))

    async def start(self) -> None:
        """Start the process and wait until it listens; a mosquitto until it says that it runs, for before that a SIGHUP ends it."""
        runs = self._said(RUNNING)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command(self.port), stdout=log, stderr=log, env=self.environment, cwd=PROJECT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._listens() or (self._tells and self._said(RUNNING) == runs):
            if self.process.poll() is not None or time.monotonic() > deadline:
                code = self.process.poll()
                await self.kill()
                raise ServerUnavailableError(f"{self.kind} did not start on port {self.port} (exit {code}):\n{self.log()}")
            await asyncio.sleep(0.02)

    async def stop(self) -> int:
        """SIGTERM, and wait: the exit code. SIGKILL after 60 s."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """SIGKILL, and wait."""
        return await self._end(signal.SIGKILL)

    async def add_user(self, user: str) -> str:
        """A new credential in the running broker."""
        self.secrets[user] = add_user(self.password_file, user)
        if self.kind.startswith("mosquitto") and self.process is not None:
            await asyncio.to_thread(self.reload)
        return self.secrets[user]

    def reload(self) -> None:
        """Let a running mosquitto read its password and ACL files again: what is sent after this meets the new ones."""
        assert self.process is not None
        before = self._said(RELOADED)
        deadline, again_s = time.monotonic() + START_TIMEOUT_S, 0.0
        while self._said(RELOADED) == before:
            if time.monotonic() >= again_s:  # one that comes while it still reads for the one before is lost
                self.process.send_signal(signal.SIGHUP)
                again_s = time.monotonic() + 2.0
            if time.monotonic() > deadline:
                raise ServerUnavailableError(f"{self.kind} did not read its files again:\n{self.log()}")
            time.sleep(0.01)

    @property
    def _tells(self) -> bool:
        """Whether its log says when it runs."""
        return self.kind.startswith("mosquitto")

    def _said(self, words: str) -> int:
        return self.log_path.read_bytes().count(words.encode()) if self.log_path.exists() else 0

    def log(self) -> str:
        """The end of what the process wrote."""
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else ""

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS"))

    def cpu_s(self) -> float:
        """CPU seconds the process has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    async def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        return 0 if process is None else await end_process(process, number)


async def end_process(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send a signal and wait: the exit code. SIGKILL after 60 s."""
    if process.poll() is None:
        process.send_signal(number)
    deadline = time.monotonic() + 60
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        await asyncio.sleep(0.01)
    return process.wait()


def write_users(password_file: Path, users: Sequence[str]) -> dict[str, str]:
    """Give every user a new secret, in one write."""
    made = {user: new_secret() for user in users}
    write_passwords(password_file, {user: hash_secret(secret) for user, secret in made.items()})
    return made


@asynccontextmanager
async def start_mosquitto(
    folder: Path, *, users: Sequence[str] = (), tls: bool = False, extra_config: str = ""
) -> AsyncIterator[ServedBroker]:
    """A mosquitto with our generated configuration. Users below `platform/` get the platform side of the ACL."""
    binary = find_or_install_mosquitto()
    home = folder / ("mosquitto-tls" if tls else "mosquitto")
    certificates = make_certificates(home / "tls") if tls else None
    platform = tuple(user for user in users if user.startswith("platform/"))

    def settings(port: int) -> MosquittoSettings:
        part = TlsSettings(certfile=certificates.certfile, keyfile=certificates.keyfile) if certificates else None
        run_as = "root" if os.geteuid() == 0 else ""  # else mosquitto gives up root and cannot read our files
        return MosquittoSettings(directory=home, port=port, tls=part, platform_users=platform, run_as=run_as)

    def command(port: int) -> Sequence[str]:
        path = write_config(settings(port))
        path.write_text(f"{path.read_text()}{extra_config}")
        return [str(binary), "-c", str(path)]

    port = free_port()
    password_file = password_path(settings(port))
    served = ServedBroker(
        kind="mosquitto-tls" if tls else "mosquitto",
        command=command,
        environment=library_environment(binary),
        password_file=password_file,
        log_path=home / "log",
        port=port,
        cafile=certificates.cafile if certificates else None,
        secrets=write_users(password_file, users),
    )
    async with _running(served):
        yield served


@asynccontextmanager
async def start_mosquitto_by_certificate(folder: Path) -> AsyncIterator[ServedBroker]:
    """A mosquitto that knows clients by the common names of their certificates and by nothing else; `platform/ingest` is the platform's.

    Its authority and certificates are in `folder / "tls"`, where `make_certificates` makes more.
    """
    binary = find_or_install_mosquitto()
    server = make_certificates(folder / "tls")
    tls = TlsSettings(
        certfile=server.certfile,
        keyfile=server.keyfile,
        cafile=server.cafile,
        require_client_certificate=True,
        certificate_is_identity=True,
    )

    def settings(port: int) -> MosquittoSettings:
        run_as = "root" if os.geteuid() == 0 else ""
        return MosquittoSettings(directory=folder / "home", port=port, tls=tls, platform_users=("platform/ingest",), run_as=run_as)

    port = free_port()
    served = ServedBroker(
        kind="mosquitto-tls",
        command=lambda p: [str(binary), "-c", str(write_config(settings(p)))],
        environment=library_environment(binary),
        password_file=password_path(settings(port)),
        log_path=folder / "log",
        port=port,
        cafile=server.cafile,
    )
    write_config(settings(port))  # makes the folder
    async with _running(served):
        yield served


@asynccontextmanager
async def start_amqtt(folder: Path, *, users: Sequence[str] = (), **settings: object) -> AsyncIterator[ServedBroker]:
    """The embedded broker in its own process. `settings` are further fields of `EmbeddedSettings`."""
    home = folder / "amqtt"
    home.mkdir(parents=True, exist_ok=True)
    password_file = home / "passwords"
    script = (
        "import sys; from broker.embedded import EmbeddedSettings, run; sys.exit(run(EmbeddedSettings.model_validate_json(sys.argv[1])))"
    )

    def command(port: int) -> Sequence[str]:
        chosen = EmbeddedSettings.model_validate({"port": port, "password_file": password_file, **settings})
        return [sys.executable, "-c", script, chosen.model_dump_json()]

    served = ServedBroker(
        kind="amqtt",
        command=command,
        environment=dict(os.environ),
        password_file=password_file,
        log_path=home / "log",
        port=free_port(),
        secrets=write_users(password_file, users),
    )
    async with _running(served):
        yield served


@asynccontextmanager
async def _running(served: ServedBroker) -> AsyncIterator[None]:
    for attempt in range(5):
        try:
            await served.start()
            break
        except ServerUnavailableError:
            if attempt == 4 or "ddress already in use" not in served.log():
                raise
            served.port = free_port()
    try:
        yield
    finally:
        await served.stop()
