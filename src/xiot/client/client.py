# SPDX-License-Identifier: Apache-2.0
"""A logged-in client, as the application sees it; made by `xiot.client.connecting`.

Theory of operation. A `Client` outlives its streams (`Streams`). What comes is told apart here: answers go to whoever waits for them
(`Requests`), requests of others to the handlers of the extensions (`Handlers`), events to their subscriptions (`Subscriptions`),
messages and presence into bounded inboxes. What the application sends waits in the `Outbox`; what restores a session on a new stream
goes ahead of that (`Restoring`, `Once`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar
from uuid import uuid4

import anyio

from xiot.client.handlers import Handlers
from xiot.client.inbox import fresh
from xiot.client.incoming import Incoming
from xiot.client.login import Login, Wire
from xiot.client.outbox import Outbox, Receipt
from xiot.client.received import Item, Message, Presence
from xiot.client.requests import Requests, repeat
from xiot.client.restoring import Restoring
from xiot.client.state import State, States
from xiot.client.streams import Streams
from xiot.client.subscriptions import Subscriptions
from xiot.client.things import Things
from xiot.core import JID, Element
from xiot.errors import LinkError, StanzaError
from xiot.ext import Extension, Session, find_service
from xiot.model.reading import Reading
from xiot.stanzas import NS_CLIENT, message, presence
from xiot.xep import caps, disco, entitytime, last, ping, pubsub, roster, sensordata, stanzaid, version

if TYPE_CHECKING:
    from xiot.iot.thing import Thing
    from xiot.schema import Payload

T = TypeVar("T")


class Client:
    """One logged-in account (an `xiot.ext.Session`), through one stream after the other; made by `connect`."""

    def __init__(
        self,
        login: Login,
        extensions: Iterable[Extension],
        *,
        timeout: float,
        reconnect: bool,
        outage_s: float,
        ping_after_s: float | None,
        ping_timeout_s: float,
    ):
        extensions = tuple(extensions)
        self._timeout = timeout
        self._durable = login.durable
        self.roster = roster.Roster()
        """Our contacts, once `xiot.xep.roster.fetch` has brought them; pushes of our server keep them up to date."""
        self.directory = disco.Directory(
            extensions, identities=[disco.Identity(category="client", type="bot", name="xiot")]
        )
        """What we tell others that we can do."""
        self.activity = last.Activity()
        """When we last did something for our user; `touch` it for what is more than a message."""
        self.things = Things(self, Once(self), self.directory, self.send_presence)
        """Reading and controlling things."""
        self._objects: tuple[object, ...] = (
            self.roster,
            self.directory,
            self.things,
            self.activity,
            entitytime.Clock(),
            version.Version(name="xiot"),
        )
        self._outbox = Outbox(outage_s)
        self._requests = Requests(self._send, self._has_room)
        self._subscriptions = Subscriptions(self, self._has_room)
        self._restoring = Restoring(self.roster, self._subscriptions)
        self._handlers = Handlers(extensions, self, self._send)
        self._incoming = Incoming(self._requests, self._handlers, self._subscriptions, self.things, self._has_room)
        self._streams = Streams(
            login,
            self._outbox,
            self._incoming,
            self._restoring,
            Once(self, ahead=True),
            timeout=timeout,
            reconnect=reconnect,
            ping_after_s=ping_after_s,
            ping_timeout_s=ping_timeout_s,
        )

    def _has_room(self) -> None:
        self._streams.has_room()

    @asynccontextmanager
    async def _living(self, wire: Wire) -> AsyncIterator[None]:
        """Serve the streams, `wire` first; leaving the block closes the last one."""
        self._streams.begin(wire)
        problem: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                self._handlers.tasks = tasks
                tasks.start_soon(self._streams.run, wire)
                try:
                    yield
                except Exception as error:  # as it is, not in a group
                    problem = error
                await self._streams.close()
                tasks.cancel_scope.cancel()
        finally:
            self._streams.end(None)
        if problem is not None:
            raise problem

    # ---- what one is ----

    @property
    def jid(self) -> JID:
        """Our full JID. After a reconnect the server may have given us another resource."""
        return self._streams.jid

    @property
    def connected(self) -> bool:
        """Whether there is a stream, and what the session had is restored."""
        return self.state is State.CONNECTED

    @property
    def state(self) -> State:
        """What the connection is like now."""
        return self._streams.status.state

    def states(self) -> States:
        """The state now, and then each time it changes, up to ENDED. Who is slow gets the newest only."""
        return States(self._streams.status)

    def now(self) -> float:
        """A clock in seconds that never goes back."""
        return time.monotonic()

    # ---- sending ----

    async def send(self, stanza: Element) -> Receipt:
        """Send a stanza; returns when the transport has taken it. If cancelled it may still go out, but whole.

        ``await (await me.send(...)).delivered()`` also waits until the server has it (XEP-0198).

        Waits while too much is queued, and in an outage for another connection. Raises LinkError if there is none in time
        (`outage_s` of `connect`), or if the connection broke while the stanza was on its way; the error that ended the client, if it has
        ended; ValueError if it is no XML.
        """
        return await self._send(stanza)

    async def _send(self, stanza: Element, *, ahead: bool = False) -> Receipt:
        marked = self._durable and stanza.name == "message" and stanza.get("type") != "error"
        if marked:
            stanzaid.add_origin_id(stanza)
        data = stanza.tobytes(NS_CLIENT)
        if not self._streams.carries(stanza):
            raise StanzaError("not-acceptable", text="the schemas of this stream do not have it")
        if self._streams.closing:
            raise LinkError("the stream is closed")
        self._restoring.sent(stanza)
        return Receipt(self._outbox, await self._outbox.send(data, ahead=ahead, marked=marked))

    async def send_message(
        self, to: JID | str, body: str, *, type: Literal["chat", "normal", "headline"] = "chat"
    ) -> str:
        """Send a text; returns the id of the message. Raises as `send`."""
        id = uuid4().hex
        self.activity.touch()
        await self.send(message(Element(f"{{{NS_CLIENT}}}body", None, body), type=type, id=id, to=to))
        return id

    async def send_presence(
        self, to: JID | str | None = None, *, show: str | None = None, status: str | None = None, priority: int | None = None,
        type: Literal["unavailable"] | None = None,
    ) -> None:  # fmt: skip
        """Send presence, to everybody who may see it or to one JID (RFC 6121 section 4). Raises as `send`."""
        given = {"show": show, "status": status, "priority": None if priority is None else str(priority)}
        children = [Element(f"{{{NS_CLIENT}}}{name}", None, text) for name, text in given.items() if text is not None]
        if type is None:
            children.append(caps.announce(self.directory).to_element())
        await self.send(presence(*children, type=type, to=to))

    async def request(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        *,
        to: JID | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a waiter in a table, not a task
    ) -> Element | None:
        """Send an iq and wait for its answer, `timeout` seconds at most (None: as given to `connect`, not counting an outage before).

        Returns the child of the result, None if it is empty. Only an answer with our id from `to` counts (RFC 6120 section 8.1.3).
        If the connection is lost before the answer came, a get is asked again on the next one, and a set raises LinkError.
        Raises StanzaError as the peer answered, TimeoutError, or as `send`.
        """
        if type == "get" and to is None and isinstance(payload, roster.Query):
            self._restoring.wants_roster = True

        async def ask() -> Element | None:
            return await self._requests.ask(type, payload, to, self._timeout if timeout is None else None)

        try:
            with anyio.fail_after(timeout):
                return await (repeat(ask) if type == "get" else ask())
        except TimeoutError:
            if self.state is State.WAITING:
                raise LinkError("the connection is lost, and there was no other one in time") from None
            raise

    async def keep(self, act: Callable[[Session], Awaitable[object]]) -> None:
        """Do `act` now, and again on each new stream before anything else is sent: what a server forgets with the session.

        ``await me.keep(carbons.enable)``, for instance. Raises what `act` raises now; later a StanzaError is logged.
        """
        await act(self)
        self._restoring.keep(act)

    # ---- receiving ----

    def messages(self) -> AsyncIterator[Message]:
        """Messages in the order they came, for ever; it ends when the stream was closed, and raises LinkError if it was lost for good.

        While nobody iterates the newest 1000 are kept, up to 1 MiB. While somebody does (as long as the iterator lives) nothing
        is dropped: the stream is not read while 1024 or 1 MiB wait; but who fetches nothing for a minute then counts as gone.
        """
        return self._incoming.messages.listen()

    def presences(self) -> AsyncIterator[Presence]:
        """Presence of others and of our own resources, as `messages`."""
        return self._incoming.presences.listen()

    # ---- things ----

    async def publish(
        self, node: str, item: Reading | Payload | Element, *, id: str | None = None, service: JID | str | None = None
    ) -> str:
        """Publish to a node of our host's pubsub service, or of `service`; returns the item's id. The first publish makes the node.

        In an outage it waits as `send` does. If the connection is lost before the answer came it is published again, under the same
        id: it takes its own place there, though subscribers may get it twice.

        Raises StanzaError (``forbidden`` if the node is somebody else's), TimeoutError, LinkError.
        """
        element, at, id = to_element(item), self._service(service), id or uuid4().hex
        return await repeat(lambda: pubsub.publish(self, node, element, id=id, at=at))

    @asynccontextmanager
    async def subscribe(self, node: str, *, service: JID | str | None = None) -> AsyncIterator[AsyncIterator[Item]]:
        """Subscribe our full JID to a node and give its items as they are published; leaving the block unsubscribes.

        The last item, if the service sends it, comes first. After a reconnect the client subscribes again: what was published in
        between is missed, but for the last item; if the service refuses, the iteration raises its StanzaError.
        Raises StanzaError (``item-not-found`` if there is no such node).
        """
        if self._streams.ended is not None:
            raise fresh(self._streams.ended)
        async with self._subscriptions.subscribe(node, self._service(service)) as items:
            yield items

    async def serve(self, thing: Thing) -> None:
        """Be available, and answer for `thing`: read-outs and control (`xiot.Thing`). Runs until the stream is closed.

        Raises LinkError if it is lost, ValueError if we serve a thing already.
        """
        await self.things.serve(thing)

    async def ping(self, to: JID | str | None = None, *, timeout: float = 10.0) -> float:  # noqa: ASYNC109
        """Round trip to `to`, or to our server, in seconds (XEP-0199)."""
        return await ping.ping(self, to, timeout=timeout)

    def _service(self, service: JID | str | None) -> JID:
        return JID(f"pubsub.{self.jid.domain}") if service is None else JID(service)

    def service(self, kind: type[T]) -> T:
        """For handlers: the object of class `kind` that this client has. Raises LookupError."""
        return find_service(self._objects, kind)


class Once:
    """The client as a session that repeats no request."""

    def __init__(self, client: Client, *, ahead: bool = False) -> None:
        """`ahead`: what it sends goes ahead of what is queued, also while the session is being restored."""
        self._client = client
        self._ahead = ahead

    @property
    def jid(self) -> JID:
        """Our full JID."""
        return self._client.jid

    def now(self) -> float:
        """The client's clock."""
        return self._client.now()

    async def request(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        *,
        to: JID | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Element | None:
        """As `Client.request`, but once."""
        with anyio.fail_after(self._client._timeout if timeout is None else timeout):
            return await self._client._requests.ask(type, payload, to, None, ahead=self._ahead)

    async def send(self, stanza: Element) -> None:
        """As `Client.send`."""
        await self._client._send(stanza, ahead=self._ahead)


def to_element(item: Reading | Payload | Element) -> Element:
    """What is published, as a tree."""
    if isinstance(item, Element):
        return item
    return sensordata.write(item) if isinstance(item, Reading) else item.to_element()
