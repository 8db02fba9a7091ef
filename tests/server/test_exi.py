# SPDX-License-Identifier: Apache-2.0
"""Streams in EXI (XEP-0322)."""

from __future__ import annotations

from pathlib import Path

import trio

from .serving import next_of, serving

LISTEN = 'listen = ["127.0.0.1:0"]\nlisten_tls = ["127.0.0.1:0"]'


async def test_a_client_in_exi_and_one_in_xml_hold_a_chat(tmp_path: Path) -> None:
    async with serving(tmp_path, exi=LISTEN) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard", encoding="exi", exi_address=running.exi_address) as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            await romeo.send_message(juliet.jid, "art thou not Romeo & a <Montague>?")
            got = await next_of(juliet.messages())
            assert (got.sender, got.type, got.body) == (romeo.jid, "chat", "art thou not Romeo & a <Montague>?")
            await juliet.send_message(romeo.jid, "neither, fair saint \N{ROSE}")
            got = await next_of(romeo.messages())
            assert (got.sender, got.body) == (juliet.jid, "neither, fair saint \N{ROSE}")
            assert await romeo.ping() > 0
            with trio.fail_after(5):
                assert (await romeo.send_presence()) is None
