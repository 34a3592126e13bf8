"""Several ingest processes share the messages of one mosquitto: each message goes to one of them, and a killed one costs nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from broker.bundles import encode_bundle
from processors.log import SqliteLog
from tests.mqtt_client import PahoClient
from tests.servers import PROJECT, ServedBroker, start_mosquitto
from tests.system.ingest_node import ResendingNode
from tests.system.test_ingest import row, rows, until

MEMBERS = ("platform/ingest-1", "platform/ingest-2", "platform/ingest-3")
NODES = ("gym/box1", "gym/box2", "gym/box3")


class Member:
    """One of the processes, with a log of its own, so that it shows what it was given."""

    def __init__(self, broker: ServedBroker, user: str, folder: Path) -> None:
        self.user = user
        self.log_db = folder / f"{user.rpartition('/')[2]}.db"
        self._command = [sys.executable, "-m", "tests.system.ingest_process", str(broker.port), broker.password(user), str(self.log_db)]
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen([*self._command, self.user, "ingest"], cwd=PROJECT)
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def stored(self) -> int:
        """Frames in its log so far."""
        if not self.log_db.exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.log_db}?mode=ro", uri=True)) as db:
            try:
                return int(db.execute("SELECT coalesce(sum(count), 0) FROM block").fetchone()[0])
            except sqlite3.OperationalError:  # its tables are being made
                return 0

    def bodies(self) -> list[bytes]:
        with SqliteLog.open(self.log_db) as log:
            return [record.body for record in log.read(0, 10**6)[1]]


async def subscribed(broker: ServedBroker, members: list[Member]) -> None:
    await until(lambda: all(f"Sending SUBACK to {member.user}" in broker.log_path.read_text() for member in members))


async def test_each_message_goes_to_one_and_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    async with start_mosquitto(tmp_path, users=(*MEMBERS, *NODES), extra_config="log_type debug\n") as broker:
        members = [Member(broker, user, tmp_path) for user in MEMBERS]
        try:
            await subscribed(broker, members)
            sent = rows(240)
            with PahoClient(broker, NODES[0]) as box:  # no repeats from here: what is stored twice was delivered twice
                bundles = [encode_bundle(5, at + 1, sent[at : at + 1]) for at in range(len(sent))]
                await asyncio.to_thread(box.publish_all, [(f"pl/1/{NODES[0]}/up", bundle) for bundle in bundles])
            await until(lambda: sum(member.stored() for member in members) >= len(sent))
            taken = [member.bodies() for member in members]
            assert Counter(body for each in taken for body in each) == Counter(sent)
            assert all(taken), [len(each) for each in taken]

            nodes = [  # of each number of a row its own
                ResendingNode(broker, node, [], epoch=7, pause_s=0.01, more=lambda i, at=at: row(3 * i + at))
                for at, node in enumerate(NODES)
            ]
            for node in nodes:
                node.start()
            before = members[1].stored()
            await until(lambda: members[1].stored() > before + 20)
            members[1].kill()
            assert any(node.open_rows for node in nodes), "all was stored before the kill: it proved nothing"
            left = [members[0].stored(), members[2].stored()]
            await until(lambda: members[0].stored() > left[0] and members[2].stored() > left[1])
            members[1].start()
            await until(lambda: broker.log_path.read_text().count(f"Sending SUBACK to {members[1].user}") > 1)
            for node in nodes:
                await asyncio.to_thread(node.join_done, 120)
            kept = [body for member in members for body in member.bodies()]
            assert set(kept) == {*sent, *(each for node in nodes for each in node.rows)}
        finally:
            for member in members:
                member.process.terminate()
            codes = [member.process.wait(60) for member in members]
        assert codes == [0, 0, 0]


async def test_a_node_that_does_not_know_the_group_takes_nothing_from_it(tmp_path: Path) -> None:
    async with start_mosquitto(tmp_path, users=(MEMBERS[0], NODES[0], "other/box")) as broker:

        def taken(joined: str) -> tuple[int, int]:
            """Messages that (a member, a node which joined a group for others' topics) get of ten, and one to be sure that no more come."""
            with PahoClient(broker, MEMBERS[0]) as member, PahoClient(broker, NODES[0]) as box, PahoClient(broker, "other/box") as stranger:
                stranger.subscribe(f"$share/{joined}/pl/1/+/+/up")
                member.subscribe("$share/0123456789abcdef/pl/1/+/+/up")
                member.subscribe(f"pl/1/{NODES[0]}/state")
                box.publish_all([(f"pl/1/{NODES[0]}/up", b"%d" % at) for at in range(10)])
                box.publish(f"pl/1/{NODES[0]}/state", b"last")
                member.wait_payload(b"last")
                return len(member.messages) - 1, len(stranger.messages)

        assert await asyncio.to_thread(taken, "guessed") == (10, 0)
        assert await asyncio.to_thread(taken, "0123456789abcdef") == (5, 0), "why the group is a secret"
