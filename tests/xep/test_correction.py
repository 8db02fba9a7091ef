# SPDX-License-Identifier: Apache-2.0
"""XEP-0308: Last Message Correction."""

import pytest

from _xmppcore import Element
from xiot.xep import correction

from .world import World

NS = "urn:xmpp:message-correct:0"


def a_message(
    id: str, body: str, replaces: str | None = None, sender: str = "juliet@c.net/balcony", type: str = "chat"
) -> Element:
    replace = "" if replaces is None else f"<replace id='{replaces}' xmlns='{NS}'/>"
    return Element.fromstring(
        f"<message xmlns='jabber:client' from='{sender}' to='romeo@m.net/home' id='{id}' type='{type}'>"
        f"<body>{body}</body>{replace}</message>"
    )


BAD = a_message("bad1", "But soft, what light through yonder airlock breaks?")


@pytest.mark.parametrize(
    ("correcting", "good"),
    [
        (a_message("good1", "window", "bad1"), True),
        (a_message("good1", "window", "bad1", sender="juliet@c.net/chamber"), True),
        (a_message("good1", "window", "bad1", sender="tybalt@c.net/balcony"), False),
        (a_message("good1", "window", "other"), False),
        (a_message("good1", "window"), False),
        (a_message("good1", "window", "bad1", type="error"), False),
        (a_message("good1", "window", "bad1", sender=""), False),
    ],
)
@pytest.mark.security(row=58)
def test_only_its_sender_corrects_a_message(correcting: Element, good: bool) -> None:
    assert correction.corrects(correcting, BAD) is good


@pytest.mark.security(row=58)
def test_in_a_room_only_the_occupant_corrects() -> None:
    original = a_message("1", "a", sender="room@muc/juliet", type="groupchat")
    assert correction.corrects(a_message("2", "b", "1", "room@muc/juliet", "groupchat"), original)
    assert not correction.corrects(a_message("2", "b", "1", "room@muc/romeo", "groupchat"), original)


def test_message_without_an_id_is_never_corrected() -> None:
    assert not correction.corrects(a_message("2", "b", ""), a_message("", "a"))


async def test_second_correction_names_the_first_message() -> None:
    world = World(correction.ext)
    romeo, juliet = world.session("romeo@m.net/home"), world.session("juliet@c.net/balcony")
    first = a_message("bad1", "airlock")
    second = a_message("", "windw")
    id = await correction.correct(juliet, second, first)
    third = a_message("", "window")
    await correction.correct(juliet, third, second)
    got = romeo.inbox
    assert [el.find(f"{{{NS}}}replace").get("id") for el in got] == ["bad1", "bad1"]  # type: ignore[union-attr]
    assert got[0].get("id") == id
    assert len({"bad1", *(el.get("id") for el in got)}) == 3
    assert all(correction.corrects(el, first) for el in got)
    with pytest.raises(ValueError, match="without an id"):
        await correction.correct(juliet, a_message("", "x"), a_message("", "y"))
