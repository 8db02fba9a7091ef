# SPDX-License-Identifier: Apache-2.0
"""XEP-0049: Private XML Storage."""

import pytest

from _xmppcore import Element
from xiot.errors import StanzaError
from xiot.model.documents import Quota
from xiot.xep import private
from xiot.xep.private import Query

from .world import World

PREFS = Element.fromstring("<exodus xmlns='exodus:prefs'><defaultnick>Hamlet &amp; Co</defaultnick></exodus>")
BARE = "hamlet@plant.example"


async def a_world(most_bytes: int = 10_000) -> World:
    world = World(private.ext, services=[Quota(most_bytes)])
    await world.account(BARE)
    return world


async def used_bytes(world: World) -> int:
    return await world.store.run(lambda tx: tx.documents.sizes(BARE))


async def test_what_was_kept_comes_back_as_it_was() -> None:
    hamlet = (await a_world()).session(f"{BARE}/denmark")
    await private.put(hamlet, PREFS)
    assert await private.get(hamlet, PREFS.tag) == PREFS


async def test_what_was_not_kept_comes_back_empty() -> None:
    hamlet = (await a_world()).session(f"{BARE}/denmark")
    await private.put(hamlet, PREFS)
    for tag in ("{exodus:prefs}other", "{other:prefs}exodus"):
        assert await private.get(hamlet, tag) == Element(tag)


async def test_empty_element_takes_away_what_was_kept() -> None:
    world = await a_world()
    hamlet = world.session(f"{BARE}/denmark")
    await private.put(hamlet, PREFS)
    assert await used_bytes(world) > 0
    await private.put(hamlet, Element(PREFS.tag))
    assert await private.get(hamlet, PREFS.tag) == Element(PREFS.tag)
    assert await used_bytes(world) == 0


async def test_several_elements_are_kept_at_once_or_not_at_all() -> None:
    world = await a_world()
    hamlet = world.session(f"{BARE}/denmark")
    other = Element("{other:ns}x", None, "1")
    with pytest.raises(StanzaError, match="bad-request"):
        await private.put(hamlet, other, PREFS, PREFS)
    assert await used_bytes(world) == 0
    await private.put(hamlet, other, PREFS)
    assert [await private.get(hamlet, el.tag) for el in (other, PREFS)] == [other, PREFS]


async def test_too_many_elements_at_once_are_refused() -> None:
    hamlet = (await a_world()).session(f"{BARE}/denmark")
    many = [Element(f"{{n}}e{n}", None, "1") for n in range(private.MAX_ELEMENTS + 1)]
    await private.put(hamlet, *many[1:])
    with pytest.raises(StanzaError, match="policy-violation"):
        await private.put(hamlet, *many)


@pytest.mark.parametrize(
    ("type", "elements", "condition"),
    [
        ("get", (), "bad-request"),
        ("get", (Element("{a}a"), Element("{b}b")), "bad-request"),
        ("set", (), "not-acceptable"),
        ("set", (Element("{jabber:iq:private}x", None, "1"),), "not-acceptable"),
        ("get", (Element("{jabber:client}x"),), "not-acceptable"),
    ],
)
async def test_wrong_request_is_refused(type: str, elements: tuple[Element, ...], condition: str) -> None:
    hamlet = (await a_world()).session(f"{BARE}/denmark")
    with pytest.raises(StanzaError, match=condition):
        await hamlet.request(type, Query(elements=elements))  # type: ignore[arg-type]


async def test_data_of_others_are_forbidden() -> None:
    world = await a_world()
    await private.put(world.session(f"{BARE}/denmark"), PREFS)
    macbeth = world.session("macbeth@plant.example/x")
    for type in ("get", "set"):
        with pytest.raises(StanzaError, match="forbidden"):
            await macbeth.request(type, Query(elements=(PREFS,)), to=BARE)


async def test_quota_counts_octets_and_what_is_replaced() -> None:
    world = await a_world()
    hamlet = world.session(f"{BARE}/denmark")

    def element(name: str, size: int) -> Element:
        return Element(f"{{n}}{name}", None, "x" * size)

    await private.put(hamlet, element("a", 6000))
    with pytest.raises(StanzaError, match="resource-constraint"):
        await private.put(hamlet, element("b", 4000))
    assert await private.get(hamlet, "{n}b") == Element("{n}b")
    await private.put(hamlet, element("a", 9000))
    with pytest.raises(StanzaError, match="resource-constraint"):
        await private.put(hamlet, element("a", 10_000))
    assert await used_bytes(world) <= 10_000


async def test_guest_keeps_nothing() -> None:
    world = await a_world()
    with pytest.raises(StanzaError, match="not-allowed"):
        await private.put(world.session("guest@plant.example/x"), PREFS)


async def test_what_a_stream_lets_through_is_kept() -> None:
    hamlet = (await a_world(100_000)).session(f"{BARE}/denmark")
    wide = Element("{n}wide", {f"a{n}": str(n) for n in range(200)})
    deep = Element.fromstring("<a xmlns='n'>" + "<b xmlns=''><c xmlns='n'>" * 29 + "</c></b>" * 29 + "</a>")
    await private.put(hamlet, wide, deep)
    assert [await private.get(hamlet, el.tag) for el in (wide, deep)] == [wide, deep]
