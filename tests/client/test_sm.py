# SPDX-License-Identifier: Apache-2.0
"""Our client's stream management (XEP-0198): receipts, and streams that go on after a cut."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from xiot.errors import LinkError
from xiot.stanzas import NS_CLIENT, Element, message

from .both import next_of, on_both, served


def numbered(n: int, to: object) -> Element:
    return message(Element(f"{{{NS_CLIENT}}}body", None, str(n)), type="chat", to=str(to))


@on_both
async def test_receipt_is_there_when_the_server_has_the_stanza(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet") as juliet:
            receipts = [await romeo.send(numbered(n, juliet.jid)) for n in range(30)]
            with anyio.fail_after(5):
                for receipt in receipts:
                    await receipt.delivered()
            assert [(await next_of(juliet.messages())).body for _ in range(30)] == [str(n) for n in range(30)]


@on_both
async def test_without_resumption_a_receipt_of_a_lost_stream_is_an_error(tmp_path: Path) -> None:
    async with served(tmp_path, resume_s=0) as running:
        await running.account("romeo")
        async with running.connect("romeo", reconnect=False) as romeo:
            romeo._outbox.acknowledge = lambda h: True  # the answers do not arrive
            receipt = await romeo.send(numbered(1, "romeo@localhost"))
            await running.cut()
            with pytest.raises(LinkError), anyio.fail_after(5):
                await receipt.delivered()


@on_both
@pytest.mark.security(statement=(74, 80))
async def test_messages_over_many_cuts_come_once_and_in_order(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet") as juliet:
            to, n = juliet.jid, 300
            receipts = []

            async def send() -> None:
                for number in range(n):
                    receipts.append(await romeo.send(numbered(number, to)))

            async def cut() -> None:
                for _ in range(10):
                    await anyio.sleep(0.05)
                    await running.cut()

            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send)
                    tasks.start_soon(cut)
                    bodies = [(await next_of(juliet.messages(), 30)).body for _ in range(n)]
                for receipt in receipts:
                    await receipt.delivered()
            assert bodies == [str(number) for number in range(n)]
            assert juliet.jid == to


@on_both
async def test_presence_outlives_a_cut_unseen(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/a") as one, running.connect("romeo@localhost/b") as two:
            await two.send_presence()
            await one.send_presence()
            presences = two.presences()
            while (await next_of(presences)).sender != one.jid:
                pass
            await running.cut()
            with anyio.fail_after(10):
                await one.send_message(two.jid, "still here")
                assert (await next_of(two.messages())).body == "still here"
            seen = []
            with anyio.move_on_after(0.5):
                async for presence in presences:
                    seen.append(presence.type)
            assert "unavailable" not in seen
