# SPDX-License-Identifier: Apache-2.0
"""slixmpp at our server, together with our client: login, messages, presence, roster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.serving import PASSWORD, serving
from tests.shared import package
from xiot.core import JID
from xiot.xep import roster

from .peers import TEXT, both, needs, presence_of, romeo, slixmpp, until

pytestmark = pytest.mark.peers

ROMEO = romeo("slixmpp")


@pytest.fixture(autouse=True)
def _installed() -> None:
    package("slixmpp")


@pytest.mark.parametrize("tls_version", ["TLSv1_3", "TLSv1_2"])
async def test_slixmpp_logs_in_over_starttls_with_the_certificate_verified(tmp_path: Path, tls_version: str) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with slixmpp(running, "romeo/slixmpp", ca_file=running.ca_file, tls_version=tls_version) as peer:
            session = await peer.next("session")
            assert session["jid"] == str(ROMEO)
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


async def test_a_message_to_nobody_comes_back_to_slixmpp_as_an_error(tmp_path: Path) -> None:
    async with both(tmp_path, "slixmpp", "juliet") as (_, peer):
        await peer.do("message", jid="nobody@localhost", body=TEXT)
        refused = await peer.next("message")
        assert (refused["sender"], refused["type"]) == ("nobody@localhost", "error")


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
    async with both(tmp_path, "slixmpp", "romeo@localhost/xiot") as (us, peer):
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
    async with both(tmp_path, "slixmpp", "romeo@localhost/xiot") as (us, peer):
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
    async with both(tmp_path, "slixmpp", "juliet") as (_, peer):
        await peer.ask("set_vcard", name="Romeo & Montague")
        assert (await peer.ask("get_vcard", jid="romeo@localhost"))["name"] == "Romeo & Montague"


async def test_slixmpp_resumes_after_a_cut_and_loses_nothing(tmp_path: Path) -> None:
    needs("XEP-0198")
    async with both(tmp_path, "slixmpp", "juliet@localhost/balcony") as (juliet, peer):
        await peer.next("managed")
        await peer.do("cut")
        await peer.next("suspended")
        for number in range(20):
            await juliet.send_message(ROMEO, str(number))
        await peer.do("reconnect")
        await peer.next("resumed")
        assert [(await peer.next("message"))["body"] for _ in range(20)] == [str(n) for n in range(20)]
