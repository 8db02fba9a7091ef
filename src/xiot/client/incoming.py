# SPDX-License-Identifier: Apache-2.0
"""What comes over a client's streams, told apart: answers, requests, items, messages, presence."""

from __future__ import annotations

from collections.abc import Callable

from xiot.client.handlers import Handlers
from xiot.client.inbox import Inbox
from xiot.client.received import Message, Presence, to_presence
from xiot.client.requests import Requests
from xiot.client.seen import Seen
from xiot.client.subscriptions import Subscriptions
from xiot.client.things import Things
from xiot.core import JID, JidError, Stanza
from xiot.errors import XiotError
from xiot.stanzas import NS_CLIENT
from xiot.xep import carbons, pubsub

MESSAGES_KEPT = 1000  # while nobody iterates over the messages, or the presences


class Incoming:
    """Who takes what: whoever has asked, the handlers of the extensions, subscriptions, or the application."""

    def __init__(
        self,
        requests: Requests,
        handlers: Handlers,
        subscriptions: Subscriptions,
        things: Things,
        on_room: Callable[[], None],
    ) -> None:
        """`on_room` is called when an inbox is no longer full."""
        self._requests = requests
        self._handlers = handlers
        self._subscriptions = subscriptions
        self._things = things
        self._seen = Seen()
        self.messages: Inbox[Message] = Inbox(on_room, keep=MESSAGES_KEPT)
        self.presences: Inbox[Presence] = Inbox(on_room, keep=MESSAGES_KEPT)

    @property
    def crowded(self) -> bool:
        """Whether the stream should not be read for now: too much is not fetched, and nobody waits for an answer."""
        if self._requests.waiting or self._things.waiting:
            return False
        return self._subscriptions.full or self.messages.full or self.presences.full

    async def receive(self, stanza: Stanza, own: JID) -> None:
        """Hand a stanza to whoever it is for; `own`: our full JID."""
        try:
            sender = None if stanza.from_ is None else JID(stanza.from_)
            to = None if stanza.to is None else JID(stanza.to)
        except JidError:
            return  # a server stamps and checks addresses: this can be answered to nobody
        if stanza.name == "iq":
            if stanza.type in ("result", "error"):
                self._requests.answer(stanza, sender, own)
            else:
                await self._handlers.request(stanza, sender)
        elif stanza.name == "message":
            if self._seen.again(stanza, sender):
                return
            event = stanza.payload == (pubsub.NS_EVENT, "event") and stanza.type != "error"
            if event and sender is not None and self._subscriptions.event(stanza, sender):
                return
            if carbons.is_carbon(stanza.element) and carbons.unwrap(stanza.element, own.bare) is None:
                return  # XEP-0280 section 11: somebody pretends to be our server
            if self._handlers.message(stanza, sender):
                return
            body = stanza.element.findtext(f"{{{NS_CLIENT}}}body")
            text = Message(sender, to, stanza.type or "normal", stanza.id, body, stanza.element)
            self.messages.put(text, len(stanza.raw))
        else:
            self.presences.put(to_presence(stanza, sender), len(stanza.raw))

    def interrupt(self) -> None:
        """What was under way on the last stream is lost."""
        self._requests.interrupt()
        self._things.interrupt()

    def end(self, error: XiotError | None, why: XiotError) -> None:
        """Nothing more comes. `error`: None if we or the server have closed the last stream in order; `why` is for who waits for an answer."""
        self._requests.end(why)
        self.messages.end(error)
        self.presences.end(error)
        self._subscriptions.end(error)
        self._things.end(error)
