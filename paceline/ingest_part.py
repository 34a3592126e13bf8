"""Wiring of `paceline ingest`: as whom it reads the broker, and which log it writes: the file of the site, or Kafka where the settings
name one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from broker.errors import StoreError
from paceline.site import Site, client_files

if TYPE_CHECKING:
    from processors.bulk_client import BulkSettings
    from processors.log import Appender

_log = logging.getLogger(__name__)
AGAIN_S: Final = 2.0


def ingest_link(site: Site) -> BulkSettings:
    """How it reads the central broker.

    A sharer keeps no session there: what the broker would hold for one that is gone is better sent again by the nodes, to the others.
    """
    from processors.bulk_client import BulkSettings

    central, own = site.settings.central, site.settings.ingest
    files = client_files(site, site.ingest_user)
    password = own.password.get_secret_value() or site.secret("central", site.ingest_user)
    link = BulkSettings(central.link_host, central.port, site.ingest_user, password, clean=bool(own.share))
    return link if files is None else replace(link, tls=files.context, trusted=files.must_be_of)


@asynccontextmanager
async def open_appender(site: Site) -> AsyncGenerator[Appender]:
    """The log to write. A Kafka is waited for until its topics are right: nothing is taken from the broker before it can be stored."""
    if not site.settings.kafka.bootstrap:
        from processors.log import SqliteLog

        with SqliteLog.open(site.log_db) as log:
            yield log
        return
    from processors.kafka_log import KafkaLog

    with KafkaLog(site.settings.kafka) as log:
        said = ""
        while True:
            try:
                await asyncio.to_thread(log.check)
            except StoreError as error:
                if str(error) != said:
                    _log.error("nothing is taken until the log can be written: %s", error)
                said = str(error)
                await asyncio.sleep(AGAIN_S)
            else:
                break
        _log.info("the log is on kafka %s", site.settings.kafka.bootstrap)
        yield log
