# SPDX-License-Identifier: Apache-2.0
"""One account is one, however its JID is spelled, wherever the server meets it; what only looks alike is another (RFC 7622)."""

from __future__ import annotations

import base64
import random
import re
import sqlite3
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import idna
import pytest
import trio

from xiot.core import JID, Element
from xiot.proto.scram import ScramClient, salted_password

from .actors import PATIENCE_S, ROSTER, Actor
from .attacks import HEADER, SASL, Peer
from .serving import PASSWORD, Running, serving, settings

HOST = "bücher.localhost"
WRITTEN_HOST = "BU\u0308CHER.LocalHost."
BLOCKING = "urn:xmpp:blocking"
PUBSUB = "http://jabber.org/protocol/pubsub"


class Spelling:
    """Writes JIDs in all the ways there are: capitals, full width, decomposed, A-labels, other dots, a final dot."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, local: str | None, domain: str, resource: str | None = None) -> str:
        written = self.domain(domain)
        if local is not None:
            written = f"{self.local(local)}@{written}"
        if resource is not None:
            written += f"/{self._decomposed(resource)}"
        assert JID(written) == JID.of(local, domain, resource)
        return written

    def local(self, text: str) -> str:
        return "".join(map(self._character, text))

    def domain(self, text: str) -> str:
        labels = [
            label if self._random.random() < 0.3 else
            idna.alabel(label).decode() if self._random.random() < 0.3 else
            "".join(map(self._character, label))
            for label in text.split(".")
        ]  # fmt: skip
        return self._random.choice([".", ".", "\u3002", "．"]).join(labels) + self._random.choice(["", "."])

    def _character(self, character: str) -> str:
        written = self._random.choice([character, character, character.upper()])
        if written.isascii() and written.isalnum() and self._random.random() < 0.2:
            return chr(ord(written) + 0xFEE0)
        return self._decomposed(written)

    def _decomposed(self, text: str) -> str:
        return unicodedata.normalize("NFD", text) if self._random.random() < 0.4 else text


class Scene:
    """The server, and who is connected to it."""

    def __init__(self, running: Running) -> None:
        self.server = running.server
        self._running = running
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        self._peers.append(Peer(await self._running.raw(), PATIENCE_S))
        return self._peers[-1]

    async def close(self) -> None:
        for peer in self._peers:
            await trio.aclose_forcefully(peer.stream)


@asynccontextmanager
async def a_server(folder: Path) -> AsyncIterator[Scene]:
    """A server of one host, whose configuration spells it in a way of its own."""
    config = settings(starttls="optional", plain=True).replace('name = "localhost"', f'name = "{WRITTEN_HOST}"')
    async with serving(folder, config=config) as running:
        scene = Scene(running)
        try:
            yield scene
        finally:
            await scene.close()


async def begin(scene: Scene, host: str) -> Peer:
    """A stream whose header spells the host like that, and that has gone on again with another one."""
    peer = await scene.peer()
    await go_on(peer, host)
    return peer


async def go_on(peer: Peer, host: str) -> None:
    peer.received = b""
    await peer.send(HEADER.replace(b"localhost", host.encode()))
    await peer.until(b"features>")


async def enter(scene: Scene, spell: Spelling, local: str, resource: str, *, priority: int | None = 0) -> Actor:
    """Log in by PLAIN or SCRAM, as it comes, under some spelling of the user name, with some spelling as authzid."""
    peer = await begin(scene, spell.domain(HOST))
    if resource.startswith("s"):
        await scram(peer, spell.local(local))
    else:
        plain = f"{spell(local, HOST)}\0{spell.local(local)}\0{PASSWORD}".encode()
        await peer.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{base64.b64encode(plain).decode()}</auth>".encode())
        await peer.until(b"<success")
    await go_on(peer, spell.domain(HOST))
    bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>"
    session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
    await peer.send(
        f"<iq id='b' type='set'>{bind}</iq><iq id='s' type='set' to='{spell.domain(HOST)}'>{session}</iq>".encode()
    )
    await peer.until(b"id='s'")
    assert b"type='error'" not in peer.received
    peer.jid = re.findall(rb"<jid>(.*)</jid>", peer.received)[0].decode()
    assert peer.jid == f"{local}@{HOST}/{resource}"
    peer.received = b""
    actor = Actor(peer)
    await actor.fetch_roster()
    if priority is not None:
        await actor.stanzas(f"<presence><priority>{priority}</priority></presence>")
    return actor


async def arrive(actor: Actor, messages: int) -> list[Element]:
    """Send initial presence; return the messages that waited."""
    await actor.send("<presence/>")
    come: list[Element] = []
    with trio.fail_after(PATIENCE_S):
        while len(come) < messages:
            come += [each for each in await actor.stanzas() if each.name == "message"]
    return come


async def scram(peer: Peer, name: str) -> None:
    client = ScramClient("SCRAM-SHA-256", name)
    first = base64.b64encode(client.first()).decode()
    await peer.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{first}</auth>".encode())
    await peer.until(b"</challenge>")
    (challenge,) = re.findall(rb"<challenge[^>]*>(.*)</challenge>", peer.received)
    salt, iterations = client.challenge(base64.b64decode(challenge))
    final = base64.b64encode(client.final(salted_password("SCRAM-SHA-256", PASSWORD, salt, iterations))).decode()
    await peer.send(f"<response xmlns='{SASL}'>{final}</response>".encode())
    await peer.until(b"<success")


def bodies(stanzas: list[Element]) -> list[str]:
    return [each.findtext("{jabber:client}body", "") for each in stanzas if each.name == "message"]


def stored(folder: Path) -> list[str]:
    """Each text in the database that is a JID of our host, or is spelled like one."""
    found = []
    with sqlite3.connect(folder / "xiot.db") as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in database.execute(f'select * from "{table}"'):
                found += [value for value in row if isinstance(value, str) and "@" in value]
    return found


JURGEN, OLGA = "jürgen", "ольга"


@pytest.mark.parametrize("seed", range(3))
async def test_every_spelling_is_the_same_account_everywhere(tmp_path: Path, seed: int) -> None:
    spell = Spelling(seed)
    async with a_server(tmp_path) as scene:
        for local in (JURGEN, OLGA):
            await scene.server.accounts.add(JID(spell(local, HOST)), PASSWORD)
        jurgen = await enter(scene, spell, JURGEN, "phone")
        olga = await enter(scene, spell, OLGA, "scram é")

        # Registration: taken is taken.
        query = (
            f"<query xmlns='jabber:iq:register'><username>{spell.local(OLGA)}</username><password>x</password></query>"
        )
        other = await begin(scene, spell.domain(HOST))
        await other.send(f"<iq type='set' id='r' to='{spell.domain(HOST)}'>{query}</iq>".encode())
        await other.until(b"<conflict")

        # Roster: one contact, however often it is set.
        for name in ("a", "b", "c"):
            item = f"<item jid='{spell(OLGA, HOST)}' name='{name}'/>"
            await jurgen.stanzas(f"<iq type='set' id='s'><query xmlns='{ROSTER}'>{item}</query></iq>")
        (result,) = [
            e
            for e in await jurgen.stanzas(f"<iq type='get' id='g'><query xmlns='{ROSTER}'/></iq>")
            if e.get("id") == "g"
        ]
        assert [(item.get("jid"), item.get("name")) for item in result[0]] == [(f"{OLGA}@{HOST}", "c")]

        # Subscriptions, both ways.
        for one, name, another, asked in ((jurgen, JURGEN, olga, OLGA), (olga, OLGA, jurgen, JURGEN)):
            await one.stanzas(f"<presence type='subscribe' to='{spell(asked, HOST)}'/>")
            await another.stanzas(f"<presence type='subscribed' to='{spell(name, HOST)}'/>")
        assert await jurgen.fetch_roster() == [f"{OLGA}@{HOST} both"]

        # Messages, to the account and to the resource; and as the sender the client may name itself as it likes.
        await jurgen.stanzas()
        await olga.stanzas(
            f"<message from='{spell(OLGA, HOST)}' to='{spell(JURGEN, HOST)}' type='chat'><body>1</body></message>"
            f"<message from='{spell(OLGA, HOST, 'scram é')}' to='{spell(JURGEN, HOST, 'phone')}'><body>2</body></message>"
        )
        come = [each for each in await jurgen.stanzas() if each.name == "message"]
        assert bodies(come) == ["1", "2"]
        assert {each.get("from") for each in come} == {f"{OLGA}@{HOST}/scram é"}

        # The block list holds one entry, and it holds for all spellings.
        for _ in range(2):
            block = f"<block xmlns='{BLOCKING}'><item jid='{spell(OLGA, HOST)}'/></block>"
            await jurgen.stanzas(f"<iq type='set' id='k'>{block}</iq>")
        come = await jurgen.stanzas(f"<iq type='get' id='l'><blocklist xmlns='{BLOCKING}'/></iq>")
        (listed,) = [each for each in come if each.get("id") == "l"]
        assert [item.get("jid") for item in listed[0]] == [f"{OLGA}@{HOST}"]
        for resource in (None, "phone"):
            await olga.stanzas(f"<message to='{spell(JURGEN, HOST, resource)}'><body>3</body></message>")
        assert bodies(await jurgen.stanzas()) == []
        unblock = f"<unblock xmlns='{BLOCKING}'><item jid='{spell(OLGA, HOST)}'/></unblock>"
        await jurgen.stanzas(f"<iq type='set' id='u'>{unblock}</iq>")
        await olga.stanzas(f"<message to='{spell(JURGEN, HOST)}'><body>4</body></message>")
        assert bodies(await jurgen.stanzas()) == ["4"]

        # Nodes: subscribed and affiliated once.
        service = spell(None, f"pubsub.{HOST}")
        await jurgen.stanzas(
            f"<iq type='set' id='n' to='{service}'><pubsub xmlns='{PUBSUB}'><create node='n'/></pubsub></iq>"
        )
        for _ in range(2):
            to, subscriber = spell(None, f"pubsub.{HOST}"), spell(OLGA, HOST)
            await olga.stanzas(
                f"<iq type='set' id='n' to='{to}'><pubsub xmlns='{PUBSUB}'><subscribe node='n' jid='{subscriber}'/></pubsub></iq>"
            )
            await jurgen.stanzas(
                f"<iq type='set' id='a' to='{to}'><pubsub xmlns='{PUBSUB}#owner'><affiliations node='n'>"
                f"<affiliation jid='{subscriber}' affiliation='publisher'/></affiliations></pubsub></iq>"
            )
        await olga.stanzas()
        publish = (
            f"<pubsub xmlns='{PUBSUB}'><publish node='n'><item id='1'><x xmlns='urn:x'/></item></publish></pubsub>"
        )
        come = await olga.stanzas(f"<iq type='set' id='p' to='{service}'>{publish}</iq>")
        assert sorted((each.name, each.get("type")) for each in come) == [("iq", "result"), ("message", "headline")]

        # The same resource by another spelling: one session.
        again = await enter(scene, spell, JURGEN, "phone")
        await jurgen.peer.until(b"<conflict")
        assert [str(session.jid) for session in scene.server.hosts[HOST].sessions(JID(f"{JURGEN}@{HOST}"))] == [
            again.jid
        ]

        # Offline messages, and what is left of all this.
        await again.leave()
        for number in range(2):
            await olga.stanzas(f"<message to='{spell(JURGEN, HOST)}' type='chat'><body>{number}</body></message>")
        back = await enter(scene, spell, JURGEN, "sofa", priority=None)
        assert bodies(await arrive(back, 2)) == ["0", "1"]
        remove = f"<item jid='{spell(OLGA, HOST)}' subscription='remove'/>"
        await back.stanzas(f"<iq type='set' id='d'><query xmlns='{ROSTER}'>{remove}</query></iq>")
        assert await back.fetch_roster() == []
        for actor in (olga, back):
            await actor.leave()
        jids = stored(tmp_path)
        assert {JID(text).bare for text in jids} == {JID(f"{local}@{HOST}") for local in (JURGEN, OLGA)}
        assert set(jids) <= {str(JID(text)) for text in jids}


LOOKALIKES = [
    ("jurgen", "jürgen"),
    ("anna", "аnna"),  # the first letter of the second is Cyrillic
    ("l1", "ll"),
    (r"a\20b", "a20b"),
    ("ιωαννα", "ιωάννα"),
    ("か", "カ"),
]


async def test_what_only_looks_alike_is_another_account(tmp_path: Path) -> None:
    spell = Spelling(1)
    async with a_server(tmp_path) as scene:
        for pair in LOOKALIKES:
            for local in pair:
                await scene.server.accounts.add(JID.of(local, HOST), PASSWORD)
            sender, bystander = [await enter(scene, spell, local, "phone") for local in pair]
            await sender.stanzas(f"<message to='{spell(pair[0], HOST, 'phone')}'><body>mine</body></message>")
            assert bodies(await bystander.stanzas()) == []
            await sender.stanzas(f"<message to='{spell(pair[1], HOST, 'phone')}'><body>yours</body></message>")
            assert bodies(await bystander.stanzas()) == ["yours"]


NOBODY = ["fußball", "νίκος", "ΝΙΚΟΣ", "а\u200dб", "henryⅣ", "אa", "a\u00adb", "a＠b", "a：b"]


async def test_name_of_which_preparations_make_two_is_nobodys(tmp_path: Path) -> None:
    """No account can have it, nobody can log in by it, and no stanza goes there."""
    async with a_server(tmp_path) as scene:
        await scene.server.accounts.add(JID.of("romeo", HOST), PASSWORD)
        romeo = await enter(scene, Spelling(2), "romeo", "phone")
        for local in NOBODY:
            (answer,) = await romeo.says(f"<message to='{local}@{HOST}' id='m'><body>?</body></message>")
            assert "jid-malformed" in answer
            query = f"<query xmlns='jabber:iq:register'><username>{local}</username><password>x</password></query>"
            stranger = await begin(scene, HOST)
            await stranger.send(f"<iq type='set' id='r'>{query}</iq>".encode())
            await stranger.until(b"</iq>")
            assert b"type='error'" in stranger.received
            plain = base64.b64encode(f"\0{local}\0{PASSWORD}".encode()).decode()
            await stranger.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain}</auth>".encode())
            await stranger.until(b"<not-authorized")


async def test_other_host_is_unknown(tmp_path: Path) -> None:
    async with a_server(tmp_path) as scene:
        for host in ("bucher.localhost", "bücher.localhost..", "bücher..localhost", "xn--bcher-localhost", "bücher"):
            peer = await scene.peer()
            header = HEADER.replace(b"localhost", host.encode())
            assert await peer.condition(header) in ("host-unknown", "improper-addressing")


@pytest.mark.parametrize("written", ["bücher.localhost", "BÜCHER.localhost.", "xn--bcher-kva.localhost"])
async def test_delay_that_claims_to_be_of_our_host_is_taken_off_however_it_is_spelled(
    tmp_path: Path, written: str
) -> None:
    async with a_server(tmp_path) as scene:
        for local in ("romeo", "juliet"):
            await scene.server.accounts.add(JID.of(local, HOST), PASSWORD)
        romeo = await enter(scene, Spelling(3), "romeo", "phone")
        delay = f"<delay xmlns='urn:xmpp:delay' from='{written}' stamp='1999-01-01T00:00:00Z'/>"
        await romeo.stanzas(f"<message to='juliet@{HOST}' type='chat'><body>late</body>{delay}</message>")
        juliet = await enter(scene, Spelling(4), "juliet", "balcony", priority=None)
        (message,) = await arrive(juliet, 1)
        (found,) = message.findall("{urn:xmpp:delay}delay")
        assert not (found.get("stamp") or "").startswith("1999")
