"""`paceline topics`: the topics of the platform on Kafka, and who may read them."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import json_option, print_json, read_settings, settings_options


@click.group()
def topics() -> None:
    """Make the topics of the platform on Kafka what they should be.

    \b
    Example:
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 paceline topics apply --replication 3
    """


@topics.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """Print every topic with partitions, retention and the domain that reads it. Needs no Kafka.

    \b
    Example:
      paceline topics list --json
    """
    from broker.kafka_topics import all_topics

    rows = all_topics()
    if as_json:
        print_json([{"name": t.name, "domain": t.domain, "partitions": t.partitions, "config": t.config} for t in rows])
        return
    for topic in rows:
        click.echo(f"{topic.name:<32} {topic.domain:<8} {topic.partitions:>4} partitions  {topic.kept}")


@topics.command()
@json_option
@click.option("--of", type=click.IntRange(1, 64), required=True, help="How many parts the view has.")
@click.argument("tenants", nargs=-1, required=True)
def parts(*, as_json: bool, of: int, tenants: tuple[str, ...]) -> None:
    """Print in which part of the view (view.part) each of TENANTS is, for the table of a proxy. Needs no Kafka.

    \b
    Example:
      paceline topics parts gym club --of 4
    """
    from broker.view_part import ViewPart, number_of

    rows = {tenant: str(ViewPart(number_of(tenant, of), of)) for tenant in tenants}
    if as_json:
        print_json(rows)
        return
    for tenant, part in rows.items():
        click.echo(f"{tenant:<32} {part}")


@topics.command()
@settings_options
@json_option
@click.option("--replication", type=click.IntRange(1, 32), default=1, show_default=True, help="Copies of each new topic.")
@click.option("--dry-run", is_flag=True, help="Say what differs and change nothing; exit code 1 when something does.")
@click.option(
    "--reader", "readers", multiple=True, metavar="DOMAIN=USER", help="Let USER read the topics of DOMAIN; groups must begin with DOMAIN."
)
@click.option(
    "--log-ins",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Let each reader log in (SCRAM-SHA-512) with the password in FOLDER/USER, which is drawn if it is missing.",
)
@click.option("--writer", default="", metavar="USER", help="Let USER, that of the publisher and of ingest, write them.")
def apply(
    *, config_file: Path | None, data: Path | None, as_json: bool, replication: int, dry_run: bool, readers: tuple[str, ...],
    log_ins: Path | None, writer: str,
) -> int:  # fmt: skip
    """Create topics that are missing and set what is configured otherwise. Run it as often as you like.

    \b
    Example:
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 paceline topics apply --reader social=social-team --reader promo=shop --log-ins secrets
    """
    from broker.kafka_topics import all_topics
    from paceline.shared_secrets import drawn
    from processors.kafka_admin import KafkaAdmin

    wanted = all_topics()
    allowed = [_reader(text, {t.domain for t in wanted}) for text in readers]
    admin = KafkaAdmin(read_settings(config_file, data).settings.kafka)
    changes = admin.differences(wanted, replication) if dry_run else admin.apply(wanted, replication)
    if not dry_run:
        for domain, user in allowed:
            admin.allow_read(f"User:{user}", [t for t in wanted if t.domain == domain], domain)
            if log_ins is not None:
                admin.let_log_in(user, drawn(log_ins / user))
        if writer:
            admin.allow_write(f"User:{writer}", wanted)
    if as_json:
        print_json([{"topic": c.topic, "what": c.what} for c in changes])
    else:
        for change in changes:
            click.echo(f"{change.topic:<32} {change.what}")
        click.echo(f"{len(changes)} {'differences' if dry_run else 'changes'} in {len(wanted)} topics")
    return 1 if dry_run and changes else 0


def _reader(text: str, domains: set[str]) -> tuple[str, str]:
    domain, _, user = text.partition("=")
    if domain not in domains or not user or "/" in user:
        raise click.UsageError(f"--reader {text!r}: write DOMAIN=USER with one of {', '.join(sorted(domains))}")
    return domain, user
