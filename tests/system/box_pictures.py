"""Takes the pictures of the set-up page for docs/gym.md, at the size of a phone: `python -m tests.system.box_pictures docs/pictures`.

It is no test: somebody has to look at what it made.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.chromium import open_chromium
from tests.servers import start_amqtt
from tests.system.box_process import BoxProcess, read, until_shown
from tests.system.gateway_process import BOX, PLATFORM
from tests.system.test_box_setup import DEVICES, form_of


async def take(target: Path) -> None:
    """The form, and the state in the dark."""
    with tempfile.TemporaryDirectory() as folder:
        async with start_amqtt(Path(folder) / "central", users=(BOX, PLATFORM)) as broker, open_chromium() as browser:
            box = BoxProcess(Path(folder))
            box.start()
            url, code = await box.page()
            (box.data_dir / "devices.json").write_text(json.dumps(DEVICES))
            page = await browser.page(390, 780)
            await page.go(f"{url}?code={code}")
            await page.picture(target / "box-setup.png")
            await read(url, form_of(broker, code))
            await until_shown(url, ">up<")
            await page.look(dark=True)
            await page.go(url)
            await page.picture(target / "box-state.png")
            await box.end()


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1])))
