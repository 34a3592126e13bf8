"""Connecting as a node: a refusal is told as one, also when the broker hangs up before the thread that connected is heard."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import aiomqtt
import pytest

from gateway.link import LinkSettings, explain, is_refusal, open_link

NOT_AUTHORISED = b"\x20\x02\x00\x05"


@pytest.mark.parametrize("late_s", [0.0, 0.3])
async def test_a_refusal_is_told_however_late_the_connecting_thread_is_heard(late_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = aiomqtt.Client._client_connect

    def slow(client: aiomqtt.Client) -> None:
        connect(client)
        time.sleep(late_s)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(NOT_AUTHORISED)
        writer.close()

    monkeypatch.setattr(aiomqtt.Client, "_client_connect", slow)
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    settings = LinkSettings("127.0.0.1", server.sockets[0].getsockname()[1], "gym/box", "wrong", connect_timeout_s=60.0)
    async with server:
        with pytest.raises(aiomqtt.MqttError) as caught:
            async with open_link(settings, None, None, Counter()):
                pass
    assert is_refusal(caught.value)
    assert "refused" in explain(caught.value, settings).message
