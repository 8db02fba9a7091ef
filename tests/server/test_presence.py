# SPDX-License-Identifier: Apache-2.0
"""Presence between clients of one server (RFC 6121 section 4; statements 66, 70 and 71), as they see it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from .actors import HOST, Actor, Stage, bare, stage


async def friends(play: Stage) -> tuple[Actor, Actor]:
    """Romeo and Juliet, who see each other."""
    romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
    await play.befriend(romeo, juliet)
    return romeo, juliet


async def heard(actor: Actor) -> list[str]:
    """What comes within a moment after others were lost: they, not the server, decide when it notices."""
    with trio.fail_after(10):
        while not (said := await actor.says()):
            await trio.sleep(0.01)
    return said


# ---- initial and later presence: sections 4.2 and 4.4 ----


async def test_initial_presence_goes_to_contacts_and_own_resources_and_asks_for_theirs(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet", "tybalt") as play:
        romeo, juliet = await friends(play)
        tybalt = await play.enter("tybalt/street")
        chamber = await play.enter("juliet/chamber", None)
        assert await chamber.says("<presence><show>dnd</show></presence>") == [
            "presence juliet/chamber dnd", "presence juliet/balcony 0", "presence romeo/orchard 0",
        ]  # fmt: skip
        assert await juliet.says() == ["presence juliet/chamber dnd"]
        assert await romeo.says() == ["presence juliet/chamber dnd"]
        assert await tybalt.says() == []


async def test_later_presence_goes_to_the_same_and_asks_nobody(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        assert await juliet.says("<presence><show>away</show></presence>") == ["presence juliet/balcony away"]
        assert await romeo.says() == ["presence juliet/balcony away"]


AWAY, DND = "<presence><show>away</show></presence>", "<presence><show>dnd</show></presence>"


async def test_each_broadcast_goes_to_whoever_is_there_now(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        assert await juliet.says(AWAY * 2) == ["presence juliet/balcony away"] * 2
        assert await romeo.says() == ["presence juliet/balcony away"] * 2
        field = await play.enter("romeo/field")
        assert await juliet.says(AWAY) == ["presence romeo/field 0", "presence juliet/balcony away"]
        assert [len(await one.says()) for one in (romeo, field)] == [2, 1]
        await field.says("<presence type='unavailable'/>")
        await juliet.says(AWAY)
        assert await field.says() == []
        assert await romeo.says() == ["presence unavailable romeo/field", "presence juliet/balcony away"]
        again = await play.enter("romeo/orchard")  # in place of the other
        assert (await juliet.says(AWAY))[-1] == "presence juliet/balcony away"
        assert await again.says() == ["presence juliet/balcony away"]


async def test_each_broadcast_goes_to_whoever_may_see_it_now(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        await juliet.says(AWAY)
        await romeo.stanzas()
        await juliet.stanzas(f"<presence type='unsubscribed' to='{bare(romeo)}'/>{DND}")
        assert "presence juliet/balcony dnd" not in await romeo.says()
        await romeo.stanzas(f"<presence type='subscribe' to='{bare(juliet)}'/>")
        await juliet.stanzas(f"<presence type='subscribed' to='{bare(romeo)}'/>{AWAY}")
        assert (await romeo.says())[-2:] == ["presence juliet/balcony dnd", "presence juliet/balcony away"]


async def test_readers_are_kept_while_nothing_changes_and_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        presences = play.server.presences
        await juliet.says(AWAY)
        kept = dict(presences._readers)
        await juliet.says(AWAY)
        assert dict(presences._readers) == kept != {}
        await romeo.says(AWAY)
        assert len(presences._readers) == 2
        monkeypatch.setattr("xiot.server.presence.MAX_READERS", 3)
        await romeo.says("<presence type='unavailable'/>")
        assert presences._readers == {}
        for actor in (romeo, juliet, romeo, juliet):
            await actor.says(AWAY)
            assert len(presences._readers) == 1
        assert (await romeo.says())[-1] == "presence juliet/balcony away"


async def test_presence_goes_one_way_if_the_subscription_does(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        await romeo.stanzas(f"<presence type='subscribe' to='{bare(juliet)}'/>")
        await juliet.stanzas(f"<presence type='subscribed' to='{bare(romeo)}'/>")
        await romeo.stanzas()
        await juliet.stanzas("<presence><show>away</show></presence>")
        assert await romeo.says("<presence><show>xa</show></presence>") == [
            "presence juliet/balcony away", "presence romeo/orchard xa",
        ]  # fmt: skip
        assert await juliet.says() == []


async def test_presence_reaches_contacts_by_their_bare_jid(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        await juliet.stanzas("<presence><status xml:lang='it'>O Romeo</status></presence>")
        (got,) = await romeo.stanzas()
        assert (got.get("from"), got.get("to"), got.get("type")) == (juliet.jid, bare(romeo), None)


@pytest.mark.parametrize("priority", ["128", "-129", "high", ""])
async def test_priority_that_is_none_is_refused(tmp_path: Path, priority: str) -> None:
    async with stage(tmp_path, "romeo") as play:
        romeo = await play.enter("romeo/orchard", None)
        said = await romeo.says(f"<presence><priority>{priority}</priority></presence>")
        assert said == ["presence error bad-request"]


# ---- unavailable: section 4.5 ----


@pytest.mark.security(statement=70)
async def test_unavailable_is_told_with_its_words(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        chamber = await play.enter("juliet/chamber", -1)
        await romeo.stanzas()
        await juliet.stanzas("<presence type='unavailable'><status>adieu</status></presence>")
        assert await romeo.says() == ["presence unavailable juliet/balcony adieu"]
        assert await chamber.says() == ["presence unavailable juliet/balcony adieu"]
        await juliet.stanzas("<presence type='unavailable'/>")
        assert await romeo.says() == []


@pytest.mark.parametrize("how", ["leave", "vanish"])
@pytest.mark.security(statement=70)
async def test_end_of_the_connection_is_told_once(tmp_path: Path, how: str) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        await getattr(juliet, how)()
        assert await heard(romeo) == ["presence unavailable juliet/balcony"]
        assert [str(jid) for jid in play.server.hosts[HOST].watchers] == [bare(romeo)]
        again = await play.enter("juliet/balcony")
        assert await romeo.says() == ["presence juliet/balcony 0"]
        await again.leave()
        assert await heard(romeo) == ["presence unavailable juliet/balcony"]


async def test_resource_that_is_taken_over_goes_before_it_comes(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, _ = await friends(play)
        await play.enter("juliet/balcony", 7)
        assert await romeo.says() == ["presence unavailable juliet/balcony", "presence juliet/balcony 7"]


# ---- directed presence: section 4.6 ----


@pytest.mark.security(statement=71)
async def test_directed_presence_is_ended_for_those_who_got_it_and_no_others(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet", "tybalt") as play:
        romeo, juliet = await friends(play)
        tybalt = await play.enter("tybalt/street")
        await juliet.stanzas(f"<presence to='{tybalt.jid}'><show>chat</show></presence>")
        assert await tybalt.says() == ["presence juliet/balcony chat"]
        assert await romeo.says() == []
        await juliet.stanzas("<presence><show>away</show></presence>")  # section 4.6.3: not to Tybalt
        assert await tybalt.says() == []
        assert await romeo.says() == ["presence juliet/balcony away"]
        await juliet.vanish()
        assert await heard(tybalt) == ["presence unavailable juliet/balcony"]
        assert await romeo.says() == ["presence unavailable juliet/balcony"]


async def test_directed_presence_that_was_taken_back_is_not_ended_again(tmp_path: Path) -> None:
    async with stage(tmp_path, "juliet", "tybalt") as play:
        juliet, tybalt = await play.enter("juliet/balcony"), await play.enter("tybalt/street")
        await juliet.stanzas(f"<presence to='{bare(tybalt)}'/><presence to='{bare(tybalt)}' type='unavailable'/>")
        assert await tybalt.says() == ["presence juliet/balcony", "presence unavailable juliet/balcony"]
        await juliet.stanzas("<presence type='unavailable'/>")
        assert await tybalt.says() == []


async def test_contact_that_also_got_directed_presence_is_told_once(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        await juliet.stanzas(f"<presence to='{romeo.jid}'/><presence to='{bare(romeo)}'/>")
        await romeo.stanzas()
        await juliet.stanzas("<presence type='unavailable'/>")
        assert await romeo.says() == ["presence unavailable juliet/balcony"]


async def test_directed_presence_without_initial_presence_is_ended_too(tmp_path: Path) -> None:
    async with stage(tmp_path, "juliet", "tybalt") as play:
        juliet, tybalt = await play.enter("juliet/balcony", None), await play.enter("tybalt/street")
        await juliet.stanzas(f"<presence to='{tybalt.jid}'/>")
        assert await tybalt.says() == ["presence juliet/balcony"]
        await juliet.leave()
        assert await heard(tybalt) == ["presence unavailable juliet/balcony"]


async def test_presence_to_nobody_is_dropped(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo = await play.enter("romeo/orchard")
        to = [f"nobody@{HOST}", f"juliet@{HOST}", f"juliet@{HOST}/balcony"]
        kinds = [f"<presence to='{jid}' type='{type}'/>" for jid in to for type in ("unavailable", "error", "probe")]
        assert await romeo.says("".join([*kinds, *(f"<presence to='{jid}'/>" for jid in to)])) == []


# ---- probes: section 4.3 ----


@pytest.mark.security(statement=66)
async def test_probe_of_a_contact_is_answered_for_each_resource(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        chamber = await play.enter("juliet/chamber", -1)
        await romeo.stanzas()
        probe = f"<presence type='probe' to='{bare(juliet)}'/>"
        assert await romeo.says(probe) == ["presence juliet/balcony 0", "presence juliet/chamber -1"]
        assert await romeo.says(f"<presence type='probe' to='{chamber.jid}'/>") == ["presence juliet/chamber -1"]
        await chamber.leave()
        await juliet.leave()
        await heard(romeo)
        assert await romeo.says(probe) == ["presence unavailable juliet"]


@pytest.mark.security(statement=66)
async def test_probe_of_a_stranger_tells_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        tybalt, juliet = await play.enter("romeo/orchard"), await play.enter("juliet/balcony")
        probe = f"<presence type='probe' to='{bare(juliet)}'/>"
        assert await tybalt.says(probe) == []
        await tybalt.stanzas(f"<presence type='subscribe' to='{bare(juliet)}'/>")
        assert await tybalt.says(probe) == []
        await juliet.stanzas(f"<presence type='subscribed' to='{bare(tybalt)}'/>")
        assert await juliet.says(f"<presence type='probe' to='{bare(tybalt)}'/>") == []


async def test_own_resources_may_be_probed(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo") as play:
        one = await play.enter("romeo/orchard")
        two = await play.enter("romeo/street")
        assert await two.says(f"<presence type='probe' to='{bare(one)}'/>") == ["presence romeo/orchard 0"]


# ---- many and much ----


async def test_what_comes_behind_initial_presence_waits_for_it(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        romeo, juliet = await friends(play)
        await juliet.stanzas("<presence type='unavailable'/>")
        await romeo.stanzas()
        text = f"<message to='{romeo.jid}' type='chat'><body>1</body></message>"
        await juliet.stanzas(f"<presence/>{text}<presence type='unavailable'/>{text}")
        assert await romeo.says() == [
            "presence juliet/balcony", "message chat juliet/balcony 1",
            "presence unavailable juliet/balcony", "message chat juliet/balcony 1",
        ]  # fmt: skip


@pytest.mark.security(row=44)
async def test_crowd_that_comes_and_goes_leaves_nothing(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(8)]
    async with stage(tmp_path, *names) as play:
        actors = [await play.enter(f"{name}/r") for name in names]
        for one in actors[1:]:
            await play.befriend(actors[0], one)
        async with trio.open_nursery() as nursery:
            for actor in actors[1:]:
                nursery.start_soon(actor.vanish)
        gone: set[str] = set()
        while len(gone) < len(names) - 1:
            gone |= set(await heard(actors[0]))
        assert gone == {f"presence unavailable {name}/r" for name in names[1:]}
        await actors[0].leave()
        host = play.server.hosts[HOST]
        assert (host.online, host.watchers) == ({}, {})
