# SPDX-License-Identifier: Apache-2.0
"""Order from one full JID to another holds (RFC 6120 section 10.1), whoever deals with the single stanza: the core, a hook, or a handler."""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import chain
from pathlib import Path
from random import Random

import pytest
import trio

from xiot.core import JID, Stanza

from .actors import PATIENCE_S, Actor, Stage, stage

SEEDS = 40 if os.environ.get("XIOT_SOAK") == "1" else 3
ROUNDS = 60
JULIET = JID("juliet@localhost")
FORMS = (
    "<message to='{to}' id='{id}' type='chat'><body>by the core</body></message>",
    "<message to='{to}' id='{id}' type='chat'><body>by the core</body></message>",
    "<message to='{to}' id='{id}'><body>{large}</body></message>",
    "<iq to='{to}' id='{id}' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<iq to='{to}' id='{id}' type='result'/>",
    "<message to='{to}' id='{id}' type='ch&#97;t'><body>its type is to be decoded</body></message>",
    "<message to='{to}' id='{id}'><body>a</body><stanza-id xmlns='urn:xmpp:sid:0' id='x' by='juliet@localhost'/></message>",
    "<message to='{to}' id='{id}' xmlns='jabber:client'><body>declares what there is</body></message>",
    "<message to='{to}' id='{id}'><body>for this one only</body><private xmlns='urn:xmpp:carbons:2'/></message>",
    "<message to='{to}' id='{id}' type='normal'><stream:x/><body>uses a prefix of the stream</body></message>",
)
SWITCHES = (  # what sets and clears hooks of juliet's links
    "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
    "<iq type='set' id='c'><disable xmlns='urn:xmpp:carbons:2'/></iq>",
    "<inactive xmlns='urn:xmpp:csi:0'/>",
    "<active xmlns='urn:xmpp:csi:0'/>",
    "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='tybalt@localhost'/></block></iq>",
    "<iq type='set' id='b'><unblock xmlns='urn:xmpp:blocking'><item jid='tybalt@localhost'/></unblock></iq>",
)
ASIDE = (  # what a sender says between, and is not answered at once
    "<presence><show>away</show></presence>",
    "<iq type='get' id='aside'><query xmlns='jabber:iq:roster'/></iq>",
    "<iq type='set' id='aside'><query xmlns='jabber:iq:private'><x xmlns='urn:x'/></query></iq>",
    "<message to='juliet@localhost' id='aside' type='chat'><body>whoever is there</body></message>",
    "",
)


async def talk(actor: Actor, receivers: list[Actor], random: Random) -> None:
    """Say numbered things to all, in bursts that are cut anywhere."""
    number = 0
    for _ in range(ROUNDS):
        parts = []
        for _ in range(random.randint(1, 12)):
            form, receiver = random.choice(FORMS), random.choice(receivers)
            large = "x" * random.choice([10, 5_000, 40_000])
            parts.append(form.format(to=receiver.jid, id=number, large=large))
            number += 1
        parts.insert(random.randrange(len(parts) + 1), random.choice(ASIDE))
        said = "".join(parts)
        cut = random.randrange(len(said) + 1)
        await actor.send(said[:cut])
        await trio.sleep(random.choice([0, 0, 0.001]))
        await actor.send(said[cut:])
    for receiver in receivers:
        await actor.send(f"<message to='{receiver.jid}' id='{number}' type='chat'><body>last</body></message>")
        number += 1


async def switch(actors: list[Actor], random: Random, hooks: set[int], play: Stage) -> None:
    while True:
        await random.choice(actors).send(random.choice(SWITCHES))
        await trio.sleep(random.choice([0, 0.001, 0.003]))
        hooks.update(session.connection.link.hooks for session in play.server.hosts["localhost"].sessions(JULIET))


async def hear(actor: Actor, senders: set[str], heard: dict[str, list[int]]) -> None:
    """Until each sender has said his last."""
    missing = set(senders)
    while missing:
        with trio.fail_after(PATIENCE_S):
            data = await actor.peer.receive()
        assert data, "closed"
        for event in actor._parser.feed(data):
            assert isinstance(event, Stanza)
            if event.from_ in senders and event.id is not None and event.id.isdigit() and event.to == actor.jid:
                heard[event.from_].append(int(event.id))
                if "last" in (event.element.findtext("{jabber:client}body") or ""):
                    missing.discard(event.from_)


async def ignore(actor: Actor) -> None:
    while await actor.peer.receive():
        pass


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.security(statement=57)
async def test_order_from_one_to_another_holds_with_any_mix_of_hooks(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    async with stage(tmp_path, "romeo", "mercutio", "juliet", "tybalt") as play:
        senders = [await play.enter(name) for name in ("romeo/a", "romeo/b", "mercutio/a")]
        receivers = [await play.enter(name) for name in ("juliet/a", "juliet/b")]
        heard: list[dict[str, list[int]]] = [defaultdict(list) for _ in receivers]
        hooks: set[int] = set()
        async with trio.open_nursery() as outer:
            for sender in senders:
                outer.start_soon(ignore, sender)
            outer.start_soon(switch, receivers, random, hooks, play)
            async with trio.open_nursery() as nursery:
                for receiver, what in zip(receivers, heard, strict=True):
                    nursery.start_soon(hear, receiver, {sender.jid for sender in senders}, what)
                for sender in senders:
                    nursery.start_soon(talk, sender, receivers, Random(random.random()))
            outer.cancel_scope.cancel()
        assert len(hooks) > 2, "hooks did not change meanwhile"
        for sender in senders:
            numbers = [what[sender.jid] for what in heard]
            for each in numbers:
                assert each == sorted(each), sender.jid
            together = sorted(chain(*numbers))
            assert together == list(range(len(together)))
