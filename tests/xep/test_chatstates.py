# SPDX-License-Identifier: Apache-2.0
"""XEP-0085: Chat State Notifications."""

import pytest

from _xmppcore import Element
from xiot.xep.chatstates import NS, Conversation, State, state


def content(*extra: str, type: str = "chat") -> Element:
    return Element.fromstring(f"<message xmlns='jabber:client' type='{type}'><body>Hi</body>{''.join(extra)}</message>")


def of(name: str) -> str:
    return f"<{name} xmlns='{NS}'/>"


@pytest.mark.parametrize("name", ["active", "composing", "paused", "inactive", "gone"])
def test_state_is_read(name: State) -> None:
    assert state(content(of(name))) == name


@pytest.mark.parametrize("xml", [(), (of("active"), of("gone")), (of("dancing"),), ("<active xmlns='other'/>",)])
def test_no_state_or_several_are_none(xml: tuple[str, ...]) -> None:
    assert state(content(*xml)) is None


def test_first_message_tells_that_we_know_states_and_nothing_else_is_sent() -> None:
    chat = Conversation("francisco@shakespeare.lit")
    assert chat.change("composing") is None
    first = content()
    chat.add_to(first)
    chat.add_to(first)
    assert state(first) == "active"


def test_contact_that_answers_with_a_state_gets_ours() -> None:
    chat = Conversation("francisco@shakespeare.lit/elsinore", thread="t1")
    assert chat.heard(content(of("active"))) == "active"
    sent = chat.change("composing")
    assert sent == Element.fromstring(
        "<message xmlns='jabber:client' to='francisco@shakespeare.lit/elsinore' type='chat'>"
        f"{of('composing')}<thread>t1</thread></message>"
    )


def test_same_state_is_not_told_twice_in_a_row() -> None:
    chat = Conversation("a@b")
    chat.heard(content(of("active")))
    told = [chat.change(name) is not None for name in ("composing", "composing", "paused", "composing", "composing")]
    assert told == [True, False, True, True, False]
    chat.add_to(content())
    assert chat.change("active") is None


def test_contact_that_answers_without_a_state_gets_none() -> None:
    chat = Conversation("a@b")
    chat.heard(content(of("active")))
    chat.heard(content())
    assert chat.change("composing") is None
    message = content()
    chat.add_to(message)
    assert state(message) is None


def test_error_and_message_without_content_say_nothing_of_the_contact() -> None:
    chat = Conversation("a@b")
    chat.heard(content(of("active")))
    chat.heard(content(type="error"))
    chat.heard(
        Element.fromstring("<message xmlns='jabber:client'><received xmlns='urn:xmpp:receipts' id='1'/></message>")
    )
    assert chat.change("composing") is not None
