# SPDX-License-Identifier: Apache-2.0
"""slixmpp over XML and our client over EXI, through one server (XEP-0322)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import xiot
from tests.server.serving import next_of, serving
from tests.shared import package

from .peers import TEXT, romeo, slixmpp

pytestmark = pytest.mark.peers

ROMEO = romeo("slixmpp")


async def test_slixmpp_in_xml_chats_with_a_thing_in_exi_and_reads_it(tmp_path: Path) -> None:
    package("slixmpp")
    boiler = xiot.Thing("boiler", allow=lambda *_: True)

    @boiler.field("temperature", unit="Cel")
    def temperature() -> float:
        return 23.5

    async with serving(tmp_path) as running:
        await running.account("romeo", "boiler")
        async with (
            running.connect("boiler@localhost/x", encoding="exi") as device,
            slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file) as peer,
            trio.open_nursery() as nursery,
        ):
            assert (await peer.next("session"))["jid"] == str(ROMEO)
            assert sum(c.over_exi for c in running.server.pump.connections()) == 1
            await device.send_message(ROMEO, TEXT)
            got = await peer.next("message")
            assert (got["sender"], got["body"]) == (str(device.jid), TEXT)
            await peer.do("message", jid=str(device.jid), body=TEXT)
            assert (await next_of(device.messages())).body == TEXT
            nursery.start_soon(device.serve, boiler)
            read = await peer.ask("read", jid=str(device.jid))
            assert read["fields"] == [["temperature", 23.5, "Cel"]]
            nursery.cancel_scope.cancel()
