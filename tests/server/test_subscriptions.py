# SPDX-License-Identifier: Apache-2.0
"""Subscriptions to presence between clients of one server (RFC 6121 sections 2.5 and 3; statements 69 and 72), as they see it."""

from __future__ import annotations

from pathlib import Path

import pytest

import xiot
from xiot.core import JID
from xiot.xep import roster

from .actors import HOST, bare, stage
from .serving import next_of, serving


async def test_request_grant_and_presence_in_the_order_of_the_rfc(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony", 5)
        said = await romeo.says(
            f"<presence type='subscribe' to='{bare(juliet)}/nobody'><status>pray</status></presence>"
        )
        assert said == ["push juliet none ask"]
        assert await juliet.says() == ["presence subscribe romeo pray"]
        assert await juliet.says(f"<presence type='subscribed' to='{bare(romeo)}'/>") == ["push romeo from"]
        assert await romeo.says() == ["presence subscribed juliet", "push juliet to", "presence juliet/balcony 5"]
        assert await juliet.fetch_roster() == ["romeo from"]


async def test_request_is_shown_at_each_login_until_it_is_answered(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        await romeo.stanzas(f"<presence type='subscribe' to='juliet@{HOST}'><nick xmlns='n'>R</nick></presence>")
        for _ in range(2):
            juliet = await play.enter("juliet/balcony", None)
            assert await juliet.fetch_roster() == []
            presences = await juliet.stanzas("<presence/>")
            request = presences[-1]
            assert (request.get("type"), request.get("from"), request.get("to")) == (
                "subscribe", f"romeo@{HOST}", f"juliet@{HOST}",
            )  # fmt: skip
            assert request.findtext("{n}nick") == "R"
            await juliet.leave()
        juliet = await play.enter("juliet/balcony")
        await juliet.stanzas(f"<presence type='unsubscribed' to='romeo@{HOST}'/>")
        assert await romeo.says() == ["presence unsubscribed juliet", "push juliet none"]
        await juliet.leave()
        juliet = await play.enter("juliet/balcony", None)
        assert await juliet.says("<presence/>") == ["presence juliet/balcony"]


async def test_cancelling_shows_unavailable_first(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        assert await juliet.says(f"<presence type='unsubscribed' to='{bare(romeo)}'/>") == ["push romeo to"]
        assert await romeo.says() == [
            "presence unavailable juliet/balcony", "presence unsubscribed juliet", "push juliet from",
        ]  # fmt: skip
        await juliet.stanzas("<presence><show>away</show></presence>")
        assert await romeo.says() == []


async def test_unsubscribing_is_told_and_ends_in_unavailable(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        said = await romeo.says(f"<presence type='unsubscribe' to='{bare(juliet)}'/>")
        assert said == ["push juliet from", "presence unavailable juliet/balcony"]
        assert await juliet.says() == ["presence unsubscribe romeo", "push romeo to"]


async def test_request_that_was_approved_beforehand_needs_nobody(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        juliet = await play.enter("juliet/balcony")
        assert await juliet.says(f"<presence type='subscribed' to='romeo@{HOST}'/>") == ["push romeo none approved"]
        romeo = await play.enter("romeo/orchard")
        said = await romeo.says(f"<presence type='subscribe' to='{bare(juliet)}'/>")
        assert said == [
            "push juliet none ask", "presence subscribed juliet", "push juliet to", "presence juliet/balcony 0",
        ]  # fmt: skip
        assert await juliet.says() == ["push romeo from approved"]


async def test_removing_a_contact_ends_both_directions(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        removal = f"<query xmlns='jabber:iq:roster'><item jid='{bare(juliet)}' subscription='remove'/></query>"
        said = await romeo.says(f"<iq type='set' id='x'>{removal}</iq>")
        assert said == ["presence unavailable juliet/balcony", "push juliet remove", "iq result"]
        assert await juliet.says() == [
            "presence unavailable romeo/orchard",
            "presence unsubscribe romeo",
            "push romeo to",
            "presence unsubscribed romeo",
            "push romeo none",
        ]
        await romeo.stanzas("<presence><show>away</show></presence>")
        await juliet.stanzas("<presence><show>away</show></presence>")
        assert [s for actor in (romeo, juliet) for s in await actor.says() if "presence" in s] == []


@pytest.mark.security(statement=69)
async def test_pushes_go_to_those_who_asked_for_the_roster_requests_to_those_who_are_available(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        mute = await play.enter("juliet/mute", None)
        blind = await play.enter("juliet/blind", roster=False)
        await romeo.stanzas(f"<presence type='subscribe' to='juliet@{HOST}'/>")
        assert await blind.says() == ["presence subscribe romeo"]
        assert await mute.says() == []
        assert await blind.says(f"<presence type='subscribed' to='{bare(romeo)}'/>") == []
        assert await mute.says() == ["push romeo from"]


@pytest.mark.security(statement=72)
async def test_versions_grow_with_each_change_of_a_subscription(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await romeo.stanzas(f"<presence type='subscribe' to='{bare(juliet)}'/>")
        await juliet.stanzas(f"<presence type='subscribed' to='{bare(romeo)}'/>")
        await romeo.stanzas()
        (result,) = await romeo.stanzas("<iq type='get' id='r'><query xmlns='jabber:iq:roster' ver=''/></iq>")
        assert result[0].get("ver") == "2"
        (result,) = await romeo.stanzas("<iq type='get' id='r'><query xmlns='jabber:iq:roster' ver='2'/></iq>")
        assert len(result) == 0


@pytest.mark.parametrize("verb", ["subscribe", "subscribed", "unsubscribe", "unsubscribed"])
async def test_accounts_that_do_not_exist_are_silent(tmp_path: Path, verb: str) -> None:
    async with stage(tmp_path, "romeo") as play:
        romeo = await play.enter("romeo/orchard")
        said = await romeo.says(f"<presence type='{verb}' to='nobody@{HOST}'/>")
        assert said == {
            "subscribe": ["push nobody none ask"],
            "subscribed": ["push nobody none approved"],
        }.get(verb, [])


async def test_nobody_asks_themselves(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo") as play:
        romeo = await play.enter("romeo/orchard")
        assert await romeo.says(f"<presence type='subscribe' to='{bare(romeo)}'/>") == []


async def test_unknown_type_and_unknown_host_are_refused(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        assert await romeo.says(f"<presence type='befriend' to='juliet@{HOST}'/>") == [
            "presence error juliet bad-request"
        ]
        assert await romeo.says("<presence type='subscribe' to='tybalt@example.org'/>") == [
            "presence error tybalt@example.org remote-server-not-found"
        ]


async def test_long_request_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        said = await romeo.says(
            f"<presence type='subscribe' to='juliet@{HOST}'><status>{'x' * 3000}</status></presence>"
        )
        assert said == ["presence error juliet not-acceptable"]
        assert await romeo.fetch_roster() == []


async def test_removed_account_leaves_its_contacts(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        await play.server.accounts.remove(JID(bare(romeo)))
        assert await juliet.says() == [
            "presence unavailable romeo/orchard",
            "presence unsubscribe romeo",
            "push romeo to",
            "presence unsubscribed romeo",
            "push romeo none",
        ]
        await romeo.leave()
        assert await juliet.says() == []


async def test_anonymous_users_have_no_subscriptions(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with xiot.connect(
            "anon.localhost", address=running.tls_address, ca_file=running.ca_file, tls="direct"
        ) as anon:
            await roster.subscribe(anon, JID("romeo@localhost"))
            refused = await next_of(anon.presences())
            assert (refused.type, refused.sender) == ("error", JID("romeo@localhost"))


async def test_the_functions_of_our_client(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo@localhost/o") as romeo, running.connect("juliet@localhost/b") as juliet:
            for client in (romeo, juliet):
                await roster.fetch(client, client.roster)
                await client.send_presence()
                await next_of(client.presences())
            await roster.subscribe(romeo, juliet.jid, "pray")
            asked = await next_of(juliet.presences())
            assert (asked.type, asked.sender, asked.status) == ("subscribe", romeo.jid.bare, "pray")
            await roster.approve(juliet, romeo.jid)
            assert (await next_of(romeo.presences())).type == "subscribed"
            assert (await next_of(romeo.presences())).sender == juliet.jid
            assert romeo.roster.items[juliet.jid.bare].subscription == "to"
            await roster.refuse(juliet, romeo.jid)
            assert [(await next_of(romeo.presences())).type for _ in range(2)] == ["unavailable", "unsubscribed"]
            await roster.subscribe(romeo, juliet.jid)
            assert (await next_of(juliet.presences())).type == "subscribe"
            await roster.unsubscribe(romeo, juliet.jid)
            assert (await next_of(juliet.presences())).type == "unsubscribe"
