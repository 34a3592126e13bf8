"""Has the kernels compiled before anything is started: a fresh installation takes half a minute for it, and says so."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from typing import Final

from broker.errors import PacelineError

QUIET_S: Final = 3.0  # compiled before: nothing to tell
LIMIT_S: Final = 600.0


async def compile_kernels(say: Callable[[str], None]) -> None:
    """Compile in a process of its own, when numba is there. PacelineError with what went wrong when that fails."""
    if importlib.util.find_spec("numba") is None:
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors.warm", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    ended = asyncio.ensure_future(process.communicate())
    try:
        done, _ = await asyncio.wait({ended}, timeout=QUIET_S)
        if not done:
            say("compiling the kernels for this machine, once: about half a minute")
            await asyncio.wait({ended}, timeout=LIMIT_S)
        if process.returncode != 0:
            said = ended.result()[1].decode(errors="replace").strip().splitlines()[-1:] if ended.done() else ["it did not end"]
            raise PacelineError(f"the kernels could not be compiled: {said}", cure="run `python -m processors.warm`, or uninstall numba")
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(ended, return_exceptions=True)
