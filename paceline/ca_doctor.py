"""What `paceline doctor` says of certificates: the authority, servers, nodes that are behind, the mosquitto. Changes nothing."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Final

from broker.errors import ConfigError, PacelineError
from broker.mosquitto import is_loopback
from paceline.ca_authority import Authority
from paceline.doctor import Finding
from paceline.mosquitto_keeper import find_mosquitto
from paceline.site import Site
from paceline.site_identity import open_authority, server_file, standings

SOON_S: Final = 14 * 86_400  # a renewal is two months late by then, with the lives we give


def identity_findings(site: Site) -> list[Finding]:
    """Findings of a site whose central broker goes by certificates; none for one that goes by passwords, or that never ran."""
    if not site.settings.central.by_certificate or not (site.secrets / "authority" / "book.db").exists():
        return []
    found = [_program(site), _names(site)]
    try:
        with open_authority(site) as authority:
            found += [_folder(site), _roots(authority), _nodes(authority)]
            found += [_server(authority, server_file(site, name), name) for name in ("central", "enrol")]
    except PacelineError as error:
        found.append(Finding("authority", ok=False, found=error.message, cure=error.cure))
    return [finding for finding in found if finding is not None]


def _program(site: Site) -> Finding | None:
    central = site.settings.central
    if central.kind != "mosquitto":
        return None
    try:
        return Finding("mosquitto", ok=True, found=str(find_mosquitto(Path(central.program) if central.program else None)))
    except ConfigError as error:
        return Finding("mosquitto", ok=False, found=error.message, cure=error.cure)


def _names(site: Site) -> Finding:
    settings = site.settings
    lonely = not settings.identity.names and not is_loopback(settings.central.host)
    found = ", ".join(settings.identity.names) or "none: nodes on this machine only"
    return Finding("identity names", not lonely, found, "set identity.names to the name by which nodes reach this platform")


def _folder(site: Site) -> Finding:
    folder = site.secrets / "authority"
    loose = [path.name for path in (folder, *folder.iterdir()) if path.stat().st_mode & 0o077]
    said = f"others may read {', '.join(loose[:3])}" if loose else "its owner's only; is it in the backup?"
    return Finding("authority", not loose, said, f"chmod -R go= {folder}")


def _roots(authority: Authority) -> Finding:
    trusted, behind = authority.roots().count("BEGIN CERTIFICATE"), authority.behind()
    if trusted == 1:
        return Finding("roots", ok=True, found="one")
    said = f"{trusted} are trusted; {len(behind)} nodes are behind"
    return Finding("roots", ok=True, found=said if behind else f"{said}: `paceline node authority retire` may end the change")


def _nodes(authority: Authority) -> Finding:
    rows = standings(authority)
    counts = Counter(row.state for row in rows)
    now_s = authority.now_s()
    late = [row.name for row in rows if row.state == "expired" or (row.state.startswith("enrolled") and row.until_s - now_s < SOON_S)]
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"
    late_said = f"{said}; not renewed: {', '.join(late[:5])}" if late else said
    return Finding("nodes", not late, late_said, "are they switched on, and do they reach the enrolment service? their log says")


def _server(authority: Authority, path: Path, name: str) -> Finding:
    until_s = authority.holds_until_s(path)
    left_days = (until_s - authority.now_s()) / 86_400
    said = f"until {time.strftime('%Y-%m-%d', time.gmtime(until_s))}" if until_s else f"{path}: none there"
    return Finding(f"certificate {name}", left_days > 0, said, "start `paceline run`: its enrolment service keeps it fresh")
