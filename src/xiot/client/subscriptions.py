# SPDX-License-Identifier: Apache-2.0
"""Subscriptions to nodes of publish-subscribe services, and the items that come (XEP-0060)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio

from xiot.client.inbox import Inbox
from xiot.client.received import Item
from xiot.client.requests import repeat
from xiot.core import JID, JidError, Stanza
from xiot.errors import StanzaError, XiotError
from xiot.ext import Session
from xiot.xep import pubsub

log = logging.getLogger(__name__)

UNSUBSCRIBE_S = 2.0
RESTORING = 32  # subscriptions that are asked for at once


class Subscription:
    """One subscription at a service, and who here shares it."""

    def __init__(self) -> None:
        self.boxes: list[Inbox[Item]] = []
        self.lock = anyio.Lock()
        """Who asks the service."""
        self.made = False
        self.again = False
        """Made on a later stream, where nothing has come yet."""
        self.last: Item | None = None


class Subscriptions:
    """What a session has subscribed to, by service and node."""

    def __init__(self, session: Session, on_room: Callable[[], None]) -> None:
        """`on_room` is called when an inbox is no longer full."""
        self._session = session
        self._on_room = on_room
        self._all: dict[tuple[str, str], Subscription] = {}
        self._ended = False

    @property
    def full(self) -> bool:
        """True if the stream should not be read for now."""
        return any(box.full for subscription in self._all.values() for box in subscription.boxes)

    @asynccontextmanager
    async def subscribe(self, node: str, at: JID) -> AsyncIterator[AsyncIterator[Item]]:
        """As `Client.subscribe`, at the service `at`."""
        key = (str(at), node)
        inbox: Inbox[Item] = Inbox(self._on_room)
        subscription = self._all.setdefault(key, Subscription())
        subscription.boxes.append(inbox)
        try:
            async with subscription.lock:  # if whoever came first is refused, or gives up, the next one asks
                if not subscription.made:
                    await repeat(lambda: pubsub.subscribe(self._session, node, at=at))
                    subscription.made = True
            yield inbox
        finally:
            subscription.boxes.remove(inbox)
            self._on_room()  # the reader may have waited for this inbox
            if not subscription.boxes:
                del self._all[key]
                if not self._ended:
                    with anyio.move_on_after(UNSUBSCRIBE_S, shield=True):
                        await self._unsubscribe(node, at)

    async def _unsubscribe(self, node: str, at: JID) -> None:
        with suppress(XiotError, TimeoutError):  # it ends with our resource anyway
            await pubsub.unsubscribe(self._session, node, at=at)

    def event(self, stanza: Stanza, sender: JID) -> bool:
        """Give the items of an event to those who want them; False if nobody does."""
        try:
            event = pubsub.Event.from_element(next(iter(stanza.element)))
        except StanzaError:
            return False
        items = event.verb
        if not isinstance(items, pubsub.EventItems):
            return False
        subscription = self._all.get((str(sender), items.node))
        if subscription is None:
            return False
        for item in items.items:
            try:
                publisher = None if item.publisher is None else JID(item.publisher)
            except JidError:
                publisher = None
            found = Item(items.node, item.id or "", publisher, item.payload)
            if subscription.again and found == subscription.last:
                continue  # what the service sends to each new subscriber is nothing new to us
            subscription.again, subscription.last = False, found
            for box in subscription.boxes:
                box.put(found, len(stanza.raw))
        return True

    async def restore(self, session: Session) -> None:
        """Ask for all of them on a new stream; who listens to one that is refused gets the error. Raises as requests do."""
        limit = anyio.CapacityLimiter(RESTORING)
        async with anyio.create_task_group() as asking:
            for (at, node), subscription in self._all.items():
                if subscription.made:
                    asking.start_soon(self._again, session, node, JID(at), subscription, limit)

    async def _again(
        self, session: Session, node: str, at: JID, subscription: Subscription, limit: anyio.CapacityLimiter
    ) -> None:
        async with limit:
            subscription.again = True
            try:
                await pubsub.subscribe(session, node, at=at)
            except StanzaError as error:
                log.warning("%s: the subscription to %s is not restored: %s", session.jid, node, error)
                subscription.made = False
                for box in subscription.boxes:
                    box.end(error)

    def end(self, error: XiotError | None) -> None:
        """Nothing more comes: iterations end, or raise `error`."""
        self._ended = True
        for subscription in self._all.values():
            for box in subscription.boxes:
                box.end(error)
