# SPDX-License-Identifier: Apache-2.0
"""The small specifications in a real server: what is wired, stored, and gone with its account."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import xiot
from xiot.core import JID, Element
from xiot.model.blocking import Block
from xiot.model.documents import Document
from xiot.model.logout import Logout
from xiot.server.config import ConfigError, load
from xiot.store import Transaction
from xiot.xep import caps, contact, disco, entitytime, last, private, vcard
from xiot.xep.limits import Limits, limits

from .serving import Running, next_of, serving, settings

PREFS = Element("{exodus:prefs}exodus", None, "Hamlet")


async def eventually(condition: object, seconds: float = 10) -> None:
    """Wait until `condition()` holds."""
    with trio.fail_after(seconds):
        while not await condition():  # type: ignore[operator]
            await trio.sleep(0.01)


async def logout_of(running: Running, bare: str) -> Logout | None:
    return await running.server.store.run(lambda tx: tx.logouts.get(bare))


async def test_documents_outlive_the_session_but_not_the_account(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            await private.put(romeo, PREFS)
            await vcard.publish(romeo, vcard.VCard.of(FN="Romeo"))
        async with running.connect("romeo") as romeo:
            assert await private.get(romeo, PREFS.tag) == PREFS
            assert await vcard.fetch(romeo) == vcard.VCard.of(FN="Romeo")
            for name in "abcde":
                await private.put(romeo, Element(f"{{n}}{name}", None, "x" * 200_000))
            with pytest.raises(xiot.StanzaError, match="resource-constraint"):
                await private.put(romeo, Element("{n}f", None, "x" * 200_000))
        await running.server.accounts.remove(JID("romeo@localhost"))
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            assert await private.get(romeo, PREFS.tag) == Element(PREFS.tag)
            assert await vcard.fetch(romeo) is None


async def test_account_that_is_removed_takes_all_its_rows_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        bare = "romeo@localhost"
        await running.account("romeo")

        def fill(tx: Transaction) -> None:
            tx.documents.put(Document(bare, "vcard", "", b"<x/>"))
            tx.logouts.put([Logout(bare, entitytime.Clock().now())])
            tx.blocks.put(Block(bare, "tybalt@localhost"))

        await running.server.store.run(fill)
        await running.server.accounts.remove(JID(bare))
        left = await running.server.store.run(
            lambda tx: (tx.documents.sizes(bare), tx.logouts.get(bare), list(tx.blocks.jids(bare)))
        )
        assert left == (0, None, [])


async def test_guest_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path, starttls="optional") as running:
        async with xiot.connect("anon.localhost", address=running.address, ca_file=running.ca_file) as guest:
            with pytest.raises(xiot.StanzaError, match="not-allowed"):
                await private.put(guest, PREFS)
            bare = str(guest.jid.bare)
        await eventually(lambda: gone(running, bare))
        await running.server.store.run(lambda tx: None)  # what was queued before is done
        assert await logout_of(running, bare) is None


async def gone(running: Running, bare: str) -> bool:
    return not any(session.account == JID(bare) for session in running.server.sessions)


async def test_last_words_are_kept_when_the_last_session_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/home") as other:
            async with running.connect("romeo") as romeo:
                await romeo.send_presence()
                await next_of(romeo.presences())
                await romeo.send_presence(type="unavailable", status="out")
                assert (await romeo.ping()) >= 0
            await eventually(lambda: only(running, other.jid))
            assert await logout_of(running, "romeo@localhost") is None
            await other.send_presence()
            await next_of(other.presences())
            assert await last.last(other, "romeo@localhost") == last.Last(seconds=0)
            await other.send_presence(type="unavailable", status="Heading Home")
        await eventually(lambda: has_logout(running))
        logout = await logout_of(running, "romeo@localhost")
        assert logout is not None
        assert logout.status == "Heading Home"
        async with running.connect("romeo") as romeo:
            told = await last.last(romeo, "romeo@localhost")
            assert told.seconds is not None
            assert (0 <= told.seconds < 60, told.status) == (True, "Heading Home")


async def only(running: Running, jid: JID) -> bool:
    return [session.jid for session in running.server.sessions if session.account == jid.bare] == [jid]


async def has_logout(running: Running) -> bool:
    return await logout_of(running, "romeo@localhost") is not None


async def test_account_removed_while_online_leaves_no_logout(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            await running.server.accounts.remove(JID("romeo@localhost"))
            assert await romeo.ping() >= 0
        await eventually(lambda: gone(running, "romeo@localhost"))
        await running.server.store.run(lambda tx: None)
        assert await logout_of(running, "romeo@localhost") is None


async def test_host_tells_its_uptime_its_time_and_its_people(tmp_path: Path) -> None:
    config = settings()
    config = config.replace('registration = "open"', 'contact = {abuse = ["mailto:abuse@localhost"]}')
    async with serving(tmp_path, config=config) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            for place in ("localhost", "pubsub.localhost"):
                uptime = (await last.last(romeo, place)).seconds
                assert uptime is not None
                assert 0 <= uptime < 60
                assert (await entitytime.time(romeo, place)).utcoffset() is not None
            assert await contact.addresses(romeo, "localhost") == {"abuse": ("mailto:abuse@localhost",)}


@pytest.mark.parametrize("uri", ["abuse@localhost", "", "mailto:", "mailto:a b", "https://a/<b>"])
def test_contact_that_is_no_uri_is_refused(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "xiot.toml"
    path.write_text(f'[[host]]\nname = "a.example"\n[host.contact]\nabuse = ["{uri}"]\n')
    with pytest.raises(ConfigError, match=r"host\[0\]\.contact\.abuse.* is not an URI like"):
        load(path)


async def test_client_tells_its_capabilities_in_presence_and_answers_for_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/a") as one, running.connect("romeo@localhost/b") as two:
            await two.send_presence()
            await one.send_presence()
            cache = caps.Cache()
            with trio.fail_after(10):
                async for presence in two.presences():
                    if presence.sender == one.jid:
                        break
            c = caps.C.from_element(presence.element.find(caps.C.TAG))
            info = await caps.capabilities(two, one.jid, c, cache)
            assert info.can(caps.NS)
            assert cache.get(c) == info


# ---- limits ----


async def until(stream: trio.SocketStream, text: bytes, received: bytes = b"") -> bytes:
    with trio.fail_after(10):
        while text not in received:
            data = await stream.receive_some(65536)
            assert data, received[-300:]
            received += data
    return received


OPEN = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='localhost'>"


def told(features: bytes) -> Limits:
    element = features[features.index(b"<stream:features>") :]
    return limits(Element.fromstring(OPEN + element + b"</stream:stream>")[0])


async def logged_in(running: Running) -> tuple[trio.SocketStream, Limits, Limits]:
    """A raw stream of romeo, bound, and the limits it was told before and after login."""
    stream = await running.raw()
    await stream.send_all(OPEN)
    early = told(await until(stream, b"</stream:features>"))
    auth = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHMzY3JldA==</auth>"
    await stream.send_all(auth)
    await until(stream, b"<success")
    await stream.send_all(OPEN)
    late = told(await until(stream, b"</stream:features>"))
    await stream.send_all(b"<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    await until(stream, b"</iq>")
    return stream, early, late


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.security(statement=82)
async def test_limit_that_is_told_is_kept_to_the_octet(tmp_path: Path, over: int) -> None:
    """Statement 82 of the security requirements."""
    async with serving(tmp_path, starttls="off", plain=True, max_stanza_bytes=12_000) as running:
        await running.account("romeo")
        stream, early, late = await logged_in(running)
        assert (early.max_bytes, late.max_bytes) == (10_000, 12_000)
        head, tail = b"<iq id='1' type='get'><ping xmlns='urn:xmpp:ping' x='", b"'/></iq>"
        await stream.send_all(head + b"x" * (12_000 - len(head) - len(tail) + over) + tail)
        answer = await until(stream, b"policy-violation" if over else b"<iq ")
        assert (b"<stream:error>" in answer) == bool(over)
        await stream.aclose()


@pytest.mark.security(row=45, statement=(61, 82))
async def test_limit_before_login_is_kept_to_the_octet(tmp_path: Path) -> None:
    for over in (0, 1):
        async with serving(tmp_path, starttls="off", plain=True) as running:
            stream = await running.raw()
            await stream.send_all(OPEN)
            early = told(await until(stream, b"</stream:features>"))
            assert early.max_bytes == 10_000
            head, tail = b"<iq id='1' type='get'><query xmlns='jabber:iq:register' x='", b"'/></iq>"
            await stream.send_all(head + b"x" * (early.max_bytes - len(head) - len(tail) + over) + tail)
            await until(stream, b"policy-violation" if over else b"<username")
            await stream.aclose()


async def test_capabilities_of_the_host_are_a_stream_feature(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        host = running.server.hosts["localhost"]
        (c,) = [el for el in host.policy.extra_features(True) if el.tag == caps.C.TAG]
        async with running.connect("romeo") as romeo:
            cache, capabilities = caps.Cache(), caps.C.from_element(c)
            info = await caps.capabilities(romeo, JID("localhost"), capabilities, cache)
            assert cache.get(capabilities) == info
            assert info == await disco.info(romeo, "localhost", capabilities.full_node)
