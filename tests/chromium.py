"""A real Chromium for tests, driven over its DevTools pipe: JSON messages ended by a zero byte on file descriptors 3 and 4, no port, no library.

`open_chromium()` starts one, `browser.page(...)` opens a tab of a size; a page evaluates JavaScript, presses keys, clicks, takes pictures and
collects what the page complained of (exceptions, console errors, refused requests). One that is not installed is fetched: chromium_package.py.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.chromium_package import Chromium, find_or_install_chromium

FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-default-browser-check", "--hide-scrollbars",
    "--force-device-scale-factor=1", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)  # fmt: skip
WAIT_S = 60.0


class PageError(AssertionError):
    """The page did not do what the test waited for."""


class Page:
    """One tab. `complaints` holds what went wrong in it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self.session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.events = 0  # server-sent ones

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.call(method, params, self.session)

    async def start(self, width: int, height: int, *, dark: bool = False, calm: bool = False) -> None:
        for domain in ("Page", "Runtime", "Network", "Log", "Performance"):
            await self.call(f"{domain}.enable")
        await self.size(width, height)
        await self.look(dark=dark, calm=calm)

    async def size(self, width: int, height: int) -> None:
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    async def look(self, *, dark: bool = False, calm: bool = False) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "assert"}:
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.eventSourceMessageReceived":
            self.events += 1

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def js(self, code: str) -> Any:
        """The value of an expression (a promise is awaited)."""
        answer = await self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise PageError(f"{code}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    async def until(self, code: str, wait_s: float = WAIT_S) -> Any:
        """Wait until an expression is true; its value. PageError says what it was at last."""
        end = asyncio.get_running_loop().time() + wait_s
        value: Any = None
        while asyncio.get_running_loop().time() < end:
            with contextlib.suppress(PageError):
                value = await self.js(code)
                if value:
                    return value
            await asyncio.sleep(0.05)
        raise PageError(f"still {value!r} after {wait_s} s: {code}; complaints: {self.complaints}")

    async def key(self, name: str, text: str = "") -> None:
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(name, text)
        code = {"windowsVirtualKeyCode": codes.get(name, 0)}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, text=text, **code)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, **code)

    async def write(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        code = f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        x, y = await self.js(code)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def picture(self, path: Path | None = None) -> bytes:
        """A PNG of what the tab shows now."""
        raw = base64.b64decode((await self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False))["data"])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
        return raw

    async def cpu_s(self) -> float:
        """CPU seconds of the tab's main thread so far."""
        metrics = (await self.call("Performance.getMetrics"))["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "TaskDuration")


class Browser:
    """The process and its pipe."""

    def __init__(self, process: asyncio.subprocess.Process, out: asyncio.StreamReader, write: Callable[[bytes], None]) -> None:
        self.process = process
        self._out = out
        self._write = write
        self._next = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            try:
                raw = await self._out.readuntil(b"\0")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            message = json.loads(raw[:-1])
            if "id" in message:
                waiter = self._waiting.pop(message["id"])
                if not waiter.done():  # who asked may have been cancelled
                    waiter.set_result(message)
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].heard(message["method"], message["params"])
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(PageError("Chromium went away"))

    async def call(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        waiter = self._waiting[self._next] = asyncio.get_running_loop().create_future()
        self._write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(60):  # wait_for of Python 3.11 can swallow a cancellation
            answer = await waiter
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']}")
        return answer["result"]

    async def page(self, width: int = 1280, height: int = 800, *, dark: bool = False, calm: bool = False) -> Page:
        """A new tab of that size."""
        target = (await self.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        session = (await self.call("Target.attachToTarget", {"targetId": target, "flatten": True}))["sessionId"]
        page = self._pages[session] = Page(self, session)
        await page.start(width, height, dark=dark, calm=calm)
        return page

    def processes(self) -> list[int]:
        """The browser and everything it started."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    parents.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(int(entry.name))
        found, todo = [], [self.process.pid]
        while todo:
            found.append(todo.pop())
            todo += parents.get(found[-1], [])
        return found

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.call("Browser.close"), 5)
        try:
            await asyncio.wait_for(self.process.wait(), 60)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await asyncio.wait_for(self._reading, 60)


@contextlib.asynccontextmanager
async def open_chromium(chromium: Chromium | None = None) -> AsyncIterator[Browser]:
    """A headless Chromium (the one of `find_or_install_chromium`) with a profile of its own that is gone afterwards."""
    chosen = chromium or await asyncio.to_thread(find_or_install_chromium)
    profile = tempfile.mkdtemp(prefix="paceline-chromium-")
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()

    def pipes() -> None:
        high = [os.dup2(fd, 50 + i) for i, fd in enumerate((in_read, out_write))]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    process = await asyncio.create_subprocess_exec(
        chosen.binary, *FLAGS, f"--user-data-dir={profile}", "about:blank", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL, preexec_fn=pipes, close_fds=False, env={**chosen.environment, "HOME": profile},
    )  # fmt: skip
    os.close(in_read)
    os.close(out_write)
    reader = asyncio.StreamReader(limit=1 << 28)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out_read, "rb", 0))
    browser = Browser(process, reader, lambda raw: _write_all(in_write, raw))
    try:
        yield browser
    finally:
        await browser.close()
        transport.close()
        os.close(in_write)
        shutil.rmtree(profile, ignore_errors=True)


def _write_all(fd: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(fd, raw) :]
