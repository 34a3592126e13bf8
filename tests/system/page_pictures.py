"""Takes the pictures of docs/pictures: every view at phone, desk and wall size, light and dark, of a gym of thirty that runs on the real API.

    python -m tests.system.page_pictures docs/pictures [NAME...]

It is no test: somebody has to look at what it made.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from tests.chromium import Page, open_chromium
from tests.page_world import LAP_M, US, Athlete, World, athlete_ref, open_world, segment

NAMES = "anna bob carla dilan emil fatima gustav hana ivo jelena kofi lena milo nadia otto priya quentin rosa samir tilda ulrich vera wanda xaver yara zeno mara"
SIZES = {"phone": (390, 844), "desk": (1280, 800), "wall": (1920, 1080)}
VIEWS = ("wall", "ranking", "course", "segments", "segment", "activities", "activity", "health")
MAX_BYTES = 200_000


def people(world: World) -> None:
    """Thirty athletes: one without a heart rate, one without positions, one who shows no name, and three unknown devices."""
    for i, name in enumerate(NAMES.split()):
        more = {"show": "no"} if name == "hana" else {"show": "nickname", "nickname": "Quick Q"} if name == "quentin" else {}
        if name == "fatima":
            more = {"name": "Fatima van der Lindenschmidt"}
        world.refer(athlete_ref(name, sex="fm"[i % 2], birth_year=1960 + 2 * i, **more))
        heart = 0 if name == "lena" else 96 + (i * 41) % 92
        world.add(Athlete(f"watch-{i:02d}", name, 2.9 + 0.07 * (i * 7 % 23), heart, positions=name != "nadia"))
    for i in range(3):
        world.add(Athlete(f"strap-{i + 1}", "", 3.0 + 0.3 * i, 104 + 37 * i))


def history(world: World, now_us: int) -> None:
    """Laps of the last minutes, and a few finished activities of earlier days."""
    world.refer(
        segment("bend", "The Bend", 300, 620), segment("top", "Hill Top", 760, 1010), segment("flat", "Finish Straight", 1120, 1360)
    )
    for k, name in enumerate(NAMES.split()[:6]):
        world.add(Athlete(f"old-{k}", name, 3.0 + 0.15 * k, 138 + 5 * k))
        ago_us = (k + 1) * 20 * 3600 * US
        world.run([f"old-{k}"], now_us - ago_us, 1500 + 300 * k, appended_us=now_us - ago_us + 4000 * US)
        del world.athletes[f"old-{k}"]


async def rejoin(page: Page, url: str, route: str) -> None:
    await page.go("about:blank")
    await page.go(f"{url}#/{route}")
    await page.until("document.querySelector('#link').textContent === 'live'")


async def pixels(blank: Page, png: bytes) -> np.ndarray:
    """The picture as rows of red, green and blue, decoded by the browser."""
    code = (
        f"fetch('data:image/png;base64,{base64.b64encode(png).decode()}').then((r) => r.blob()).then(createImageBitmap).then((b) => {{"
        " const g = new OffscreenCanvas(b.width, b.height).getContext('2d'); g.drawImage(b, 0, 0);"
        " return new Promise((done) => { const f = new FileReader(); f.onload = () => done([b.width, b.height, f.result.split(',')[1]]);"
        " f.readAsDataURL(new Blob([g.getImageData(0, 0, b.width, b.height).data])); }); })"
    )
    width, height, data = await blank.js(code)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]


def small_png(rgb: np.ndarray) -> bytes:
    """A PNG of at most 256 colours: the commonest ones, every other pixel the nearest of them."""
    rough = (rgb.astype(np.int32) + 2) // 4
    keys, where, count = np.unique(rough @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True, return_counts=True)
    chosen = keys[np.argsort(-count)[:256]]
    parts = lambda k: np.stack([k >> 16, k >> 8 & 255, k & 255], -1)  # noqa: E731
    near = np.abs(parts(keys)[:, None, :] - parts(chosen)[None, :, :]).sum(-1).argmin(1).astype(np.uint8)
    rows = near[where].reshape(rgb.shape[:2])

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    palette = np.minimum(parts(chosen) * 4, 255).astype(np.uint8).tobytes()
    body = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 9)
    head = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"PLTE", palette) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


async def take(page: Page, blank: Page, world: World, view: str, path: Path) -> None:
    activity = (
        await page.js("fetch('api/v1/activities').then((r) => r.json()).then((a) => a.activities[0].id)") if view == "activity" else ""
    )
    await rejoin(page, world.url, {"wall": "", "segment": "segment/bend", "activity": f"activity/{activity}"}.get(view, view))
    await asyncio.sleep(6 if view == "course" else 2.5 if view == "ranking" else 1.2)  # dots and lines come to rest
    raw = small_png(await pixels(blank, await page.picture()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    if len(raw) > MAX_BYTES:
        raise SystemExit(f"{path} has {len(raw)} bytes, more than {MAX_BYTES}")
    print(f"{path} {len(raw) // 1000} kB")


async def main(folder: Path, chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory() as kept:
        async with open_world(Path(kept)) as world, open_chromium() as browser:
            now_us = time.time_ns() // 1000
            people(world)
            history(world, now_us)
            back_s = 500
            for i, athlete in enumerate(world.athletes.values()):
                athlete.along_m = (i * 97) % LAP_M if i % 3 else 0.0
            world.run(world.athletes, now_us - back_s * US, back_s - 5)
            while world.runner.position < world.log.end():  # the past is there before anyone looks
                await asyncio.sleep(0.1)
            await world.serve()
            running = asyncio.create_task(world.keep_running([*world.athletes]))
            blank = await browser.page(100, 100)
            try:
                for size, (width, height) in SIZES.items():
                    for dark in (False, True):
                        page = await browser.page(width, height, dark=dark)
                        await rejoin(page, world.url, "")
                        for view in VIEWS:
                            name = f"{view}-{size}{'-dark' if dark else ''}"
                            if not chosen or name in chosen:
                                await take(page, blank, world, view, folder / f"{name}.png")
                        if page.complaints:
                            raise SystemExit(f"the page complained: {page.complaints}")
                        await page.go("about:blank")
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
