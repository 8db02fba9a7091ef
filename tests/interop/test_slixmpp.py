# SPDX-License-Identifier: Apache-2.0
"""slixmpp at our server, together with our client: login, messages, presence, roster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.server.serving import PASSWORD, next_of, serving
from tests.shared import package
from xiot.client import Client, Presence
from xiot.core import JID
from xiot.xep import roster

from .peers import Peer, needs, slixmpp

pytestmark = pytest.mark.peers

ROMEO = "romeo@localhost/slixmpp"
TEXT = "\U0001f339 art thou not Romeo & a <Montague>? \u00e9\ud55c"


@pytest.fixture(autouse=True)
def _installed() -> None:
    package("slixmpp")


@asynccontextmanager
async def both(folder: Path, us: str) -> AsyncIterator[tuple[Client, Peer]]:
    """Our client as `us`, and slixmpp as romeo."""
    async with serving(folder) as running:
        await running.account("romeo", "juliet")
        async with running.connect(us) as client, slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file) as peer:
            assert (await peer.next("session"))["jid"] == ROMEO
            yield client, peer


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    with trio.fail_after(5):
        while not holds():
            await trio.sleep(0.01)


async def presence_of(client: Client, sender: str) -> Presence:
    """The next presence of `sender` that `client` gets."""
    while True:
        presence: Presence = await next_of(client.presences())
        if str(presence.sender) == sender:
            return presence


@pytest.mark.parametrize("tls_version", ["TLSv1_3", "TLSv1_2"])
async def test_slixmpp_logs_in_over_starttls_with_the_certificate_verified(tmp_path: Path, tls_version: str) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file, tls_version=tls_version) as peer:
            session = await peer.next("session")
            assert session["jid"] == ROMEO
            assert session["verified"]
            assert session["tls"].replace(".", "_") == tls_version
            # At TLS 1.2 slixmpp first tries to bind to tls-unique, which we do not offer, and then does without.
            assert session["mechanism"] == "SCRAM-SHA-256"


async def test_slixmpp_refuses_a_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with slixmpp(running, "romeo/slixmpp", ca_file=None) as peer:
            assert "CERTIFICATE_VERIFY_FAILED" in (await peer.next("untrusted"))["reason"]


async def test_slixmpp_is_told_that_the_password_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with slixmpp(running, "romeo/slixmpp", PASSWORD + "x", ca_file=running.ca_file) as peer:
            await peer.next("refused")


async def test_messages_go_both_ways(tmp_path: Path) -> None:
    async with both(tmp_path, "juliet@localhost/balcony") as (juliet, peer):
        await peer.do("message", to=str(juliet.jid), body=TEXT)
        got = await next_of(juliet.messages())
        assert (str(got.sender), got.type, got.body) == (ROMEO, "chat", TEXT)
        id = await juliet.send_message(ROMEO, TEXT[::-1])
        answer = await peer.next("message")
        assert answer == {"event": "message", "sender": str(juliet.jid), "type": "chat", "id": id, "body": TEXT[::-1]}


async def test_a_message_to_nobody_comes_back_to_slixmpp_as_an_error(tmp_path: Path) -> None:
    async with both(tmp_path, "juliet") as (_, peer):
        await peer.do("message", to="nobody@localhost", body=TEXT)
        refused = await peer.next("message")
        assert (refused["sender"], refused["type"]) == ("nobody@localhost", "error")


async def test_resources_of_one_account_see_each_other(tmp_path: Path) -> None:
    async with both(tmp_path, "romeo@localhost/xiot") as (us, peer):
        await us.send_presence(show="away", status="in the orchard", priority=3)
        await peer.do("presence", show="dnd", status=TEXT, priority=-1)
        seen = await presence_of(us, ROMEO)
        assert (seen.type, seen.show, seen.status, seen.priority) == (None, "dnd", TEXT, -1)
        ours = await peer.next("presence")
        while ours["sender"] == ROMEO:  # its own comes back to it too (RFC 6121 section 4.2.2)
            ours = await peer.next("presence")
        assert (ours["sender"], ours["show"], ours["status"], ours["priority"]) == (
            str(us.jid),
            "away",
            "in the orchard",
            3,
        )
        await peer.do("presence", type="unavailable")
        assert (await presence_of(us, ROMEO)).type == "unavailable"


async def test_directed_presence_goes_to_another_account_and_is_taken_back_at_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("juliet@localhost/balcony") as juliet:
            async with slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file) as peer:
                await peer.next("session")
                await peer.do("presence", to=str(juliet.jid), show="chat", status=TEXT)
                seen = await presence_of(juliet, ROMEO)
                assert (seen.type, seen.show, seen.status) == (None, "chat", TEXT)
                await juliet.send_presence(ROMEO, show="xa", status="asleep")
                got = await peer.next("presence")
                assert (got["sender"], got["show"], got["status"]) == (str(juliet.jid), "xa", "asleep")
                await juliet.send_presence(ROMEO, type="unavailable")
                got = await peer.next("presence")
                assert (got["sender"], got["type"]) == (str(juliet.jid), "unavailable")
            assert (await presence_of(juliet, ROMEO)).type == "unavailable"  # RFC 6121 section 4.6.3


async def test_a_roster_change_of_slixmpp_is_pushed_to_us(tmp_path: Path) -> None:
    async with both(tmp_path, "romeo@localhost/xiot") as (us, peer):
        await roster.fetch(us, us.roster)
        assert not us.roster.items
        contact = JID("juliet@localhost")
        await peer.do("set_roster", jid=str(contact), name="Julia \u2665", groups=["Capulets", "Verona & <more>"])
        await peer.next("done")
        await until(lambda: contact in us.roster.items)
        item = us.roster.items[contact]
        assert (item.name, item.subscription, set(item.groups)) == (
            "Julia \u2665",
            "none",
            {"Capulets", "Verona & <more>"},
        )
        await peer.do("set_roster", jid=str(contact), subscription="remove")
        await peer.next("done")
        await until(lambda: contact not in us.roster.items)
        await peer.do("set_roster", jid=str(contact), subscription="remove")
        assert (await peer.next("error"))["condition"] == "item-not-found"  # RFC 6121 section 2.5.3


async def test_a_roster_change_of_ours_is_pushed_to_slixmpp(tmp_path: Path) -> None:
    async with both(tmp_path, "romeo@localhost/xiot") as (us, peer):
        await peer.do("get_roster")
        assert await peer.next("roster") == {"event": "roster", "type": "result", "items": [], "known": []}
        contact = JID("juliet@localhost")
        await roster.set_item(us, contact, "Julia \u2665", ["Verona & <more>", "Capulets"])
        push = await peer.next("roster")
        item = {
            "jid": "juliet@localhost",
            "name": "Julia \u2665",
            "subscription": "none",
            "groups": ["Capulets", "Verona & <more>"],
        }
        assert push == {"event": "roster", "type": "set", "items": [item], "known": [str(contact)]}
        await roster.remove(us, contact)
        push = await peer.next("roster")
        assert [(i["jid"], i["subscription"]) for i in push["items"]] == [("juliet@localhost", "remove")]
        assert push["known"] == []


async def test_a_vcard_of_slixmpp_is_read_again(tmp_path: Path) -> None:
    needs("XEP-0054")
    async with both(tmp_path, "juliet") as (_, peer):
        await peer.ask("set_vcard", name="Romeo & Montague")
        assert (await peer.ask("get_vcard", jid="romeo@localhost"))["name"] == "Romeo & Montague"


async def test_whom_slixmpp_blocks_is_not_heard(tmp_path: Path) -> None:
    needs("XEP-0191")
    async with both(tmp_path, "juliet@localhost/balcony") as (juliet, peer):
        await peer.ask("block", jid="juliet@localhost")
        assert (await peer.ask("blocked"))["jids"] == ["juliet@localhost"]
        await juliet.send_message(ROMEO, "first")
        assert (await next_of(juliet.messages())).type == "error"
        await peer.ask("unblock", jid="juliet@localhost")
        await juliet.send_message(ROMEO, "second")
        assert (await peer.next("message"))["body"] == "second"


async def test_carbons_of_what_we_send_and_receive_come_to_slixmpp(tmp_path: Path) -> None:
    needs("XEP-0280")
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/xiot") as us,
            running.connect("juliet@localhost/balcony") as juliet,
            slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file) as peer,
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


async def test_slixmpp_resumes_after_a_cut_and_loses_nothing(tmp_path: Path) -> None:
    needs("XEP-0198")
    async with both(tmp_path, "juliet@localhost/balcony") as (juliet, peer):
        await peer.next("managed")
        await peer.do("cut")
        await peer.next("suspended")
        for number in range(20):
            await juliet.send_message(ROMEO, str(number))
        await peer.do("reconnect")
        await peer.next("resumed")
        assert [(await peer.next("message"))["body"] for _ in range(20)] == [str(n) for n in range(20)]
