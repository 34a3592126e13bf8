"""`python -m tests.system.ingest_process PORT PASSWORD LOG [USER SHARE]`: one ingest process, for tests that kill it.

SIGTERM ends it in order. With SHARE it is one of several that divide the messages, each as a USER of its own.
"""

import asyncio
import signal
import sys

from processors.bulk_client import BulkSettings
from processors.ingest import IngestService
from processors.log import SqliteLog


async def main(port, password, path, user="platform/ingest", share=""):
    with SqliteLog.open(path) as log:
        service = IngestService(BulkSettings("127.0.0.1", port, user, password, retry_min_s=0.05, clean=bool(share)), log, share=share)
        task = asyncio.create_task(service.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
