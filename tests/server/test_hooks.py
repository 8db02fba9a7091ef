# SPDX-License-Identifier: Apache-2.0
"""Block lists, carbons and inactive clients in a real server: what they do, and that they cost nobody else anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from xiot.core import JID, Element, Stanza
from xiot.server.hooks import BLOCKLIST, CARBONS, INACTIVE
from xiot.xep import blocking, carbons
from xiot.xep.carbons import unwrap

from .actors import PATIENCE_S, Actor, Stage, line, stage
from .serving import next_of, serving
from .test_resumption import came_back, eventually, message, peer, site

BLOCKING, HINTS, STATES = "urn:xmpp:blocking", "urn:xmpp:hints", "http://jabber.org/protocol/chatstates"
ENABLE = "<iq type='set' id='e'><enable xmlns='urn:xmpp:carbons:2'/></iq>"
DISABLE = "<iq type='set' id='d'><disable xmlns='urn:xmpp:carbons:2'/></iq>"
INACTIVE_NONZA, ACTIVE_NONZA = "<inactive xmlns='urn:xmpp:csi:0'/>", "<active xmlns='urn:xmpp:csi:0'/>"
COMPOSING = f"<composing xmlns='{STATES}'/>"


def block(*jids: str, verb: str = "block") -> str:
    items = "".join(f"<item jid='{jid}'/>" for jid in jids)
    return f"<iq type='set' id='b'><{verb} xmlns='{BLOCKING}'>{items}</{verb}></iq>"


def chat(to: str, body: str, *children: str) -> str:
    return f"<message type='chat' to='{to}'><body>{body}</body>{''.join(children)}</message>"


def hooks(play: Stage, actor: Actor) -> int:
    session = play.server.hosts["localhost"].session(JID(actor.jid))
    assert session is not None
    return session.connection.link.hooks


def copies(stanzas: list[Element], account: str) -> list[str]:
    """What came, with carbons as ``direction(body)``."""
    found = []
    for stanza in stanzas:
        carbon = unwrap(stanza, JID(account))
        found.append(line(stanza) if carbon is None else f"{carbon.direction}({line(carbon.message)})")
    return found


async def routed_by_the_core(play: Stage, sender: Actor, to: Actor) -> bool:
    before = play.server.router.routed
    await sender.stanzas(chat(to.jid, "by which way?"))
    await to.stanzas()
    return play.server.router.routed > before


# ---- block lists ----


@pytest.mark.security(statement=87)
async def test_whom_one_blocks_gets_nothing_and_sends_nothing(tmp_path: Path) -> None:
    """Statement 87 of the security requirements; XEP-0191 section 3.3."""
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        assert await juliet.says(block("romeo@localhost")) == ["iq result"]
        assert await romeo.says() == ["presence unavailable juliet/balcony"]
        ping = f"<iq type='get' id='p' to='{juliet.jid}'><ping xmlns='urn:xmpp:ping'/></iq>"
        account = "<iq type='get' id='v' to='juliet@localhost'><vCard xmlns='vcard-temp'/></iq>"
        for to in (juliet.jid, "juliet@localhost"):
            assert await romeo.says(chat(to, "hark")) == [
                f"message error {to.replace('@localhost', '')} service-unavailable"
            ]
        assert await romeo.says(ping) == ["iq error juliet/balcony service-unavailable"]
        assert await romeo.says(account) == ["iq error juliet service-unavailable"]
        assert await romeo.says(f"<iq type='result' id='7' to='{juliet.jid}'/>") == []
        assert await romeo.says("<presence type='probe' to='juliet@localhost'/>") == []
        assert await romeo.says(f"<presence to='{juliet.jid}'/>") == []
        assert await romeo.says("<presence><show>away</show></presence>") == ["presence romeo/orchard away"]
        assert await juliet.says() == []
        assert await juliet.says("<presence><show>dnd</show></presence>") == ["presence juliet/balcony dnd"]
        assert await romeo.says() == []


@pytest.mark.parametrize("blocker", [0, 1])
async def test_broadcasts_pass_by_whom_one_side_has_blocked_since_the_last(tmp_path: Path, blocker: int) -> None:
    async with stage(tmp_path, "romeo", "juliet", "nurse") as play:
        romeo, juliet, nurse = [await play.enter(name) for name in ("romeo/1", "juliet/2", "nurse/3")]
        await play.befriend(romeo, juliet)
        await play.befriend(nurse, juliet)
        dnd = "<presence><show>dnd</show></presence>"
        await juliet.says(dnd)
        await (romeo, juliet)[blocker].says(block(("juliet@localhost", "romeo@localhost")[blocker]))
        for actor in (romeo, nurse):
            await actor.says()
        assert await juliet.says(dnd) == [
            *([] if blocker else ["presence unavailable romeo/1"]),
            "presence juliet/2 dnd",
        ]
        assert await romeo.says() == []
        assert await nurse.says() == ["presence juliet/2 dnd"]


async def test_what_one_sends_to_whom_one_blocks_comes_back(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await juliet.stanzas(block("romeo@localhost"))
        for stanza in (
            chat(romeo.jid, "hark"),
            "<presence type='subscribe' to='romeo@localhost'/>",
            f"<presence to='{romeo.jid}'/>",
            "<iq type='get' id='1' to='romeo@localhost'><vCard xmlns='vcard-temp'/></iq>",
        ):
            (error,) = await juliet.stanzas(stanza)
            reason = error.find("{jabber:client}error")
            assert reason is not None
            assert reason.get("type") == "cancel"
            names = [child.tag for child in reason]
            assert names == ["{urn:ietf:params:xml:ns:xmpp-stanzas}not-acceptable", f"{{{BLOCKING}:errors}}blocked"]
        assert await romeo.says() == []


@pytest.mark.parametrize("entry", ["romeo@localhost", "ROMEO@localhost/orchard", "romeo@localhost/orchard"])
async def test_whom_one_unblocks_is_heard_and_sees_one_again(tmp_path: Path, entry: str) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        await juliet.stanzas(block(entry))
        assert await romeo.says() == ["presence unavailable juliet/balcony"]
        assert (await romeo.says(chat(juliet.jid, "hark")))[0].endswith("service-unavailable")
        await juliet.stanzas(block(entry, verb="unblock"))
        assert await romeo.says() == ["presence juliet/balcony 0"]
        assert await romeo.says(chat(juliet.jid, "hark")) == []
        assert await juliet.says() == ["message chat romeo/orchard hark"]


async def test_who_does_not_see_ones_presence_does_not_see_it_go(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await juliet.stanzas(block("romeo@localhost"))
        await juliet.stanzas(block(verb="unblock"))
        assert await romeo.says() == []


async def test_list_holds_for_all_sessions_that_come(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await juliet.stanzas(block("romeo@localhost"))
        chamber = await play.enter("juliet/chamber")
        assert hooks(play, chamber) == BLOCKLIST
        await juliet.leave()
        await chamber.leave()
        juliet = await play.enter("juliet/balcony")
        assert hooks(play, juliet) == BLOCKLIST
        assert (await romeo.says(chat(juliet.jid, "hark")))[0].endswith("service-unavailable")


async def test_account_that_is_offline_keeps_nothing_of_whom_it_blocks(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        await juliet.stanzas(block("romeo@localhost"))
        await juliet.leave()
        await romeo.stanzas()
        assert await romeo.says(chat("juliet@localhost", "hark")) == ["message error juliet service-unavailable"]
        assert await romeo.says("<presence type='probe' to='juliet@localhost'/>") == []
        vcard = "<iq type='get' id='v' to='juliet@localhost'><query xmlns='jabber:iq:last'/></iq>"
        assert await romeo.says(vcard) == ["iq error juliet service-unavailable"]
        juliet = await play.enter("juliet/balcony")
        assert await juliet.says() == []
        assert await romeo.says() == []


async def test_request_of_a_blocked_stranger_is_never_shown(tmp_path: Path) -> None:
    async with stage(tmp_path, "tybalt", "juliet") as play:
        tybalt, juliet = await play.enter("tybalt/street"), await play.enter("juliet/balcony")
        await juliet.stanzas(block("tybalt@localhost"))
        assert await tybalt.says("<presence type='subscribe' to='juliet@localhost'/>") == ["push juliet none ask"]
        assert await juliet.says() == []
        await juliet.leave()
        juliet = await play.enter("juliet/balcony")
        assert await juliet.says() == []


async def test_message_that_waited_is_not_delivered_of_whom_one_blocked_since(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        await romeo.stanzas(chat("juliet@localhost", "hark"))
        juliet = await play.enter("juliet/balcony", None)
        await juliet.stanzas(block("romeo@localhost"))
        assert await juliet.says("<presence/>") == ["presence juliet/balcony"]


async def test_nobody_blocks_themselves(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        balcony, chamber = await play.enter("juliet/balcony"), await play.enter("juliet/chamber")
        await balcony.stanzas(block("localhost", "juliet@localhost"))
        assert await balcony.says(chat(chamber.jid, "note to self")) == []
        assert await chamber.says() == ["message chat juliet/balcony note to self"]
        assert (await romeo.says(chat(chamber.jid, "hark")))[0].endswith("service-unavailable")
        assert await balcony.says(block(verb="unblock")) == ["iq result"]


async def test_lists_cost_only_whom_they_are_of(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet", "nurse") as play:
        romeo, juliet, nurse = [await play.enter(f"{name}/x") for name in ("romeo", "juliet", "nurse")]
        assert [hooks(play, actor) for actor in (romeo, juliet, nurse)] == [0, 0, 0]
        await juliet.stanzas(block("tybalt@localhost"))
        assert [hooks(play, actor) for actor in (romeo, juliet, nurse)] == [0, BLOCKLIST, 0]
        assert await routed_by_the_core(play, romeo, nurse)
        assert not await routed_by_the_core(play, romeo, juliet)
        await juliet.stanzas(block("tybalt@localhost", verb="unblock"))
        assert hooks(play, juliet) == 0
        assert await routed_by_the_core(play, romeo, juliet)


async def test_pushes_go_to_who_asked_for_the_list(tmp_path: Path) -> None:
    async with stage(tmp_path, "juliet") as play:
        balcony, chamber = await play.enter("juliet/balcony", None), await play.enter("juliet/chamber", None)
        (answer,) = await balcony.stanzas(f"<iq type='get' id='l'><blocklist xmlns='{BLOCKING}'/></iq>")
        assert blocking.BlockList.from_element(answer[0]).items == ()
        assert await chamber.says(block("Tybalt@Localhost")) == ["iq result"]
        (push,) = await balcony.stanzas()
        assert blocking.Block.from_element(push[0]).items == (blocking.Item(jid=JID("tybalt@localhost")),)
        assert push.get("to") == balcony.jid


# ---- carbons ----


async def test_other_clients_see_both_sides_of_a_chat(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        juliet = await play.enter("juliet/balcony")
        garden, home, plain = [await play.enter(f"romeo/{where}") for where in ("garden", "home", "plain")]
        for actor in (garden, home):
            assert "iq result" in await actor.says(ENABLE)
        await plain.stanzas()
        await juliet.stanzas(chat(garden.jid, "what man art thou"))
        await plain.stanzas(chat(juliet.jid, "by a name"))
        me = "romeo@localhost"
        received, sent = "message chat juliet/balcony what man art thou", "message chat romeo/plain by a name"
        assert copies(await garden.stanzas(), me) == [received, f"sent({sent})"]
        assert copies(await home.stanzas(), me) == [f"received({received})", f"sent({sent})"]
        assert copies(await plain.stanzas(), me) == []
        assert copies(await juliet.stanzas(), "juliet@localhost") == [sent]


async def test_copy_has_the_address_the_message_was_for(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        juliet = await play.enter("juliet/balcony")
        garden, home = await play.enter("romeo/garden"), await play.enter("romeo/home", -1)
        await garden.stanzas()
        await home.stanzas(ENABLE)
        for to in ("romeo@localhost", garden.jid):
            await juliet.stanzas(chat(to, "hark"))
            (stanza,) = await home.stanzas()
            carbon = unwrap(stanza, JID("romeo@localhost"))
            assert carbon is not None
            assert (carbon.message.get("to"), carbon.message.get("from")) == (to, juliet.jid)
            assert (stanza.get("to"), stanza.get("type")) == (home.jid, "chat")


@pytest.mark.parametrize(
    "mark", ["<private xmlns='urn:xmpp:carbons:2'/>", f"<no-copy xmlns='{HINTS}'/>"], ids=["private", "no-copy"]
)
@pytest.mark.security(statement=86)
async def test_private_message_is_not_copied(tmp_path: Path, mark: str) -> None:
    """Statement 86 of the security requirements."""
    async with stage(tmp_path, "romeo", "juliet") as play:
        everybody = [await play.enter(name) for name in ("romeo/garden", "romeo/home", "juliet/a", "juliet/b")]
        for actor in everybody:
            await actor.stanzas(ENABLE)
        garden, _, sender, _ = everybody
        await sender.stanzas(chat(garden.jid, "secret", mark))
        got = [copies(await actor.stanzas(), actor.jid.partition("/")[0]) for actor in everybody]
        assert got == [["message chat juliet/a secret"], [], [], []]


async def test_message_to_oneself_is_copied_once_to_each(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo") as play:
        garden, home, tower = [await play.enter(f"romeo/{where}") for where in ("garden", "home", "tower")]
        for actor in (garden, home, tower):
            await actor.stanzas(ENABLE)
        await garden.stanzas(chat(home.jid, "note"))
        note = "message chat romeo/garden note"
        got = [copies(await actor.stanzas(), "romeo@localhost") for actor in (garden, home, tower)]
        assert got == [[], [note], [f"received({note})"]]


async def test_answer_of_the_server_is_for_the_sender_alone(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo") as play:
        garden, home = await play.enter("romeo/garden"), await play.enter("romeo/home")
        for actor in (garden, home):
            await actor.stanzas(ENABLE)
        assert await garden.says(chat("nobody@localhost", "hark")) == ["message error nobody service-unavailable"]
        assert copies(await home.stanzas(), "romeo@localhost") == ["sent(message chat romeo/garden hark)"]


async def test_error_for_a_copy_goes_nowhere(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        juliet = await play.enter("juliet/a")
        garden, home = await play.enter("romeo/garden"), await play.enter("romeo/home")
        await garden.stanzas()
        await home.stanzas(ENABLE)
        await juliet.stanzas(chat(garden.jid, "hark"))
        assert len(await home.stanzas()) == 1
        bounce = "<message type='error' to='romeo@localhost'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        assert await home.says(bounce) == []
        assert await juliet.says() == []
        assert await garden.says() == ["message chat juliet/a hark"]


async def test_carbons_cost_only_accounts_with_several_clients(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/garden"), await play.enter("juliet/a")
        for actor in (romeo, juliet):
            await actor.stanzas(ENABLE)
        assert [hooks(play, romeo), hooks(play, juliet)] == [0, 0]
        assert await routed_by_the_core(play, romeo, juliet)
        other = await play.enter("juliet/b")
        assert [hooks(play, actor) for actor in (romeo, juliet, other)] == [0, CARBONS, CARBONS]
        assert not await routed_by_the_core(play, romeo, other)
        await juliet.stanzas(DISABLE)
        assert [hooks(play, juliet), hooks(play, other)] == [0, 0]
        await juliet.stanzas(ENABLE)
        await other.leave()
        assert hooks(play, juliet) == 0
        assert await routed_by_the_core(play, romeo, juliet)


@pytest.mark.security(statement=57)
async def test_order_holds_when_carbons_are_switched_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet, other = [await play.enter(name) for name in ("romeo/a", "juliet/a", "juliet/b")]
        await juliet.stanzas()
        bodies = [str(number) for number in range(400)]
        received: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, other)
            nursery.start_soon(send_and_switch, play, romeo, other, juliet.jid, bodies)
            while len(received) < len(bodies):
                received += [stanza.findtext("{jabber:client}body", "") for stanza in await some(juliet)]
            nursery.cancel_scope.cancel()
        assert received == bodies


async def send_and_switch(play: Stage, romeo: Actor, other: Actor, to: str, bodies: list[str]) -> None:
    """Send all, and now and then have `other` switch its carbons, in turns that the server sees at any point."""
    seen = set()
    for at in range(0, len(bodies), 8):
        await romeo.send("".join(chat(to, body) for body in bodies[at : at + 8]))
        await other.send(ENABLE if at % 16 else DISABLE)
        await trio.sleep(0.001 * (at % 3))
        seen.add(hooks(play, other))
    assert seen == {0, CARBONS}, "nothing was switched while messages were on their way"


async def some(actor: Actor) -> list[Element]:
    """The next stanzas that come to `actor`."""
    with trio.fail_after(PATIENCE_S):
        data = await actor.peer.receive()
    assert data
    return [stanza.element for stanza in actor._parser.feed(data) if isinstance(stanza, Stanza)]


async def drain(actor: Actor) -> None:
    while await actor.peer.receive():
        pass


@pytest.mark.security(row=56)
async def test_client_drops_a_carbon_that_is_forged(tmp_path: Path) -> None:
    """Row 56 of the catalogue."""
    async with serving(tmp_path) as running:
        await running.account("romeo", "tybalt")
        async with (
            running.connect("romeo") as romeo,
            running.connect("romeo") as home,
            running.connect("tybalt") as tybalt,
        ):
            await carbons.enable(home)
            forged = carbons.copy(
                Element("{jabber:client}message", {"from": "juliet@localhost"}), "received", romeo.jid
            )
            forged.set("from", str(tybalt.jid))
            await tybalt.send(forged)
            await tybalt.send_message(romeo.jid, "hark")
            assert (await next_of(romeo.messages())).body == "hark"
            copy = (await next_of(home.messages())).element
            carbon = unwrap(copy, JID("romeo@localhost"))
            assert carbon is not None


# ---- stanza ids: XEP-0359 ----


@pytest.mark.security(statement=59)
async def test_id_that_is_forged_in_the_name_of_the_recipient_is_removed(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        forgers = ("Juliet@localhost", "a@b")
        ids = "".join(f"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='{by}'/>" for by in forgers)
        await romeo.stanzas(chat("juliet@localhost", "while away", ids))
        juliet = await play.enter("juliet/balcony", None)
        messages = await juliet.stanzas("<presence/>")
        for to in ("juliet@localhost", juliet.jid):
            await romeo.stanzas(chat(to, "while there", ids))
        messages += await juliet.stanzas()
        left = [
            [el.get("by") for el in message.findall("{urn:xmpp:sid:0}stanza-id")]
            for message in messages
            if message.name == "message"
        ]
        assert left == [["a@b"]] * 3


# ---- inactive clients ----


async def test_inactive_client_gets_presence_when_something_important_comes(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        await juliet.send(INACTIVE_NONZA)
        await juliet.stanzas()
        assert hooks(play, juliet) == INACTIVE
        for show in ("away", "dnd", "xa"):
            await romeo.stanzas(f"<presence><show>{show}</show></presence>")
        await romeo.stanzas(f"<message type='chat' to='{juliet.jid}'>{COMPOSING}</message>")
        assert await quiet(juliet)
        await romeo.stanzas(chat(juliet.jid, "hark"))
        got = await juliet.says()
        assert got == ["presence romeo/orchard xa", "message chat romeo/orchard", "message chat romeo/orchard hark"]


async def quiet(actor: Actor) -> bool:
    """Whether nothing has come to `actor`, who does not ask."""
    with trio.move_on_after(0.1):
        await actor.peer.receive()
        return False
    return True


async def test_what_waits_comes_before_the_answer_to_what_was_asked_when_active(tmp_path: Path) -> None:
    """XEP-0352 section 5.1."""
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        await juliet.stanzas(INACTIVE_NONZA)
        await romeo.stanzas("<presence><show>away</show></presence>")
        assert await quiet(juliet)
        assert await juliet.says(ACTIVE_NONZA) == ["presence romeo/orchard away"]
        assert hooks(play, juliet) == 0
        await romeo.stanzas("<presence/>")
        assert await juliet.says() == ["presence romeo/orchard"]
        assert await routed_by_the_core(play, romeo, juliet)


async def test_too_much_that_waits_is_sent(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await play.befriend(romeo, juliet)
        await juliet.stanzas(INACTIVE_NONZA)
        await romeo.stanzas(f"<presence><status>{'x' * 60_000}</status></presence>")
        assert await quiet(juliet)
        await romeo.stanzas(
            f"<message type='chat' to='{juliet.jid}'>{COMPOSING}<thread>{'x' * 10_000}</thread></message>"
        )
        assert not await quiet(juliet)


async def test_request_to_subscribe_does_not_wait(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await juliet.stanzas(INACTIVE_NONZA)
        await romeo.stanzas("<presence type='subscribe' to='juliet@localhost'/>")
        assert not await quiet(juliet)


async def test_order_holds_when_the_client_goes_idle_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/a"), await play.enter("juliet/a")
        count, received, states = 400, list[str](), 0

        async def send() -> None:
            for number in range(count):
                state = f"<message type='chat' to='{juliet.jid}'>{COMPOSING}<thread>{number}</thread></message>"
                await romeo.send(chat(juliet.jid, str(number)) + state)
                if number % 4 == 0:
                    await juliet.send(ACTIVE_NONZA if number % 8 else INACTIVE_NONZA)
                    await trio.sleep(0.001 * (number % 3))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < count:
                for stanza in await some(juliet):
                    body, thread = (stanza.findtext(f"{{jabber:client}}{name}") for name in ("body", "thread"))
                    if body is not None:
                        received.append(body)
                    else:  # a state is seen behind the message before it, and never behind the next one
                        assert thread == str(len(received) - 1)
                        states += 1
        assert received == [str(number) for number in range(count)]
        assert states > 0


async def test_what_is_no_indication_changes_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, "juliet") as play:
        juliet = await play.enter("juliet/balcony")
        assert await juliet.says("<asleep xmlns='urn:xmpp:csi:0'/>") == []
        assert hooks(play, juliet) == 0


# ---- sessions that resume: XEP-0198 ----


async def test_resumed_client_is_active_and_keeps_its_carbons(tmp_path: Path) -> None:
    """XEP-0352 section 5.2."""
    async with site(tmp_path) as running:
        romeo, juliet = await peer(running, "romeo", managed=True), await peer(running, "juliet")
        other = await peer(running, "romeo")
        await romeo.send(f"{ENABLE}{INACTIVE_NONZA}".encode())
        await romeo.until(b"id='e'")
        session = running.server.hosts["localhost"].session(JID(romeo.jid))
        assert session is not None
        await eventually(lambda: session.connection.link.hooks == CARBONS | INACTIVE)
        presence = f"<presence to='{romeo.jid}'><status>waits</status></presence>"
        await juliet.send(f"{presence}<iq type='get' id='dealt with'><ping xmlns='urn:xmpp:ping'/></iq>".encode())
        await juliet.until(b"dealt with")
        assert b"waits" not in romeo.received
        await romeo.cut()
        back = await came_back(running, "romeo", romeo.id, 1)
        await back.until(b"waits")
        assert session.connection.link.hooks == CARBONS
        await juliet.send(message(other.jid, "copied"))
        await back.until(b"<received xmlns='urn:xmpp:carbons:2'")


async def test_carbon_that_was_not_acknowledged_goes_to_nobody_else(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        romeo, juliet = await peer(running, "romeo", managed=True), await peer(running, "juliet")
        other = await peer(running, "romeo")
        await other.send(b"<presence/>")
        await other.until(b"<presence")
        await romeo.send(ENABLE.encode())
        await romeo.until(b"id='e'")
        await juliet.send(message(other.jid, "once"))
        await romeo.until(b"once")
        await romeo.send(b"</stream:stream>")
        await romeo.until(b"</stream:stream>")
        await juliet.send(message(other.jid, "behind"))
        await other.until(b"behind")
        assert other.received.count(b"once") == 1
        assert b"urn:xmpp:carbons:2" not in other.received
