# SPDX-License-Identifier: Apache-2.0
"""The thin thread: our client against our server, over real sockets and TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import xiot
from xiot.core import JID
from xiot.xep import disco, register, version
from xiot.xep.ping import Ping

from .serving import PASSWORD, next_of, serving


@pytest.mark.security(statement=56)
async def test_a_message_to_a_full_jid_arrives_stamped(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard") as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            await romeo.send_message(juliet.jid, "art thou not Romeo & a <Montague>?")
            got = await next_of(juliet.messages())
            assert (got.sender, got.type, got.body) == (romeo.jid, "chat", "art thou not Romeo & a <Montague>?")
            assert running.server.router.routed == 1


async def test_a_message_to_a_bare_jid_goes_to_who_is_available(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet") as juliet:
            await romeo.send_message("juliet@localhost", "too early")
            assert await romeo.ping() > 0
            await juliet.send_presence(priority=1)
            await next_of(juliet.presences())
            await romeo.send_message("juliet@localhost", "hark")
            early, hark = [await next_of(juliet.messages()) for _ in range(2)]
            assert (early.body, hark.body) == ("too early", "hark")
            assert early.element.find("{urn:xmpp:delay}delay").get("from") == "localhost"
            assert hark.element.find("{urn:xmpp:delay}delay") is None


async def test_publish_and_subscribe(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler, running.connect("app") as app:
            first = xiot.reading(temperature=(21.5, "Cel"))
            await boiler.publish("plant/boiler", first)
            async with app.subscribe("plant/boiler") as readings:
                item = await next_of(readings)
                assert item.reading == first
                second = xiot.reading(temperature=(22.25, "Cel"), burner=True, state="on")
                id = await boiler.publish("plant/boiler", second)
                item = await next_of(readings)
                assert (item.id, item.publisher.bare, item.reading) == (id, JID("boiler@localhost"), second)
            with pytest.raises(xiot.StanzaError, match="forbidden"):
                await app.publish("plant/boiler", first)
            with pytest.raises(xiot.StanzaError, match="item-not-found"):
                async with app.subscribe("plant/none"):
                    pass


@pytest.mark.security(row=40)
async def test_wrong_password_and_unknown_user_are_refused_alike(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        for name, password in (("romeo", "wrong"), ("nobody", PASSWORD)):
            with pytest.raises(xiot.AuthError, match="not-authorized"):
                async with xiot.connect(
                    f"{name}@localhost", password, address=running.address, ca_file=running.ca_file
                ):
                    pass


async def test_direct_tls_and_anonymous(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with xiot.connect(
            "romeo@localhost", PASSWORD, address=running.tls_address, ca_file=running.ca_file, tls="direct"
        ) as romeo:
            assert await romeo.ping() > 0
        async with xiot.connect(
            "anon.localhost", address=running.tls_address, ca_file=running.ca_file, tls="direct"
        ) as anon:
            assert anon.jid.domain == "anon.localhost"
            assert await anon.ping() > 0


async def test_what_the_server_tells_of_itself(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            info = await disco.info(romeo, "localhost")
            assert info.can("urn:xmpp:ping")
            assert ("server", "im") in {(i.category, i.type) for i in info.identities}
            assert JID("pubsub.localhost") in {item.jid for item in await disco.items(romeo, "localhost")}
            assert (await version.version(romeo, "localhost")).name == "xiot"
            with pytest.raises(xiot.StanzaError, match="remote-server-not-found"):
                await disco.info(romeo, "elsewhere.example")


@pytest.mark.security(row=31)
async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        with pytest.raises(xiot.LinkError, match="certificate of localhost is refused"):
            async with xiot.connect("romeo@localhost", PASSWORD, address=running.address):
                pass


@pytest.mark.security(statement=22)
async def test_system_shutdown_ends_every_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo", reconnect=False) as romeo:
            await running.server._drain()
            with pytest.raises(xiot.StreamError, match="system-shutdown"), trio.fail_after(5):
                async for _ in romeo.messages():
                    pass


@pytest.mark.security(statement=20)
async def test_a_conflict_takes_the_old_session_away_before_the_new_one_comes(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler, running.connect("app@localhost/fix") as old:
            await boiler.publish("n", xiot.reading(x=1))
            async with running.connect("app@localhost/fix") as new:
                async with new.subscribe("n") as items:
                    await next_of(items)
                    with pytest.raises(xiot.StreamError, match="conflict"):
                        await next_of(old.messages())
                    await trio.sleep(0.2)  # the old connection is gone by now
                    await boiler.publish("n", xiot.reading(x=2))
                    assert (await next_of(items)).reading["x"].value == 2
                    assert len(running.server.hosts["localhost"].sessions(JID("app@localhost"))) == 1


async def test_tasks_of_a_session_end_with_it_and_a_fault_in_one_ends_the_stream_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo", reconnect=False) as romeo, running.connect("juliet") as juliet:
            (session,) = running.server.hosts["localhost"].sessions(JID("romeo@localhost"))
            done: list[str] = []
            session.after(0, lambda: done.append("now"))
            session.after(0.01, lambda: done.append("soon"))
            session.after(60, lambda: done.append("never"))
            await trio.sleep(0.1)
            assert done == ["now", "soon"]

            def fail() -> None:
                raise ZeroDivisionError

            session.after(0, fail)
            with pytest.raises(xiot.StreamError, match="internal-server-error"):
                await next_of(romeo.messages())
            assert await juliet.ping() > 0


async def test_whoever_removes_an_account_ends_all_its_streams(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as one, running.connect("romeo") as two:
            await register.cancel(one)
            for client in (one, two):
                with pytest.raises(xiot.StreamError, match="not-authorized"):
                    await next_of(client.messages())


async def test_requests_to_an_account_that_does_not_exist_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo:
            assert await romeo.request("get", Ping(), to="juliet@localhost") is None
            with pytest.raises(xiot.StanzaError, match="service-unavailable"):
                await romeo.request("get", Ping(), to="nobody@localhost")
