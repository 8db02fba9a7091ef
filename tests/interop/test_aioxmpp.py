# SPDX-License-Identifier: Apache-2.0
"""aioxmpp at our server, together with our client: login, messages, presence, roster, and what the server's extensions give it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.server.serving import PASSWORD, next_of, serving
from tests.shared import package
from xiot.client import Client
from xiot.core import JID
from xiot.xep import roster

from .peers import Peer, aioxmpp, needs, slixmpp
from .test_slixmpp import TEXT, presence_of, until

pytestmark = pytest.mark.peers

ROMEO = "romeo@localhost/aioxmpp"


@asynccontextmanager
async def both(folder: Path, us: str) -> AsyncIterator[tuple[Client, Peer]]:
    """Our client as `us`, and aioxmpp as romeo."""
    async with serving(folder) as running:
        await running.account("romeo", "juliet")
        async with running.connect(us) as client, aioxmpp(running, "romeo/aioxmpp", ca_file=running.ca_file) as peer:
            assert (await peer.next("session"))["jid"] == ROMEO
            yield client, peer


@asynccontextmanager
async def two_peers(folder: Path) -> AsyncIterator[tuple[Peer, Peer]]:
    """aioxmpp as romeo, slixmpp as juliet."""
    async with serving(folder) as running:
        await running.account("romeo", "juliet")
        async with (
            aioxmpp(running, "romeo/aioxmpp", ca_file=running.ca_file) as ours,
            slixmpp(running, "juliet/slixmpp", ca_file=running.ca_file) as theirs,
        ):
            await ours.next("session")
            await theirs.next("session")
            yield ours, theirs


async def test_aioxmpp_logs_in_over_starttls_with_the_certificate_verified(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with aioxmpp(running, "romeo/aioxmpp", ca_file=running.ca_file) as peer:
            session = await peer.next("session")
            assert (session["jid"], session["tls"], session["verified"]) == (ROMEO, "TLSv1.3", True)


async def test_aioxmpp_refuses_a_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with aioxmpp(running, "romeo/aioxmpp", ca_file=None) as peer:
            assert (await peer.next("warning"))["text"] == "certificate verification failed (by OpenSSL)"
            await peer.next("failure")


async def test_aioxmpp_is_told_that_the_password_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with aioxmpp(running, "romeo/aioxmpp", PASSWORD + "x", ca_file=running.ca_file) as peer:
            failure = await peer.next("failure")
            assert failure["kind"] in ("AuthenticationFailure", "SASLUnavailable"), failure


async def test_messages_go_both_ways(tmp_path: Path) -> None:
    async with both(tmp_path, "juliet@localhost/balcony") as (juliet, peer):
        await peer.do("message", jid=str(juliet.jid), body=TEXT)
        got = await next_of(juliet.messages())
        assert (str(got.sender), got.type, got.body) == (ROMEO, "chat", TEXT)
        id = await juliet.send_message(ROMEO, TEXT[::-1])
        answer = await peer.next("message")
        assert answer == {"event": "message", "sender": str(juliet.jid), "type": "chat", "id": id, "body": TEXT[::-1]}


async def test_resources_of_one_account_see_each_other(tmp_path: Path) -> None:
    async with both(tmp_path, "romeo@localhost/xiot") as (us, peer):
        await us.send_presence(show="away", status="in the orchard", priority=3)
        await peer.do("presence", show="dnd", status=TEXT, priority=-1)
        seen = await presence_of(us, ROMEO)
        assert (seen.type, seen.show, seen.status, seen.priority) == (None, "dnd", TEXT, -1)
        ours = await peer.next("presence")
        while ours["sender"] == ROMEO:
            ours = await peer.next("presence")
        ours.pop("event")
        assert ours == {
            "sender": str(us.jid),
            "type": None,
            "show": "away",
            "status": "in the orchard",
            "priority": 3,
        }


async def test_a_roster_change_of_aioxmpp_is_pushed_to_us(tmp_path: Path) -> None:
    async with both(tmp_path, "romeo@localhost/xiot") as (us, peer):
        await roster.fetch(us, us.roster)
        contact = JID("juliet@localhost")
        await peer.ask("set_roster", jid=str(contact), name="Julia \u2665", groups=["Capulets", "Verona & <more>"])
        await until(lambda: contact in us.roster.items)
        item = us.roster.items[contact]
        assert (item.name, set(item.groups)) == ("Julia \u2665", {"Capulets", "Verona & <more>"})
        await peer.ask("remove_roster", jid=str(contact))
        await until(lambda: contact not in us.roster.items)


async def test_a_roster_change_of_ours_is_pushed_to_aioxmpp(tmp_path: Path) -> None:
    async with both(tmp_path, "romeo@localhost/xiot") as (us, peer):
        contact = JID("juliet@localhost")
        await roster.set_item(us, contact, "Julia \u2665", ["Capulets"])
        entry = await peer.next("entry")
        assert (entry["jid"], entry["name"], entry["subscription"]) == (str(contact), "Julia \u2665", "none")
        assert (await peer.ask("roster"))["items"] == [[str(contact), "Julia \u2665", "none", ["Capulets"]]]
        await roster.remove(us, contact)
        assert (await peer.next("removed"))["jid"] == str(contact)


async def test_a_vcard_of_aioxmpp_is_read_by_slixmpp(tmp_path: Path) -> None:
    needs("XEP-0054")
    package("slixmpp")
    async with two_peers(tmp_path) as (ours, theirs):
        await ours.ask("set_vcard", xml="<FN xmlns='vcard-temp'>Romeo &amp; Montague</FN>")
        assert (await theirs.ask("get_vcard", jid="romeo@localhost"))["name"] == "Romeo & Montague"


async def test_whom_aioxmpp_blocks_is_not_heard(tmp_path: Path) -> None:
    needs("XEP-0191")
    async with both(tmp_path, "juliet@localhost/balcony") as (juliet, peer):
        await peer.ask("block", jid="juliet@localhost")
        assert (await peer.ask("blocked"))["jids"] == ["juliet@localhost"]
        await juliet.send_message(ROMEO, "first")
        assert (await next_of(juliet.messages())).type == "error"
        await peer.ask("unblock", jid="juliet@localhost")
        await juliet.send_message(ROMEO, "second")
        assert (await peer.next("message"))["body"] == "second"


async def test_carbons_of_what_we_send_and_receive_come_to_aioxmpp(tmp_path: Path) -> None:
    needs("XEP-0280")
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/xiot") as us,
            running.connect("juliet@localhost/balcony") as juliet,
            aioxmpp(running, "romeo/aioxmpp", ca_file=running.ca_file) as peer,
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


async def test_aioxmpp_resumes_after_a_cut_and_loses_nothing(tmp_path: Path) -> None:
    needs("XEP-0198")
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("juliet@localhost/balcony") as juliet,
            aioxmpp(running, "romeo/aioxmpp", ca_file=running.ca_file) as peer,
        ):
            assert (await peer.next("session"))["resumable"]
            await peer.do("cut")
            await peer.next("suspended")
            for number in range(20):
                await juliet.send_message(ROMEO, str(number))
            await peer.next("resumed", 20)
            assert [(await peer.next("message"))["body"] for _ in range(20)] == [str(n) for n in range(20)]
            await peer.do("message", jid=str(juliet.jid), body="here again")
            assert (await next_of(juliet.messages())).body == "here again"
