# SPDX-License-Identifier: Apache-2.0
"""A server whose clock is set back, or ahead, while it runs: what is stored keeps its order, and no timer notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

import xiot
from tests.shared import compiler
from xiot.client.memory import Memory
from xiot.core import Element
from xiot.xep.delay import Delay

from .attacks import HEADER, Peer
from .serving import PASSWORD, settings
from .test_serve import serve

HOUR = timedelta(hours=1)
REGISTER = b"<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>%s</username><password>%s</password></query></iq>"


@pytest.mark.security(statement=90)
async def test_a_clock_that_is_set_breaks_nothing(tmp_path: Path) -> None:
    shim, offset = tmp_path / "clock.so", tmp_path / "offset"
    source = Path(__file__).with_name("clock.c")
    await trio.run_process([compiler(), "-shared", "-fPIC", "-O1", str(source), "-o", str(shim), "-ldl"])
    environ = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET": str(offset)}
    text = settings(starttls="optional", plain=True, pre_auth_s=1, idle_s=30)
    async with serve(tmp_path, text, environ=environ) as running:
        host, _, port = running.addresses[0].rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            peer = Peer(stream, 10)
            await peer.open()
            for name in (b"romeo", b"juliet"):
                peer.received = b""
                await peer.send(REGISTER % (name, PASSWORD.encode()))
                await peer.until(b"type='result'")
        options = {"address": running.addresses[0], "ca_file": tmp_path / "tls/ca.pem", "reconnect": False}
        memory = Memory()
        async with xiot.connect("juliet@localhost", PASSWORD, memory=memory, **options):
            pass  # has a token now
        async with (
            xiot.connect("romeo@localhost", PASSWORD, **options) as romeo,
            await trio.open_tcp_stream(host, int(port)) as stream,
        ):
            steps = [timedelta(0), -HOUR, HOUR, timedelta(0)]
            half_open, began = Peer(stream, 10), trio.current_time()
            await half_open.send(HEADER)
            for number, step in enumerate(steps):
                offset.write_text(str(int(step.total_seconds())))
                await romeo.publish("n", Element("{urn:x}x", None, str(number)), id=str(number))
                await romeo.send_message("juliet@localhost", str(number))
                await romeo.ping()
            assert await half_open.condition() == "connection-timeout"
            assert 0.9 < trio.current_time() - began < 10
            offset.write_text(str(int(-HOUR.total_seconds())))
            async with (
                xiot.connect("juliet@localhost", None, memory=memory, **options) as juliet,
                juliet.subscribe("n") as items,
            ):
                await juliet.send_presence()
                with trio.fail_after(10):
                    messages = [await anext(juliet.messages()) for _ in steps]
                    assert (await anext(items)).id == str(len(steps) - 1)
                assert [message.body for message in messages] == [str(number) for number in range(len(steps))]
                for message, step in zip(messages, steps, strict=True):
                    stamp = Delay.from_element(message.element.find(Delay.TAG)).stamp
                    assert abs(stamp - datetime.now(UTC) - step) < HOUR / 2
                await romeo.ping()
    assert "Traceback" not in running.log
