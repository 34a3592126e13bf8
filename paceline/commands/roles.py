"""The role processes of the platform: `process`, `ingest`, `api`. `paceline run` starts them; scaled out, each runs where it belongs."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import read_settings, settings_options
from paceline.site import Site, open_site
from paceline.supervise import die_with_parent
from paceline.watched import run_watched


@click.command()
@click.argument("stage", type=click.Choice(["all", "live", "finish", "boards", "view"]), default="all")
@settings_options
def process(stage: str, config_file: Path | None, data: Path | None) -> None:
    """Run the platform: ingest, stages, stores, HTTP API and page, in one process.

    With a STAGE only a replica of that one, on Kafka: live, finish or boards; view keeps the state file that `paceline api` serves.

    \b
    Example:
      paceline process --data data
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 PACELINE_STAGES__REPLICA=a paceline process live --data data
    """
    if stage != "all":
        from paceline.stages import run_stage

        die_with_parent()
        run_stage(stage, read_settings(config_file, data, role=stage).settings)
        return
    from paceline.parts import platform_settings
    from processors.platform import run

    site = _site(config_file, data, "platform")
    run_watched("platform", site.settings, lambda watch: run(platform_settings(site), watch))


@click.command()
@settings_options
def ingest(config_file: Path | None, data: Path | None) -> None:
    """Run ingest alone: messages of the nodes into the log, then acks.

    \b
    Example:
      paceline ingest --data data
    """
    from paceline.parts import run_ingest

    site = _site(config_file, data, "ingest")
    run_watched(site.settings.ingest.name, site.settings, lambda watch: run_ingest(site, watch))


@click.command()
@settings_options
def api(config_file: Path | None, data: Path | None) -> None:
    """Serve the HTTP API and the page alone, from the state file in DATA.

    Without the rest of the platform in this process it knows no latency, and what the nodes say of themselves only with api.control.

    \b
    Example:
      paceline api --data data
    """
    from paceline.parts import run_api

    site = _site(config_file, data, "api")
    run_watched("api", site.settings, lambda watch: run_api(site, watch))


def _site(config_file: Path | None, data: Path | None, role: str) -> Site:
    die_with_parent()
    return open_site(read_settings(config_file, data, role=role).settings)
