# SPDX-License-Identifier: Apache-2.0
"""aioxmpp at our server, together with our client: login, messages, presence, roster, and what the server's extensions give it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.server.serving import PASSWORD, next_of, serving
from tests.shared import package
from xiot.core import JID
from xiot.xep import roster

from .peers import Peer, aioxmpp, both, needs, romeo, slixmpp, until

pytestmark = pytest.mark.peers

ROMEO = romeo("aioxmpp")


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
            assert (session["jid"], session["tls"], session["verified"]) == (str(ROMEO), "TLSv1.3", True)


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


async def test_a_roster_change_of_aioxmpp_is_pushed_to_us(tmp_path: Path) -> None:
    async with both(tmp_path, "aioxmpp", "romeo@localhost/xiot") as (us, peer):
        await roster.fetch(us, us.roster)
        contact = JID("juliet@localhost")
        await peer.ask("set_roster", jid=str(contact), name="Julia \u2665", groups=["Capulets", "Verona & <more>"])
        await until(lambda: contact in us.roster.items)
        item = us.roster.items[contact]
        assert (item.name, set(item.groups)) == ("Julia \u2665", {"Capulets", "Verona & <more>"})
        await peer.ask("remove_roster", jid=str(contact))
        await until(lambda: contact not in us.roster.items)


async def test_a_roster_change_of_ours_is_pushed_to_aioxmpp(tmp_path: Path) -> None:
    async with both(tmp_path, "aioxmpp", "romeo@localhost/xiot") as (us, peer):
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
