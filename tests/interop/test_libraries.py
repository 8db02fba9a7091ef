# SPDX-License-Identifier: Apache-2.0
"""What slixmpp and aioxmpp both do at our server, together with our client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.serving import next_of, serving
from tests.shared import package

from .peers import LIBRARIES, TEXT, both, needs, presence_of, romeo

pytestmark = pytest.mark.peers

both_libraries = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture(autouse=True)
def _installed(library: str) -> None:
    if library == "slixmpp":
        package("slixmpp")


@both_libraries
async def test_messages_go_both_ways(tmp_path: Path, library: str) -> None:
    async with both(tmp_path, library, "juliet@localhost/balcony") as (juliet, peer):
        await peer.do("message", jid=str(juliet.jid), body=TEXT)
        got = await next_of(juliet.messages())
        assert (got.sender, got.type, got.body) == (romeo(library), "chat", TEXT)
        id = await juliet.send_message(romeo(library), TEXT[::-1])
        answer = await peer.next("message")
        assert answer == {"event": "message", "sender": str(juliet.jid), "type": "chat", "id": id, "body": TEXT[::-1]}


@both_libraries
async def test_resources_of_one_account_see_each_other(tmp_path: Path, library: str) -> None:
    async with both(tmp_path, library, "romeo@localhost/xiot") as (us, peer):
        await us.send_presence(show="away", status="in the orchard", priority=3)
        await peer.do("presence", show="dnd", status=TEXT, priority=-1)
        seen = await presence_of(us, romeo(library))
        assert (seen.type, seen.show, seen.status, seen.priority) == (None, "dnd", TEXT, -1)
        ours = await peer.next("presence")
        while ours["sender"] == str(romeo(library)):  # its own comes back to it too (RFC 6121 section 4.2.2)
            ours = await peer.next("presence")
        assert (ours["sender"], ours["show"], ours["status"], ours["priority"]) == (
            str(us.jid),
            "away",
            "in the orchard",
            3,
        )
        await peer.do("presence", type="unavailable")
        assert (await presence_of(us, romeo(library))).type == "unavailable"


@both_libraries
async def test_whom_another_library_blocks_is_not_heard(tmp_path: Path, library: str) -> None:
    needs("XEP-0191")
    async with both(tmp_path, library, "juliet@localhost/balcony") as (juliet, peer):
        await peer.ask("block", jid="juliet@localhost")
        assert (await peer.ask("blocked"))["jids"] == ["juliet@localhost"]
        await juliet.send_message(romeo(library), "first")
        assert (await next_of(juliet.messages())).type == "error"
        await peer.ask("unblock", jid="juliet@localhost")
        await juliet.send_message(romeo(library), "second")
        assert (await peer.next("message"))["body"] == "second"


@both_libraries
async def test_carbons_of_what_we_send_and_receive_come_to_another_library(tmp_path: Path, library: str) -> None:
    needs("XEP-0280")
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/xiot") as us,
            running.connect("juliet@localhost/balcony") as juliet,
            LIBRARIES[library](running, f"romeo/{library}", ca_file=running.ca_file) as peer,
        ):
            await peer.next("session")
            await peer.ask("carbons")
            await us.send_message("juliet@localhost/balcony", "from us")
            await next_of(juliet.messages())
            await juliet.send_message("romeo@localhost/xiot", "to us")
            sent, received = await peer.next("carbon"), await peer.next("carbon")
            assert (sent["direction"], sent["to"], sent["body"]) == ("sent", "juliet@localhost/balcony", "from us")
            assert (received["direction"], received["sender"]) == ("received", "juliet@localhost/balcony")
            assert received["body"] == "to us"
