"""A process that appends to a spool until it is killed, and tells on stdout each row once its append returned: `n device payload`.

Arguments: path, seed. It frees most rows it reads and tells that too (`free first last`), before it calls `free`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from gateway.spool import Spool, SpoolRow, SpoolSettings


async def main(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    spool = await Spool.open(path, SpoolSettings(min_window_s=0.001, max_window_s=0.002, free_after_s=0.01, free_after_rows=40))
    print(f"open {spool.epoch} {spool.end}", flush=True)

    async def feed(name: str) -> None:
        for i in range(100_000):
            frames = [f"{seed}/{name}/{i}/{k} ".encode() * rng.randint(1, 20) for k in range(rng.randint(1, 5))]
            first = await spool.append([SpoolRow(frame, name) for frame in frames])
            for n, frame in enumerate(frames, first):
                print(f"row {n} {frame.hex()}", flush=True)
            if rng.random() < 0.3:
                a = rng.randint(max(1, first - 40), first)
                print(f"free {a} {a + 15}", flush=True)
                spool.free([(a, a + 15)])

    await asyncio.gather(*(feed(f"strap-{i}") for i in range(4)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
