"""The certificate authority of a platform: a root made at first use, nodes added, enrolled, renewed and revoked, servers certified.

The folder is 0700 and its files 0600: `book.db`, a key per root, and `published/` with what brokers read: the roots they trust and the
lists of the revoked. What is handed out is in the book first. One rule each:
- a code works once; the same code with the same key gives the same certificate again, for a node that lost the answer;
- a node that enrols anew ends its former certificates; a renewal does not, so that a link may live on with the old one;
- a renewal is proved by the key of a certificate of ours that is not revoked and expired no longer ago than the grace allows;
- a new root signs at once and the former ones stay trusted until `retire`; each root is vouched for by the one before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from broker.enrolment import CODE_CHARS, Denied, DeniedError, check_node_name, code_hash, fingerprint, new_code, renew_at_s
from broker.errors import ConfigError, StoreError
from broker.replace_file import replace_file
from paceline import ca_certificates as certificates
from paceline.ca_book import Book, Kept, Role, Root
from paceline.ca_rules import CaRules

ROOT_DAYS: Final = 3_650
MAX_FRESH: Final = 10
ROOTS_FILE: Final = "roots.pem"
REVOKED_FILE: Final = "revoked.pem"


class Authority:
    """`with Authority.open(folder, rules) as authority`. `clock_s` gives UTC seconds. StoreError when the folder cannot be used."""

    def __init__(self, folder: Path, book: Book, rules: CaRules, clock_s: Callable[[], float]) -> None:
        self._folder = folder
        self._book = book
        self._rules = rules
        self._clock_s = clock_s

    @classmethod
    def open(cls, folder: Path, rules: CaRules | None = None, clock_s: Callable[[], float] = time.time) -> Self:
        """Open it; the first time, make the folder and the first root."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            (folder / "published").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}", cure="give a folder you may write") from error
        authority = cls(folder, Book.open(folder / "book.db"), rules or CaRules(), clock_s)
        with authority._alone():
            if not authority._book.roots():
                authority._add_root()
        authority.publish()
        return authority

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._book.close()

    @property
    def book(self) -> Book:
        """What is known of every certificate; to read."""
        return self._book

    @property
    def rules(self) -> CaRules:
        return self._rules

    @property
    def roots_file(self) -> Path:
        """The roots a broker trusts now, PEM."""
        return self._folder / "published" / ROOTS_FILE

    @property
    def revoked_file(self) -> Path:
        """The lists of the revoked of these roots, PEM."""
        return self._folder / "published" / REVOKED_FILE

    def now_s(self) -> int:
        return int(self._clock_s())

    # -- nodes

    def add_node(self, name: str) -> tuple[str, str, int]:
        """Add `name` (`tenant/node`) or give it another code: (code, fingerprint of the root, when the code expires in UTC seconds).

        Certificates it has stay good until the code is used.
        """
        check_node_name(name)
        code, now_s = new_code(), self.now_s()
        expires_s = int(now_s + self._rules.code_hours * 3_600)
        with self._book.change():
            self._book.add_node(name, now_s)
            self._book.add_code(code_hash(code), name, expires_s)
        return code, self._signing_root().fingerprint, expires_s

    def enrol(self, code: str, request: str) -> Kept:
        """The certificate for a request and its code. DeniedError says why not."""
        digest = code_hash(code) if len(code) == CODE_CHARS else b""
        name, public = certificates.read_request(request)
        hashed = certificates.key_hash(public)
        now_s = self.now_s()
        with self._book.change():
            known = self._book.code(digest)
            if known is None:
                raise DeniedError(Denied.UNKNOWN_CODE, "code: not one of ours, or a newer one was given out for this node")
            if known.name != name:
                raise DeniedError(Denied.WRONG_NAME, f"request: it is for {name!r}, the code for {known.name!r}")
            if now_s >= known.expires_s:
                raise DeniedError(Denied.EXPIRED_CODE, f"code: expired {(now_s - known.expires_s) // 60} minutes ago")
            if known.serial is not None:
                before = self._book.certificate(known.serial)
                if before is None or before.key_hash != hashed or before.revoked_s is not None:
                    raise DeniedError(Denied.USED_CODE, "code: it was used before, with another key")
                return before  # the answer was lost: the same node asks again
            kept = self._issue(name, public, "node", certificates.life_from(now_s, self._rules.life_days))
            self._book.use_code(digest, kept.serial)
            self._book.supersede(name, now_s, but=kept.serial)
        self.publish()
        return kept

    def renew(self, shown: bytes | None, request: str) -> Kept:
        """The next certificate for a node that proved the key of `shown` (DER); asked again for the same key, the same.

        DeniedError says why not: also to one that has MAX_FRESH which are not due, so that no node fills the book.
        """
        self.check_shown(shown)  # who has none of ours costs the book nothing
        name, public = certificates.read_request(request)
        with self._book.change():
            before = self.check_shown(shown)  # it may have been revoked meanwhile, by another process
            if name != before.name:
                raise DeniedError(Denied.WRONG_NAME, f"request: it is for {name!r}, the certificate shown for {before.name!r}")
            fresh = [kept for kept in self._book.certificates(name, "node") if kept.revoked_s is None and not self.standing(kept)]
            same = [kept for kept in fresh if kept.key_hash == certificates.key_hash(public)]
            if same:
                return same[0]  # the answer was lost
            if len(fresh) >= MAX_FRESH:
                cure = "use the newest; if its key is lost, enrol with a new code of `paceline node add`"
                raise DeniedError(Denied.TOO_MANY, f"{name}: it has {len(fresh)} certificates that are not due for renewal", cure=cure)
            return self._issue(name, public, "node", certificates.life_from(self.now_s(), self._rules.life_days))

    def check_shown(self, shown: bytes | None) -> Kept:
        """The certificate a node showed in a handshake, if it may be renewed: ours, not revoked, in its life or in the grace after it."""
        if shown is None:
            raise DeniedError(Denied.NO_CERTIFICATE, "no certificate was shown")
        kept = self._book.certificate(certificates.serial_of(x509.load_der_x509_certificate(shown)))
        if kept is None or kept.der != shown or kept.role != "node":
            raise DeniedError(Denied.NOT_OURS, "the certificate shown is not one of a node of this authority")
        if kept.revoked_s is not None:
            raise DeniedError(Denied.REVOKED, f"{kept.name}: its certificate {kept.serial} was revoked")
        late_s = self.now_s() - kept.not_after_s
        if late_s > self._rules.grace_days * 86_400:
            raise DeniedError(Denied.EXPIRED, f"{kept.name}: its certificate expired {late_s // 86_400} days ago")
        return kept

    def standing(self, kept: Kept) -> str:
        """Why a node should ask for its next certificate now; empty: it need not."""
        if kept.root != self._signing_root().number:
            return "the authority has a new root"
        if self.now_s() >= renew_at_s(kept.not_before_s, kept.not_after_s):
            return "two thirds of its life are over"
        return ""

    def revoke(self, name: str) -> None:
        """End a node: its certificates are on the published list when this returns. ConfigError when there is none of this name."""
        with self._book.change():
            if self._book.node(name) is None:
                raise ConfigError(f"node {name!r} was never added", cure="`paceline node list` shows the names")
            self._book.revoke_node(name, self.now_s())
        self.publish()

    # -- servers, our own processes, probes

    def keep_server(self, path: Path, names: tuple[str, ...]) -> bool:
        """See that `path` holds key and chain of a server with these names that is not due for renewal; whether it was written.

        Names it has besides stay: parts of a platform on several machines may know a server by different ones.
        """
        held = _held(path)
        kept = self._book.certificate(certificates.serial_of(held)) if held is not None else None
        had = tuple(kept.name.split()) if kept is not None and kept.role == "server" else ()
        named = tuple(dict.fromkeys([*names, *had]))

        def fits(_held: x509.Certificate) -> bool:
            return set(names) <= set(had)

        def make(root: x509.Certificate, signing: certificates.Key, public: ec.EllipticCurvePublicKey) -> tuple[x509.Certificate, str]:
            life = certificates.life_from(self.now_s(), self._rules.life_days)
            return certificates.make_server(root, signing, named, public, life), " ".join(named)

        return self._keep(path, "server", fits, make)

    def keep_client(self, path: Path, name: str) -> bool:
        """See that `path` holds key and certificate of one of our own processes (`platform/...`); whether it was written."""
        role: Role = "platform" if name.startswith("platform/") else "node"

        def fits(held: x509.Certificate) -> bool:
            return certificates.common_name(held) == name

        def make(root: x509.Certificate, signing: certificates.Key, public: ec.EllipticCurvePublicKey) -> tuple[x509.Certificate, str]:
            life = certificates.life_from(self.now_s(), self._rules.life_days)
            return certificates.make_node(root, signing, name, public, life), name

        if role == "node":
            check_node_name(name)
            with self._book.change():
                if self._book.node(name) is None:
                    self._book.add_node(name, self.now_s())
        return self._keep(path, role, fits, make)

    def holds_until_s(self, path: Path) -> int:
        """When the certificate in a file ends, UTC seconds; 0 when there is none of ours."""
        held = _held(path)
        kept = self._book.certificate(certificates.serial_of(held)) if held is not None else None
        return kept.not_after_s if kept is not None else 0

    def probe(self, name: str, *, revoked: bool) -> bytes:
        """Key and certificate (PEM) in the name of `name` for five minutes; `revoked`: it is on the published list, to see that at work."""
        key = certificates.new_key()
        with self._book.change():
            life = certificates.Life(self.now_s() - certificates.EARLY_S, self.now_s() + 300)
            kept = self._issue(name, key.public_key(), "probe", life)
            if revoked:
                self._book.revoke(kept.serial, self.now_s())
        if revoked:
            self.publish()
        return certificates.key_pem(key) + self.chain(kept).encode()

    def chain(self, kept: Kept) -> str:
        """A certificate as it is handed out, PEM."""
        return certificates.pem_of(x509.load_der_x509_certificate(kept.der))

    # -- roots

    def roots(self) -> str:
        """The roots in force, PEM, the one that signs first."""
        found = [root for root in reversed(self._book.roots()) if root.state != "retired"]
        return "".join(certificates.pem_of(x509.load_der_x509_certificate(root.der)) for root in found)

    def all_roots(self) -> str:
        """Every root there ever was, PEM: by these the enrolment service knows a node that slept through a change of roots."""
        return "".join(certificates.pem_of(x509.load_der_x509_certificate(root.der)) for root in self._book.roots())

    def rotate(self) -> Root:
        """Make another root. It signs from now on; nodes learn it with their next certificate, which they are told to ask for."""
        with self._alone():
            if len([root for root in self._book.roots() if root.state != "retired"]) > 1:
                raise ConfigError("two roots are trusted already", cure="end that change first: `paceline node authority retire`")
            root = self._add_root()
        self.publish()
        return root

    def behind(self) -> list[str]:
        """Nodes whose newest certificate that still holds is of a former root."""
        signing, now_s = self._signing_root().number, self.now_s()
        newest = self._book.newest_of_nodes()
        return [name for name, kept in newest.items() if kept.root != signing and kept.revoked_s is None and kept.not_after_s > now_s]

    def retire(self, *, force: bool = False) -> None:
        """Trust only the newest root. ConfigError while nodes hold nothing of it, unless `force`: those renew before they can connect."""
        behind = self.behind()
        if behind and not force:
            some = ", ".join(behind[:5])
            raise ConfigError(
                f"{len(behind)} nodes have no certificate of the new root: {some}",
                cure="wait until they have asked (`paceline node list`), revoke them, or use --force: they renew when they come back",
            )
        with self._book.change():
            self._book.retire_roots()
        self.publish()

    def publish(self) -> bool:
        """Bring `published/` up to the book, if it is not; whether anything was written."""
        now_s = self.now_s()
        with self._alone(), self._book.change():
            trusted = [root for root in self._book.roots() if root.state != "retired"]
            listed = {root.number: self._book.revoked(root.number, now_s) for root in trusted}
            mark = f"# {hashlib.sha256(repr((trusted, listed)).encode()).hexdigest()}\n"
            if _begins_with(self.revoked_file, mark):
                return False
            number = self._book.next_number("revoked")
            lists = [
                certificates.make_revoked(x509.load_der_x509_certificate(root.der), self._key(root), listed[root.number], number, now_s)
                for root in trusted
            ]
            try:
                replace_file(self.roots_file, self.roots().encode())
                replace_file(self.revoked_file, (mark + "".join(lists)).encode())
            except OSError as error:
                raise StoreError(f"{self.revoked_file}: {error.strerror}", cure="give the disk room, and its owner the rights") from error
        return True

    # -- details

    def _signing_root(self) -> Root:
        return next(root for root in self._book.roots() if root.state == "signing")

    def _key(self, root: Root) -> certificates.Key:
        path = self._folder / f"root-{root.number}.key"
        try:
            return certificates.read_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: {error}", cure="restore the authority's folder from a backup: its book knows this root") from error

    def _add_root(self) -> Root:
        """Make a root and its key. The key is durable before the book names it."""
        known, now_s = self._book.roots(), self.now_s()
        number = len(known) + 1
        key = certificates.new_key()
        life = certificates.life_from(now_s, ROOT_DAYS)
        name = f"Paceline authority {number} {os.urandom(4).hex()}"
        der = certificates.der_of(certificates.make_root(key, name, life))
        vouched = None
        if known:
            last = known[-1]
            signer = (x509.load_der_x509_certificate(last.der), self._key(last))
            vouched = certificates.der_of(certificates.make_root(key, name, life, signer))
        root = Root(number, fingerprint(der), der, vouched, "signing", now_s)
        try:
            replace_file(self._folder / f"root-{number}.key", certificates.key_pem(key))
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror}", cure="give the disk room, and its owner the rights") from error
        with self._book.change():
            self._book.add_root(root)
        return root

    def _issue(self, name: str, public: ec.EllipticCurvePublicKey, role: Role, life: certificates.Life) -> Kept:
        """Make a client's certificate and keep it. Within a change of the book."""
        root = self._signing_root()
        made = certificates.make_node(x509.load_der_x509_certificate(root.der), self._key(root), name, public, life)
        return self._add(made, name, public, role, root)

    def _add(self, made: x509.Certificate, name: str, public: ec.EllipticCurvePublicKey, role: Role, root: Root) -> Kept:
        times = int(made.not_valid_before_utc.timestamp()), int(made.not_valid_after_utc.timestamp())
        serial, der = certificates.serial_of(made), certificates.der_of(made)
        kept = Kept(serial, name, role, root.number, certificates.key_hash(public), *times, None, der)
        self._book.add_certificate(kept)
        return kept

    def _keep(
        self,
        path: Path,
        role: Role,
        fits: Callable[[x509.Certificate], bool],
        make: Callable[[x509.Certificate, certificates.Key, ec.EllipticCurvePublicKey], tuple[x509.Certificate, str]],
    ) -> bool:
        with self._alone():
            held = _held(path)
            if held is not None and fits(held):
                kept = self._book.certificate(certificates.serial_of(held))
                if kept is not None and kept.revoked_s is None and not self.standing(kept):
                    return False
            key, root = certificates.new_key(), self._signing_root()
            with self._book.change():
                signing = x509.load_der_x509_certificate(root.der), self._key(root)
                made, name = make(*signing, key.public_key())
                self._add(made, name, key.public_key(), role, root)
            vouched = [
                certificates.pem_of(x509.load_der_x509_certificate(one.vouched)) for one in reversed(self._book.roots()) if one.vouched
            ]
            chain = certificates.pem_of(made) + ("".join(vouched) if role == "server" else "")
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(path, certificates.key_pem(key) + chain.encode())
            except OSError as error:
                raise StoreError(f"{path}: {error.strerror}", cure="give the disk room, and its owner the rights") from error
        return True

    @contextmanager
    def _alone(self) -> Generator[None]:
        """One process at a time: what is decided by looking at files."""
        with os.fdopen(os.open(self._folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _held(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _begins_with(path: Path, mark: str) -> bool:
    try:
        return path.read_text("ascii").startswith(mark)
    except OSError:
        return False
