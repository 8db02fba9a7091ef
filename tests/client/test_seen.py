# SPDX-License-Identifier: Apache-2.0
"""What comes twice is known by the id that its sender gave."""

from __future__ import annotations

from xiot.client.seen import AGE_S, MOST, Seen
from xiot.core import JID, Stanza, StreamParser

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
ROMEO, JULIET = JID("romeo@a.example/r"), JID("juliet@a.example/r")


def message(id: str | None, type: str = "chat") -> Stanza:
    parser = StreamParser()
    parser.feed(HEADER)
    origin = "" if id is None else f"<origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>"
    (stanza,) = parser.feed(f"<message type='{type}'><body>x</body>{origin}</message>".encode())
    assert isinstance(stanza, Stanza)
    return stanza


def test_message_of_the_same_account_and_id_is_known() -> None:
    seen = Seen()
    assert not seen.again(message("1"), ROMEO)
    assert seen.again(message("1"), ROMEO)
    assert seen.again(message("1"), ROMEO.bare)  # from another resource, when it is delivered anew
    assert not seen.again(message("2"), ROMEO)
    assert not seen.again(message("1"), JULIET)


def test_what_has_no_id_or_no_sender_is_new() -> None:
    seen = Seen()
    for stanza, sender in (
        (message(None), ROMEO),
        (message("1"), None),
        (message(""), ROMEO),
        (message("x" * 257), ROMEO),
    ):
        assert not seen.again(stanza, sender)
        assert not seen.again(stanza, sender)


def test_error_that_carries_our_message_back_is_no_message_of_its_sender() -> None:
    seen = Seen()
    assert not seen.again(message("1", "error"), ROMEO)
    assert not seen.again(message("1"), ROMEO)


def test_window_is_bounded_in_count_and_age() -> None:
    now = 0.0
    seen = Seen(lambda: now)
    for k in range(MOST + 1):
        assert not seen.again(message(str(k)), ROMEO)
    assert len(seen._ids) == MOST
    assert not seen.again(message("0"), ROMEO)
    assert seen.again(message("5"), ROMEO)
    now = AGE_S
    assert seen.again(message("5"), ROMEO)
    now = AGE_S + 0.1
    assert not seen.again(message("5"), ROMEO)
    assert seen.again(message("5"), ROMEO)
