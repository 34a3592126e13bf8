"""What lies under the live stage on Kafka: `python -m benchmarks.quix_floor consumer|quix BOOTSTRAP FRAMES FOLDER` reads so many frames.

`consumer` is the client of Kafka alone, which looks at nothing; `quix` an application of Quix Streams as its manual writes one, whose
function only keeps the last 200 bytes of each key in its state, with changelog. Prints the CPU-seconds to the last commit.
"""

from __future__ import annotations

import resource
import sys
import time

from confluent_kafka import Consumer
from quixstreams import Application, State

from broker.kafka_topics import FRAMES
from processors.quix_engine import SESSION_MS

WAIT_S = 300.0


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def consumer(bootstrap: str, frames: int) -> float:
    """Read in the batches of the stage, and commit once."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "floor-consumer", "fetch.queue.backoff.ms": 5}
    client = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    began_s, seen, deadline_s = cpu_s(), 0, time.monotonic() + WAIT_S
    client.subscribe([FRAMES])
    while seen < frames and time.monotonic() < deadline_s:
        seen += len(client.consume(16_384, 0.02))
    client.commit(asynchronous=False)
    used_s = cpu_s() - began_s
    client.close()
    if seen < frames:
        raise AssertionError(f"only {seen} frames of {frames} came")
    return used_s


def quix(bootstrap: str, frames: int, folder: str) -> float:
    """The same records through a data frame with state."""
    app = Application(
        bootstrap,
        consumer_group="floor-quix",
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=folder,
        consumer_extra_config={"session.timeout.ms": SESSION_MS, "fetch.queue.backoff.ms": 5},
        producer_extra_config={"linger.ms": 10, "compression.type": "lz4"},
        loglevel=None,
    )
    topic = app.topic(FRAMES, key_deserializer="bytes", value_deserializer="bytes")
    seen, began_s = 0, 0.0

    def keep(value: bytes, state: State) -> None:
        nonlocal seen, began_s
        began_s = began_s or cpu_s()
        state.get_bytes("last")
        state.set_bytes("last", value[:200])
        seen += 1
        if seen == frames:
            app.stop()

    app.dataframe(topic).update(keep, stateful=True)
    app.run()
    return cpu_s() - began_s


if __name__ == "__main__":
    what, bootstrap, frames, folder = sys.argv[1:]
    print(consumer(bootstrap, int(frames)) if what == "consumer" else quix(bootstrap, int(frames), folder))
