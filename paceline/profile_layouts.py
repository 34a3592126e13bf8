"""Whether the samples of a profile fit the layouts of the wire: profiles know nothing of `broker`, so this is checked here."""

from __future__ import annotations

from collections.abc import Iterator

from broker.errors import PacelineError
from broker.layouts import layout_named
from device_profiles.profile import Profile


def misfits(profile: Profile) -> Iterator[str]:
    """What does not fit, one sentence each."""
    for rule in profile.samples:
        try:
            layout = layout_named(rule.layout)
        except PacelineError as error:
            yield f"{profile.file}: {profile.name}.samples: {error.message}"
            continue
        has = {field.name for field in layout.fields[1:]}
        given = [*rule.constants, *(to for to, _ in rule.sources), *([rule.each.to] if rule.each else [])]
        for name in given:
            if name not in has:
                yield f"{profile.file}: {profile.name}.samples: {rule.layout} has no field {name!r}; it has {', '.join(sorted(has))}"
