"""Prints each new leader of a segment, as another team learns of it: `python examples/consumer.py localhost:9094 social PASSWORD_FILE`."""

import asyncio
import json
import sys
from pathlib import Path

from aiokafka import AIOKafkaConsumer


async def main(bootstrap: str, user: str, password: str) -> None:
    consumer = AIOKafkaConsumer(
        "paceline.social.board.v1", bootstrap_servers=bootstrap, group_id="social-leaders", auto_offset_reset="earliest",
        security_protocol="SASL_PLAINTEXT",  # SASL_SSL where the network is not yours
        sasl_mechanism="SCRAM-SHA-512", sasl_plain_username=user, sasl_plain_password=password,
    )  # fmt: skip
    known: set[bytes] = set()  # delivery is at least once: an id that is known is a repeat. Keep them as long as the topic is kept
    async with consumer:
        async for record in consumer:
            headers = dict(record.headers)
            if headers["ce_type"] == b"paceline.social.board.lead_taken.v1" and headers["ce_id"] not in known:
                known.add(headers["ce_id"])
                event = json.loads(record.value)
                print(f"{event['board']}: {event['leader']['subject']} leads with {event['leader']['elapsed_ms'] / 1000:.3f} s", flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text()))
