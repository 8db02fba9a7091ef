# SPDX-License-Identifier: Apache-2.0
"""RFC 6121 section 2: the roster."""

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.schema import PayloadError
from xiot.xep import roster
from xiot.xep.roster import Item, Query, Roster

from .world import World

NS = "jabber:iq:roster"
ROMEO = JID("romeo@montague.example")
NURSE = JID("nurse@capulet.example")


@pytest.mark.parametrize(
    ("query", "xml"),
    [
        (Query(), f"<query xmlns='{NS}'/>"),
        (Query(ver=""), f"<query xmlns='{NS}' ver=''/>"),
        (
            Query(
                ver="7",
                items=(
                    Item(jid=ROMEO, name="Romeo", subscription="both", groups=("Friends", "Lovers")),
                    Item(jid=NURSE, ask="subscribe", approved=True),
                ),
            ),
            f"<query xmlns='{NS}' ver='7'><item jid='{ROMEO}' name='Romeo' subscription='both'><group>Friends</group>"
            f"<group>Lovers</group></item><item jid='{NURSE}' ask='subscribe' approved='true'/></query>",
        ),
        (
            Query(items=(Item(jid=ROMEO, subscription="remove"),)),
            f"<query xmlns='{NS}'><item jid='{ROMEO}' subscription='remove'/></query>",
        ),
    ],
)
def test_roster_both_ways(query: Query, xml: str) -> None:
    assert query.to_element() == Element.fromstring(xml)
    assert Query.from_element(Element.fromstring(xml)) == query


def test_contact_without_a_jid_is_a_bad_request() -> None:
    for item in ("<item/>", "<item jid=''/>", "<item jid='@'/>"):
        with pytest.raises(PayloadError, match="query/item@jid"):
            Query.from_element(Element.fromstring(f"<query xmlns='{NS}'>{item}</query>"))


async def test_contact_is_added_changed_and_removed() -> None:
    juliet, mine = World(roster.ext).session("juliet@capulet.example/a"), Roster()
    await roster.set_item(juliet, ROMEO, "Romeo", ["Lovers", "Friends"])
    await roster.set_item(juliet, NURSE)
    await roster.fetch(juliet, mine)
    assert mine.items == {
        NURSE: Item(jid=NURSE, subscription="none"),
        ROMEO: Item(jid=ROMEO, name="Romeo", subscription="none", groups=("Friends", "Lovers")),
    }
    await roster.set_item(juliet, ROMEO, "R.")
    await roster.remove(juliet, NURSE)
    await roster.fetch(juliet, mine)
    assert mine.items == {ROMEO: Item(jid=ROMEO, name="R.", subscription="none")}
    assert mine.version == "4"


@pytest.mark.security(statement=72)
async def test_roster_of_the_same_version_is_not_sent_again() -> None:
    juliet = World(roster.ext).session("juliet@capulet.example/a")
    await roster.set_item(juliet, ROMEO)
    assert await juliet.request("get", Query(ver="1")) is None
    for other in ("", "0", "2", "-1", "x", "\u0661", "9" * 5000):
        answer = Query.from_element(await juliet.request("get", Query(ver=other)))
        assert (answer.ver, len(answer.items)) == ("1", 1)
    kept = Roster([Item(jid=ROMEO, name="kept")], "1")
    await roster.fetch(juliet, kept)
    assert kept.items[ROMEO].name == "kept"


async def test_client_that_knows_no_versions_gets_none() -> None:
    answer = await World(roster.ext).session("juliet@capulet.example/a").request("get", Query())
    assert Query.from_element(answer) == Query()


async def test_change_is_pushed_to_the_resources_that_asked_for_the_roster() -> None:
    world = World(roster.ext)
    a, b, c = (world.session(f"juliet@capulet.example/{resource}") for resource in "abc")
    romeo = world.session("romeo@montague.example/x")
    for session in (a, b, romeo):
        await roster.fetch(session, Roster())
    await roster.set_item(c, ROMEO, "Romeo")
    await roster.remove(c, ROMEO)
    pushed = [
        Query(ver="1", items=(Item(jid=ROMEO, name="Romeo", subscription="none"),)),
        Query(ver="2", items=(Item(jid=ROMEO, subscription="remove"),)),
    ]
    for session in (a, b):
        assert [Query.from_element(stanza[0]) for stanza in session.inbox] == pushed
        assert all(stanza.get("type") == "set" and stanza.get("to") == str(session.jid) for stanza in session.inbox)
    assert c.inbox == romeo.inbox == []


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        (Query(), "bad-request"),
        (Query(items=(Item(jid=ROMEO), Item(jid=NURSE))), "bad-request"),
        (Query(items=(Item(jid=ROMEO, groups=("a", "a")),)), "bad-request"),
        (Query(items=(Item(jid=ROMEO, groups=("",)),)), "not-acceptable"),
        (Query(items=(Item(jid=ROMEO, name="x" * 2000),)), "not-acceptable"),
        (Query(items=(Item(jid=ROMEO, subscription="remove"),)), "item-not-found"),
    ],
)
async def test_change_that_cannot_be_is_refused(query: Query, condition: str) -> None:
    world = World(roster.ext)
    juliet = world.session("juliet@capulet.example/a")
    await roster.fetch(juliet, Roster())
    with pytest.raises(StanzaError, match=condition):
        await juliet.request("set", query)
    assert juliet.inbox == []


async def test_what_a_client_says_of_a_subscription_has_no_effect() -> None:
    juliet, mine = World(roster.ext).session("juliet@capulet.example/a"), Roster()
    await juliet.request("set", Query(items=(Item(jid=ROMEO, subscription="both", ask="subscribe", approved=True),)))
    await roster.fetch(juliet, mine)
    assert mine.items == {ROMEO: Item(jid=ROMEO, subscription="none")}


@pytest.mark.security(statement=68)
async def test_roster_of_somebody_else_is_forbidden() -> None:
    mallory = World(roster.ext).session("mallory@capulet.example/x")
    with pytest.raises(StanzaError, match="forbidden"):
        await mallory.request("get", Query(), to="juliet@capulet.example")
    with pytest.raises(StanzaError, match="forbidden"):
        await mallory.request("set", Query(items=(Item(jid=ROMEO),)), to="juliet@capulet.example")


@pytest.mark.security(statement=69)
async def test_push_of_the_own_server_is_taken() -> None:
    mine = Roster()
    world = World(roster.ext, services=[mine])
    server = world.session("juliet@capulet.example")
    await server.request("set", Query(ver="1", items=(Item(jid=ROMEO),)), to="juliet@capulet.example/a")
    assert (mine.items, mine.version) == ({ROMEO: Item(jid=ROMEO)}, "1")
    await server.request(
        "set", Query(ver="2", items=(Item(jid=ROMEO, subscription="remove"),)), to="juliet@capulet.example/a"
    )
    assert (mine.items, mine.version) == ({}, "2")


@pytest.mark.parametrize(
    "sender",
    [
        "mallory@evil.example/x",
        "mallory@evil.example",
        "capulet.example",
        "juliet@capulet.example/b",
        "juliet@evil.example",
    ],
)
@pytest.mark.security(row=55)
async def test_push_of_anybody_else_is_refused(sender: str) -> None:
    mine = Roster()
    with pytest.raises(StanzaError, match="service-unavailable"):
        await (
            World(roster.ext, services=[mine])
            .session(sender)
            .request("set", Query(items=(Item(jid=NURSE, subscription="both"),)), to="juliet@capulet.example/a")
        )
    assert mine.items == {}


async def test_client_without_a_roster_acknowledges_the_push() -> None:
    server = World(roster.ext).session("juliet@capulet.example")
    assert await server.request("set", Query(items=(Item(jid=ROMEO),)), to="juliet@capulet.example/a") is None
