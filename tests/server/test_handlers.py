# SPDX-License-Identifier: Apache-2.0
"""Every iq handler of the server and of the client, fed with what its declaration allows and with what it does not.

Whatever it is: exactly one answer, which is no fault of ours; in a number of steps that the size of the request bounds; and nothing in
the log that looks like a fault.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import random
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
import trio

import xiot
from xiot.core import JID, Element
from xiot.ext import HOST, SESSION, Key
from xiot.schema import Payload, _kinds
from xiot.xep import standard

from .actors import Actor, Stage, stage
from .serving import HOST as DOMAIN
from .serving import PASSWORD

ROUNDS = 100 if os.environ.get("XIOT_SOAK") == "1" else 4
MOST_CPU_S = 2.0
"""Of the process for one request; a loop without end is stopped then."""

TEXTS = (
    "", " ", "'", '"', "';--", "'; DROP TABLE accounts; --", "%", "%s%n", "_", "\\", "{0}", "${x}", "\t\r\n", "\u202e", "\ud7ff\ue000",
    "\ufdd0", "\U0010fffd", "e\u0301", "\u00df", "\u0130", "x" * 1100, "\U0001f600" * 300, "-1", "0", "1", "+5", "1_0", "\u0661",
    "9" * 25, "1" * 5000, "1e400", "-1e400", "NaN", "INF", "0x10", "2147483648", "18446744073709551616", "true", "TRUE", "AAAA", "AA=A",
    "2026-02-30T25:61:61Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999999-14:00", "2026-11-23T10:00:00Z", "../../etc/passwd",
    "&amp;<x/>]]>", "http://jabber.org/protocol/pubsub#node_config", "n", "node", "@", "localhost", "romeo@localhost", "juliet@localhost",
    "romeo@localhost/x", "nobody@localhost", "pubsub.localhost", "elsewhere.example", "a@b@c/d/e", "get", "set", "submit", "FORM_TYPE",
    "urn:xmpp:ping", "urn:xmpp:caps#sha-256.AAAA", "temperature", "setpoint", "open", "owner", "none", "subscribe", "remove",
)  # fmt: skip


def depth(element: Element) -> int:
    """Elements within elements."""
    return 1 + max(map(depth, element), default=0)


class Maker:
    """Makes elements by chance: as a Payload is declared, and then with some changes."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def request(self, payload: type[Payload]) -> Element:
        """One that fits the declaration more or less, within the limits of a stream."""
        while True:
            self._crowds = 1
            element = self._element(payload)
            for _ in range(self.random.choice((0, 0, 1, 1, 2, 5))):
                self._change(self.random.choice(list(element.iter())), element)
            if depth(element) < 60 and len(element.tobytes()) < 100_000:
                return element

    def _element(self, payload: type[Payload], depth: int = 0) -> Element:
        element = Element(payload.TAG)
        hints = typing.get_type_hints(payload)
        for field in dataclasses.fields(typing.cast("Any", payload)):
            if self.random.random() < 0.25 + 0.1 * depth:
                continue
            spec = field.metadata["xml"]
            name = spec.name or field.name.rstrip("_")
            kinds, many = _kinds(hints[field.name])
            if spec.place == "attr":
                element.set(name, self._text(kinds))
            elif spec.place == "text":
                element.text = self._text(kinds)
            else:
                tag = f"{{{payload.QNAME[0] if spec.ns is None else spec.ns}}}{name}"
                for _ in range(self._number() if many else 1):
                    element.append(self._child(spec.place, tag, kinds, depth + 1))
        return element

    def _number(self) -> int:
        """Of what may be there several times: now and then a crowd, but not crowds within crowds."""
        number = self.random.choice((1, 1, 2, 5, 200))
        if number == 200:
            self._crowds -= 1
        return number if self._crowds >= 0 else 1

    def _child(self, place: str, tag: str, kinds: list[Any], depth: int) -> Element:
        kind = self.random.choice(kinds)
        if place == "any":
            return Element(
                f"{{{self.random.choice(('urn:x', 'jabber:x:data', 'jabber:client'))}}}x", None, self._any_text()
            )
        if isinstance(kind, type) and issubclass(kind, Payload):
            return self._element(kind, depth) if depth < 6 else Element(kind.TAG)
        if place == "flag" or kind is Element:
            return Element(tag)
        return Element(tag, None, self._text(kinds))

    def _any_text(self) -> str:
        return self.random.choice(TEXTS)

    def _text(self, kinds: list[Any]) -> str:
        """Mostly a value of one of the kinds."""
        kind = self.random.choice(kinds)
        if self.random.random() < 0.3:
            return self._any_text()
        if typing.get_origin(kind) is Literal:
            return str(self.random.choice(typing.get_args(kind)))
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return str(self.random.choice(list(kind)).value)
        likely: dict[Any, tuple[str, ...]] = {
            int: ("0", "1", "10"), bool: ("true", "0"), float: ("1.5", "-2"), bytes: ("AAAA", ""),
            JID: ("romeo@localhost", "juliet@localhost/x", "pubsub.localhost", "nobody@localhost"),
            str: ("n", "node", "item", "romeo", "temperature"),
        }  # fmt: skip
        return self.random.choice(likely.get(kind, ("2026-11-23T10:00:00Z",)))

    def _change(self, element: Element, root: Element) -> None:
        random, children = self.random, list(element)
        match random.randrange(9):
            case 0 if children:
                element.remove(random.choice(children))
            case 1 if children:
                element.extend([random.choice(children)] * random.choice((1, 2, 50)))
            case 2 if len(element.attrib):
                element.set(random.choice(list(element.attrib)), self._any_text())
            case 3:
                element.set(random.choice(("node", "jid", "id", "var", "type", "xmlns-x")), self._any_text())
            case 4:
                element.text = self._any_text()
            case 5:
                element.append(
                    Element(
                        f"{{{root.ns}}}{random.choice(('item', 'x', 'remove', 'query', 'set'))}", None, self._any_text()
                    )
                )
            case 6:
                inner = element
                for _ in range(random.choice((1, 5, 40))):
                    deeper = Element(element.tag, dict(element.attrib))
                    inner.append(deeper)
                    inner = deeper
            case 7:
                element.append(
                    Element(
                        "{jabber:x:data}x",
                        {"type": "submit"},
                        None,
                        Element("{jabber:x:data}field", {"var": self._any_text()}),
                    )
                )
            case _ if children:
                element.append(Element(children[0].tag, {name: self._any_text() for name in children[0].attrib}))


class Steps:
    """Counts the calls of Python functions, in all threads."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self, frame: object, event: str, argument: object) -> None:
        if event == "call":
            self.taken += 1


@contextmanager
def counted() -> Iterator[Steps]:
    """Count within, also in threads that are started there; stop what takes processor time without end."""
    steps, former = Steps(), signal.signal(signal.SIGVTALRM, stop)
    threading.setprofile(steps)
    sys.setprofile(steps)
    try:
        yield steps
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def stop(*_: object) -> None:
    raise AssertionError(f"{MOST_CPU_S} s of processor time, and no end")


def most_steps(octets: int) -> int:
    """For a request of that size, with its way there and back."""
    return 4000 + 4 * octets


class Attacker:
    """Asks, and looks at the answers. Its account may be removed, or get another password, on the way: then it comes again."""

    def __init__(self, play: Stage, steps: Steps) -> None:
        self.play = play
        self.steps = steps
        self.asked = 0
        self._actor: Actor | None = None

    async def ask(self, kind: str, to: str | None, payload: Element) -> None:
        """AssertionError unless there is one answer, soon, which is no fault of the server's."""
        if self._actor is None:
            await self._come()
        assert self._actor is not None
        self.asked += 1
        id = f"f{self.asked}"
        address = "" if to is None else f" to='{to}'"
        xml = f"<iq id='{id}' type='{kind}'{address}>{payload.tobytes('jabber:client').decode()}</iq>"
        before = self.steps.taken
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_CPU_S)
        try:
            came = await self._answers(id, xml)
        except AssertionError:
            last_words = self._actor.peer.received[-400:]
            assert b"<stream:error><not-authorized " in last_words, (xml, last_words)
            self._actor = None  # the account is gone
            return
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        answers = [stanza for stanza in came if stanza.name == "iq" and stanza.get("id") == id]
        assert [stanza.get("type") for stanza in answers] in (["result"], ["error"]), (xml, came)
        assert b"<internal-server-error" not in answers[0].tobytes(), xml
        taken = self.steps.taken - before
        assert taken <= most_steps(len(xml)), f"{taken} steps for {len(xml)} octets: {xml}"

    async def _answers(self, id: str, xml: str) -> list[Element]:
        """What came until the answer did, and was dealt with."""
        assert self._actor is not None
        came = await self._actor.stanzas(xml)
        with trio.move_on_after(10):  # a client may take its time
            while not any(stanza.get("id") == id and stanza.name == "iq" for stanza in came):
                came += await self._actor.stanzas()
        return came

    async def _come(self) -> None:
        accounts, jid = self.play.server.accounts, JID(f"romeo@{DOMAIN}")
        if await accounts.exists(jid):
            await accounts.passwd(jid, PASSWORD)
        else:
            await accounts.add(jid, PASSWORD)
        self._actor = await self.play.enter("romeo/x")


def faults(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry.get("exc_info") or entry["log_level"] in ("error", "critical")]


async def fuzz(
    folder: Path, requests: Callable[[Stage], list[tuple[Key, str | None, type[Payload]]]], *, rounds: int
) -> int:
    """Ask for everything in `requests` so many times; return how often that was."""
    with counted() as steps, structlog.testing.capture_logs() as logs:
        async with stage(folder, "juliet", "romeo") as play:
            attacker = Attacker(play, steps)
            for key, to, payload in requests(play):
                maker = Maker(f"{key} {to}")
                for _ in range(rounds):
                    await attacker.ask(str(key.type), to, maker.request(payload))
    assert not faults(logs)
    return attacker.asked


def of_the_server(play: Stage) -> list[tuple[Key, str | None, type[Payload]]]:
    """Every handler, at every kind of place it serves."""
    found: list[tuple[Key, str | None, type[Payload]]] = []
    for domain, place in play.server.places.items():
        for key, handlers in place.table.items():
            to: tuple[str | None, ...] = (domain,) if key.scope is HOST else (None, f"juliet@{DOMAIN}")
            if key.kind == "iq" and key.scope is not SESSION and "anon" not in domain:
                found += [(key, address, handlers[0].payload) for address in to]
    return found


@pytest.mark.security(row=(63, 71, 74), statement=53)
async def test_every_request_gets_one_answer_in_few_steps(tmp_path: Path) -> None:
    asked = await fuzz(tmp_path, of_the_server, rounds=ROUNDS)
    print(f"{asked} requests")
    assert asked > 40 * ROUNDS


@pytest.mark.security(row=(63, 74), statement=53)
async def test_every_request_to_a_client_gets_one_answer(tmp_path: Path) -> None:
    thing = xiot.Thing("boiler", allow=lambda *_: True)
    thing.field("temperature", unit="Cel")(lambda: 20.5)

    @thing.control("setpoint", unit="Cel", low=5, high=90)
    def setpoint(_: float) -> None: ...

    handlers = [handler for extension in standard() for handler in extension.handlers]
    mine = [handler for handler in handlers if handler.kind == "iq" and SESSION in handler.scope]
    assert len(mine) > 8
    with structlog.testing.capture_logs() as logs, counted() as steps:
        async with stage(tmp_path, "juliet", "romeo") as play, play.running.connect("juliet") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.serve, thing)
                attacker = Attacker(play, steps)
                for handler in mine:
                    maker = Maker(f"{handler.payload.TAG} {handler.type}")
                    for _ in range(ROUNDS):
                        await attacker.ask(str(handler.type), str(client.jid), maker.request(handler.payload))
                nursery.cancel_scope.cancel()
    assert not faults(logs)


PUBSUB = "http://jabber.org/protocol/pubsub"
NAMES = [text for text in TEXTS if text.strip() and len(text.encode()) < 1000]


@pytest.mark.security(row=71)
async def test_whatever_a_text_says_it_is_kept_as_it_is(tmp_path: Path) -> None:
    """As name of a contact and a group, of a node and an item, as private data, as a message that waits; nothing else changes."""
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo")

        async def ask(kind: str, *content: Element, to: str | None = None) -> Element:
            request = Element(
                "{jabber:client}iq", {"type": kind, "id": "q"} | ({} if to is None else {"to": to}), None, *content
            )
            (answer,) = await romeo.stanzas(request.tobytes("jabber:client").decode())
            assert answer.get("type") == "result", (request, answer.tobytes())
            return answer

        for n, name in enumerate(NAMES):
            contact = Element("{jabber:iq:roster}item", {"jid": f"c{n}@localhost", "name": name})
            contact.append(Element("{jabber:iq:roster}group", None, name))
            await romeo.stanzas(
                f"<iq type='set' id='r'>{Element('{jabber:iq:roster}query', None, None, contact).tobytes().decode()}</iq>"
            )
            data = Element("{urn:x}data", {"a": name}, name)
            await ask("set", Element("{jabber:iq:private}query", None, None, data))
            (kept,) = (await ask("get", Element("{jabber:iq:private}query", None, None, Element("{urn:x}data"))))[0]
            assert kept == data
            item = Element(f"{{{PUBSUB}}}item", {"id": name}, None, data)
            publish = Element(f"{{{PUBSUB}}}publish", {"node": name}, None, item)
            await ask("set", Element(f"{{{PUBSUB}}}pubsub", None, None, publish), to="pubsub.localhost")
            await romeo.stanzas(
                Element(
                    "{jabber:client}message",
                    {"to": "juliet@localhost", "type": "chat"},
                    None,
                    Element("{jabber:client}body", None, name),
                )
                .tobytes("jabber:client")
                .decode()
            )
        for name in NAMES:
            items = Element(f"{{{PUBSUB}}}items", {"node": name}, None, Element(f"{{{PUBSUB}}}item", {"id": name}))
            answer = await ask("get", Element(f"{{{PUBSUB}}}pubsub", None, None, items), to="pubsub.localhost")
            (found,) = answer[0][0]
            assert (found.get("id"), found[0].get("a"), found[0].text) == (name, name, name)
        roster = (await ask("get", Element("{jabber:iq:roster}query")))[0]
        assert {item.get("jid"): (item.get("name"), item[0].text) for item in roster} == {
            f"c{n}@localhost": (name, name) for n, name in enumerate(NAMES)
        }
        juliet = await play.enter("juliet", None)
        waiting = await juliet.stanzas("<presence/>")
        bodies = [stanza.findtext("{jabber:client}body") for stanza in waiting if stanza.name == "message"]
        assert bodies == NAMES


KNOWN = sorted(
    {payload for extension in standard() for payload in (handler.payload for handler in extension.handlers)},
    key=lambda payload: payload.TAG,
)
NONZAS = (
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='0'/>",
    "<enable xmlns='urn:xmpp:sm:3' resume='1' max='x'/>",
    "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
    "<active xmlns='urn:xmpp:csi:0'/>",
    "<inactive xmlns='urn:xmpp:csi:0'/>",
)
TYPES = """get set result error subscribe subscribed unsubscribe unsubscribed probe unavailable chat groupchat headline normal
    x"""
ADDRESSES = """localhost pubsub.localhost anon.localhost romeo@localhost juliet@localhost juliet@localhost/x romeo@localhost/x
    nobody@localhost a@pubsub.localhost elsewhere.example"""
SMALL = """{jabber:client}body {jabber:client}show {jabber:client}status {jabber:client}priority {jabber:client}error
    {urn:xmpp:sid:0}stanza-id {urn:xmpp:sid:0}origin-id {urn:xmpp:hints}store {urn:xmpp:hints}no-copy {urn:xmpp:carbons:2}received
    {urn:xmpp:carbons:2}sent {urn:xmpp:carbons:2}private {urn:xmpp:receipts}request {urn:xmpp:delay}delay"""


def any_stanza(maker: Maker, n: int) -> str:
    """A message, presence or iq of any type, to anybody, with anything in it; now and then what is no stanza."""
    random = maker.random
    if random.random() < 0.1:
        return random.choice(NONZAS)
    stanza = Element(f"{{jabber:client}}{random.choice(('message', 'presence', 'iq'))}")
    for name, values in (
        ("id", [f"a{n}", random.choice(TEXTS)]),
        ("type", TYPES.split()),
        ("to", [*ADDRESSES.split(), random.choice(TEXTS)]),
    ):
        if random.random() < 0.8:
            stanza.set(name, random.choice(values))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        if random.random() < 0.5:
            stanza.append(maker.request(random.choice(KNOWN)))
        else:
            attributes = {name: random.choice(TEXTS) for name in ("by", "id", "stamp")}
            stanza.append(Element(random.choice(SMALL.split()), attributes, random.choice(TEXTS)))
    return stanza.tobytes("jabber:client").decode()


@pytest.mark.security(row=74)
async def test_whatever_is_sent_the_server_serves_on_and_tells_of_no_fault(tmp_path: Path) -> None:
    maker = Maker("any stanza")
    with structlog.testing.capture_logs() as logs:
        async with stage(tmp_path, "romeo", "juliet") as play:
            juliet, romeo = await play.enter("juliet/x"), await play.enter("romeo/x")
            for n in range(50 * ROUNDS):
                xml = any_stanza(maker, n)
                try:
                    answers = await romeo.stanzas(xml)
                    assert b"<internal-server-error" not in b"".join(answer.tobytes() for answer in answers), xml
                    await juliet.stanzas()
                except AssertionError:
                    if b"<stream:error><" not in romeo.peer.received[-400:]:
                        raise
                    assert b"<internal-server-error" not in romeo.peer.received[-400:], xml
                    accounts, jid = play.server.accounts, JID(f"romeo@{DOMAIN}")
                    await (
                        accounts.passwd(jid, PASSWORD) if await accounts.exists(jid) else accounts.add(jid, PASSWORD)
                    )
                    romeo = await play.enter("romeo/x")
    assert not faults(logs)
