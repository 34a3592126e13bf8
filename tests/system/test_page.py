"""The live page in a real Chromium, on the real API over a real log: what people do with it and what they see."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chromium import Page, open_chromium
from tests.page_world import US, Athlete, World, athlete_ref, open_world, segment

pytestmark = pytest.mark.timeout(900)  # the first one may have to fetch Chromium

ROWS = "[...document.querySelectorAll('.ranked tbody tr')]"
BOARD = f"{ROWS}.map((r) => r.querySelector('th button').textContent + ' ' + r.cells[2].textContent)"
BOX = "document.querySelector('main')"
BACK_S = 560  # how long they have been running when the page opens


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        made.refer(segment("bend", "The Bend", 300, 620), *(athlete_ref(n) for n in ("anna", "bob", "cleo")), athlete_ref("shy", show="no"))
        made.add(
            Athlete("watch-a", "anna", 5.0, 143),
            Athlete("watch-b", "bob", 4.6, 128),
            Athlete("watch-c", "cleo", 4.2, 178),
            Athlete("watch-s", "shy", 4.0, 110),
            Athlete("watch-x", "", 3.1, 141),
        )
        made.run(made.athletes, time.time_ns() // 1000 - BACK_S * US, BACK_S - 150)
        yield made


@pytest.fixture
async def page(world: World) -> AsyncIterator[Page]:
    await world.serve()
    async with open_chromium() as browser:
        page = await browser.page(1280, 800)
        yield page
        assert [said for said in page.complaints if "ERR_CONNECTION_REFUSED" not in said and "ERR_INCOMPLETE" not in said] == []
        assert all(url.startswith((world.url, "about:", "data:")) for url in page.requests), page.requests


@contextlib.asynccontextmanager
async def running(world: World, *devices: str) -> AsyncIterator[None]:
    task = asyncio.create_task(world.keep_running(devices))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_wall_shows_zones_and_an_unknown_device_is_named_and_taken_back(world: World, page: Page) -> None:
    async with running(world, *world.athletes):
        await page.go(world.url)
        tile = "[...document.querySelectorAll('.tile')].find((t) => t.textContent.includes('{0}'))"
        assert await page.until(f"{tile.format('Anna')}?.dataset.zone === '3' && {tile.format('Anna')}.textContent.includes('Zone 3')")
        assert await page.until(f"{tile.format('Cleo')}?.dataset.zone === '5'")
        assert await page.until("document.querySelectorAll('.tile').length === 5")
        assert await page.until("document.querySelector('.tile.unknown .called')?.textContent === 'watch-x'")
        await page.js("document.querySelector('.tile.unknown').focus()")
        await page.key("Enter")
        assert await page.until(
            "document.activeElement.id === 'athlete-name' && document.querySelectorAll('#athlete-names option').length >= 4"
        )
        await page.write("Zoë Quick")
        await page.key("Enter")
        assert await page.until("!document.querySelector('#dialog').open && !document.querySelector('#undo').hidden")
        assert await page.until(f"!!{tile.format('Zoë Quick')} && !document.querySelector('.tile.unknown')")
        zoe = await page.js("fetch('api/v1/bindings').then((r) => r.json()).then((b) => b.bindings[0])")
        assert (zoe["device"], zoe["athlete"], zoe["athlete_name"]) == ("watch-x", "zoe-quick", "Zoë Quick")
        await page.click("#undo button")
        assert await page.until(f"!!document.querySelector('.tile.unknown') && !{tile.format('Zoë Quick')}")
        assert await page.js("fetch('api/v1/bindings').then((r) => r.json()).then((b) => b.bindings.length)") == 0


HIDDEN = ("Shy", "shy", "Zoë", "zoe", "watch-s", "watch-z")  # words that tell who somebody is


VIEWS = ("", "ranking", "course", "segments", "segment/bend", "activities", "health")


async def open_view(page: Page, route: str, athletes: int) -> None:
    """Go to a view and wait until it shows what the server says; one athlete is an unknown device."""
    ready = {
        "": f"document.querySelectorAll('.tile').length === {athletes}",
        "ranking": f"{ROWS}.length === {athletes}",
        "course": f"document.querySelectorAll('.where li').length === {athletes}",
        "segments": f"{BOX}.textContent.includes('The Bend')",
        "segment/bend": f"{ROWS}.length === {athletes - 1}",
        "activities": f"{BOX}.textContent.includes('activity')",
        "health": f"/sums only/.test({BOX}.textContent) || document.querySelectorAll('.health tbody tr').length === {athletes}",
    }[route]
    await page.js(f"location.hash = '#/{route}'")
    await page.until(f"{BOX}.className === 'view-{route.partition('/')[0] or 'wall'}' && !{BOX}.textContent.includes('Looking') && {ready}")


async def test_public_screen_names_nobody_who_does_not_want_it(world: World, page: Page) -> None:
    world.refer(athlete_ref("zoe", name="Zoë", show="nickname", nickname="Quick Z"))
    world.add(Athlete("watch-z", "zoe", 3.6, 133))
    world.run(["watch-z"], time.time_ns() // 1000 - BACK_S * US, BACK_S - 150)
    whole = "document.documentElement.outerHTML + [...document.querySelectorAll('input, option')].map((e) => e.value)"
    async with running(world, *world.athletes):
        await page.go(world.url)
        assert await page.until(
            "document.querySelectorAll('.tile').length === 6 && document.querySelector('main').textContent.includes('Shy')"
        )
        assert await page.until(f"({whole}).includes('Zoë')")  # staff sees it
        await page.click("#public")
        assert await page.until("location.search === '?as=screen' && document.querySelectorAll('.tile').length === 6")
        assert await page.until("document.querySelector('#public').hidden")
        assert await page.until("document.querySelector('main').textContent.includes('Quick Z')")
        await page.js("[...document.querySelectorAll('.tile')].find((t) => t.textContent.includes('Athlete 1')).click()")
        assert not await page.js("document.querySelector('#dialog').open")  # nobody is bound from a screen
        for route in VIEWS:
            await open_view(page, route, 6)
            said = await page.js(whole)
            assert [word for word in HIDDEN if word in said] == [], route
            if route in {"", "ranking", "course", "segment/bend"}:
                assert "Quick Z" in said, route
                assert "Athlete 1" in said, route
        await page.js("location.hash = '#/segment/bend'")
        await page.until(f"{BOARD}.length === 5")
        await page.js(f"{ROWS}.find((r) => r.textContent.includes('Athlete 1')).querySelector('button').click()")  # her own history
        assert await page.until("document.querySelectorAll('#dialog tbody tr').length >= 1")
        assert [word for word in HIDDEN if word in await page.js(whole)] == []
        asked = [url for url in page.requests if "/api/" in url]
        first = next(i for i, url in enumerate(asked) if "as=screen" in url)
        assert all("as=screen" in url for url in asked[first:])
        assert any("/live/stream" in url for url in asked[first:])


async def test_an_athlete_a_device_is_bound_to_again_is_found_by_name(world: World, page: Page) -> None:
    await page.go(world.url)
    await page.until("document.querySelector('.tile.unknown') !== null")
    await page.click(".tile.unknown")
    await page.until("document.querySelectorAll('#athlete-names option').length >= 4")
    await page.write("anna")
    await page.key("Enter")
    assert await page.until("document.querySelectorAll('.tile').length === 4")
    await page.js("[...document.querySelectorAll('.tile')].find((t) => t.textContent.includes('Anna')).click()")
    assert await page.until("document.querySelector('#dialog .lines li')?.textContent.startsWith('watch-x')")
    await page.click("#dialog .lines button")
    assert await page.until("document.querySelectorAll('#dialog .lines li').length === 0")
    await page.key("Escape")
    assert await page.until("!document.querySelector('#dialog').open")


async def test_dots_move_along_the_course(world: World, page: Page) -> None:
    async with running(world, *world.athletes):
        await page.go(f"{world.url}#/course")
        where = "document.querySelectorAll('.where li').length"
        assert await page.until(f"{where} === 5")
        assert await page.until("[...document.querySelector('#focus').options].some((o) => o.value === 'The Bend')")
        hashed = (
            "(() => { const c = document.querySelectorAll('.map canvas')[1]; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " let h = 0, n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) { n++; h = (h * 31 + i) | 0; } return [n, h]; })()"
        )
        assert await page.until(f"{hashed}[0] > 300")
        drawn = f"(async () => {{ const seen = new Set(); for (let i = 0; i < 24; i++) {{ await new Promise(requestAnimationFrame); seen.add({hashed}.join()); }} return seen.size; }})()"

        async def glides() -> bool:
            """Whether there were more pictures than two for each state that came."""
            before = page.events
            return await page.js(drawn) > 2 * (page.events - before + 1)

        async with asyncio.timeout(240):
            while not await glides():
                pass
        await page.look(calm=True)
        async with asyncio.timeout(240):
            while await glides():
                pass
        for _ in range(5):
            before = page.events
            pictures = await page.js(drawn)
            assert pictures <= page.events - before + 2  # they step with the states: somebody asked for reduced motion


async def test_board_reorders_while_somebody_watches(world: World, page: Page) -> None:
    await page.go(f"{world.url}#/segment/bend")
    before = await page.until(f"{BOARD}.length === 4 && {BOARD}")
    assert [line.split()[0] for line in before] == ["Anna", "Bob", "Cleo", "Shy"]
    await page.js(
        "window.glides = []; window.moved = []; new MutationObserver((all) => all.forEach(({ target }) => window.moved.push([target.dataset.moved, target.cells[1].textContent])))"
        ".observe(document.querySelector('.ranked tbody'), { attributeFilter: ['data-moved'], subtree: true }); const was = Element.prototype.animate;"
        " Element.prototype.animate = function (...a) { if (this.tagName === 'TR') window.glides.push(this.cells[1].textContent); return was.apply(this, a); }"
    )
    cleo = world.athletes["watch-c"]
    cleo.along_m += 1400 - cleo.along_m % 1400  # a new lap, much faster
    cleo.speed_mps = 6.5
    world.run(["watch-c"], cleo.sent_to_us, 110)
    after = await page.until(f"{BOARD}[0]?.startsWith('Cleo') && {BOARD}")
    assert [line.split()[0] for line in after] == ["Cleo", "Anna", "Bob", "Shy"]
    assert await page.until("window.moved.some(([way, who]) => way === 'up' && who.includes('Cleo'))")
    assert await page.until("window.glides.some((name) => name.includes('Cleo'))")
    assert await page.until("document.querySelector('#said').textContent.includes('Cleo is now 1st on The Bend')")
    assert await page.until(f"{ROWS}[1].cells[3].textContent.startsWith('+0:')")
    await page.js(f"{ROWS}[0].querySelector('button').click()")
    assert await page.until("document.querySelectorAll('#dialog tbody tr').length >= 2")


async def test_live_attempt_shows_its_gap(world: World, page: Page) -> None:
    anna = world.athletes["watch-a"]
    anna.along_m += 1400 - anna.along_m % 1400
    world.run(["watch-a"], anna.sent_to_us, 90, appended_us=time.time_ns() // 1000)  # 450 m: in the middle of the segment
    await page.go(f"{world.url}#/segment/bend")
    hers = "[...document.querySelectorAll('.attempts li')].find((li) => li.textContent.startsWith('Anna'))"
    assert await page.until(f"/[+\\u2212]0:0/.test({hers}.querySelector('.gaps b').textContent)")
    assert 0.2 < await page.js(f"{hers}.querySelector('progress').value") < 0.8


async def test_page_survives_a_restart_of_the_server(world: World, page: Page) -> None:
    async with running(world, *world.athletes):
        await page.go(f"{world.url}#/ranking")
        assert await page.until(f"{ROWS}.length === 5 && document.querySelector('#link').textContent === 'live'")
        await world.stop_serving()
        assert await page.until("!document.querySelector('#stale').hidden && document.querySelector('#link').className === 'lost'")
        assert await page.js(f"{ROWS}.length") == 5  # what was last heard stays
        far = await page.js(f"{ROWS}[0].cells[5].textContent")
        await world.serve()
        assert await page.until("document.querySelector('#stale').hidden && document.querySelector('#link').className === 'live'")
        assert await page.until(f"{ROWS}[0].cells[5].textContent !== '{far}'")


async def test_finished_activity_is_drawn_with_its_laps_zones_and_efforts(world: World, page: Page) -> None:
    world.add(Athlete("old-watch", "anna", 3.4, 152))
    two_hours_ago = time.time_ns() // 1000 - 7200 * US
    world.run(["old-watch"], two_hours_ago, 900, appended_us=two_hours_ago + 900 * US)
    await page.go(f"{world.url}#/activities")
    await page.until("fetch('api/v1/activities').then((r) => r.json()).then((a) => a.activities.length > 0)")
    await page.go("about:blank")
    await page.go(f"{world.url}#/activities")
    assert await page.until("document.querySelector('tbody th a')?.textContent === 'Anna'")
    await page.click("tbody th a")
    assert await page.until("document.querySelector('.track .line')?.getAttribute('d').length > 400")
    assert await page.until("document.querySelectorAll('.chart').length === 2")  # elevation and heart rate
    assert await page.until("document.querySelectorAll('.zonelist li').length === 5")
    assert await page.until("document.querySelector('main').textContent.includes('The Bend')")
    await page.js("document.querySelector('.graphs').focus()")
    await page.key("ArrowRight")
    assert await page.until("document.querySelector('.graphs h2 b').textContent.endsWith(' m')")


async def test_health_says_sent_equals_stored(world: World, page: Page) -> None:
    await page.go(f"{world.url}#/health")
    assert await page.until("document.querySelectorAll('.health tbody tr').length === 5")
    assert await page.until(
        "[...document.querySelectorAll('.health .verdict')].filter((v) => v.textContent === 'sent = stored').length === 5"
    )
    assert await page.js("[...document.querySelectorAll('.nodes li')].map((n) => n.textContent)") == [
        "box-1online3 frames waiting, room for 13 days more",
        "box-2offline4\u2009120 frames waiting, room for 20.5 h more",
    ]


async def test_keys_reach_everything_and_focus_shows(world: World, page: Page) -> None:
    await page.go(world.url)
    await page.until("document.querySelectorAll('.tile').length === 5")
    reached = []
    for _ in range(15):  # one more and the focus leaves the page
        await page.key("Tab")
        reached.append(await page.js("document.activeElement.textContent.trim() || document.activeElement.ariaLabel"))
        assert await page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid", reached
    assert reached[0] == "Skip to the content"
    assert {"Wall", "Ranking", "Course", "Segments", "Activities", "Health"} <= set(reached)
    assert sum("bpm" in said for said in reached) == 5


@pytest.mark.parametrize("size", [(390, 844), (1280, 800), (1920, 1080)], ids=str)
async def test_nothing_overlaps_or_sticks_out(world: World, page: Page, size: tuple[int, int]) -> None:
    await page.size(*size)
    await page.go(world.url)
    await page.until("document.querySelectorAll('.tile').length === 5")
    for route in VIEWS:
        await open_view(page, route, 5)
        assert await page.js("document.documentElement.scrollWidth <= innerWidth"), route
        # single lines of text next to each other, that are not inside each other, must not touch
        found = await page.js(
            "(() => { const boxes = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);"
            " while (walk.nextNode()) { const n = walk.currentNode; const p = n.parentElement; if (!n.data.trim() || p.closest('.quietly, [hidden], option, .skip, #views, noscript')) continue;"
            " const r = document.createRange(); r.selectNodeContents(n); for (const b of r.getClientRects()) if (b.width > 1 && b.height > 1 && b.top >= 0 && b.bottom <= innerHeight - 64) boxes.push([n.data, b, p.closest('.map') !== null]); }"
            " const hits = []; for (let i = 0; i < boxes.length; i++) for (let k = i + 1; k < boxes.length; k++) { const [a, b] = [boxes[i][1], boxes[k][1]];"
            " const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);"
            " if (w > 1.5 && h > Math.min(a.height, b.height) * 0.4) hits.push([boxes[i][0], boxes[k][0]]); } return hits; })()"
        )
        assert found == [], route
