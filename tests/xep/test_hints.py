# SPDX-License-Identifier: Apache-2.0
"""XEP-0334: Message Processing Hints."""

from _xmppcore import Element
from xiot.xep.hints import NS, add, hints


def a_message(type: str = "chat") -> Element:
    return Element.fromstring(
        f"<message xmlns='jabber:client' type='{type}'><no-copy xmlns='{NS}'/><store xmlns='other'/>"
        f"<no-store xmlns='{NS}'/><later xmlns='{NS}'/></message>"
    )


def test_hints_are_read() -> None:
    assert hints(a_message()) == {"no-copy", "no-store"}


def test_hints_of_an_error_do_not_count() -> None:
    assert hints(a_message("error")) == frozenset()


def test_hint_is_added_once() -> None:
    message = Element("{jabber:client}message")
    add(message, "store", "no-copy", "store")
    add(message, "store")
    assert [child.name for child in message] == ["store", "no-copy"]
    assert hints(message) == {"store", "no-copy"}
