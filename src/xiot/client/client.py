# SPDX-License-Identifier: Apache-2.0
"""A logged-in client: `connect` and what can be done with what it gives.

Theory of operation. A `Client` outlives its streams. `login.establish` makes one, up to the bound resource; while it lasts one task
reads: answers go to whoever waits for them, requests of others to the handlers of the extensions, events to their subscriptions,
messages and presence into bounded inboxes. A second task writes what callers have queued: a caller that is cancelled in the middle of
it cuts no stanza and no TLS record. A third one pings when the server has long been silent. If any of them fails, all end, and unless
the reason is final the client makes the next stream by itself, with growing pauses (`reconnect`); there it first restores what the
session had (`_restore`), ahead of all that waits in the queue. Leaving the block ends everything.
"""

from __future__ import annotations

import enum
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from xiot.client.inbox import Inbox, fresh
from xiot.client.login import LOST, MAX_STANZA_BYTES, Login, Wire, establish
from xiot.client.memory import FileMemory, Memory
from xiot.client.outbox import Entry, Interrupted, Outbox
from xiot.client.reconnect import STEADY_S, delays, is_final
from xiot.client.things import Things
from xiot.core import JID, Element, JidError, Stanza
from xiot.errors import LinkError, StanzaError, StreamError, XiotError
from xiot.ext import SESSION, Extension, Handler, Key, Session, Style, dispatch_table, find_service
from xiot.model.reading import Reading
from xiot.net.dial import parse_address
from xiot.net.dns import Dns, Resolver
from xiot.net.tls import verifies
from xiot.proto import sm
from xiot.proto.events import Closed, NonzaReceived, StanzaReceived
from xiot.proto.stream import Phase
from xiot.stanzas import NS_CLIENT, error_to, iq, message, presence, read_error, reply_to
from xiot.xep import caps, carbons, disco, entitytime, last, ping, pubsub, roster, sensordata, standard, version

if TYPE_CHECKING:
    from xiot.iot.thing import Thing
    from xiot.proto.features import Tls
    from xiot.schema import Payload

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # for the peer's closing tag
LOOK_AGAIN_S = 1.0  # while the stream is not read: whether somebody has stopped to listen
MESSAGES_KEPT = 1000  # while nobody iterates over messages() or presences()
REPEATS = 3  # of what may be done twice, if the connection is lost in the middle of it each time
RESTORING = 32  # subscriptions that are asked for at once
HANDLING = 256  # requests and messages of others that are being dealt with at a time


class State(enum.Enum):
    """What a client's connection is like."""

    CONNECTED = "connected"
    WAITING = "waiting"
    """The connection is lost, and the client tries to get another one."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came (RFC 6121 section 5)."""

    sender: JID | None
    to: JID | None
    type: str
    """chat, error, groupchat, headline or normal."""
    id: str | None
    body: str | None
    element: Element
    """All of it."""


@dataclass(frozen=True, slots=True)
class Presence:
    """A presence as it came (RFC 6121 section 4)."""

    sender: JID | None
    type: str | None
    """None: available."""
    show: str | None
    status: str | None
    priority: int
    element: Element


@dataclass(frozen=True, slots=True)
class Item:
    """A published item, as a subscriber gets it (XEP-0060 section 7.1.2)."""

    node: str
    id: str
    publisher: JID | None
    payload: Element | None

    @property
    def reading(self) -> Reading:
        """The payload as a reading. Raises ValueError if it is none."""
        if self.payload is None:
            raise ValueError("the item has no payload")
        return sensordata.read(self.payload)


class Receipt:
    """Of a stanza that was sent."""

    def __init__(self, outbox: Outbox, entry: Entry) -> None:
        self._outbox = outbox
        self._entry = entry

    async def delivered(self) -> None:
        """Wait until the server has acknowledged the stanza, over however many connections (XEP-0198).

        Raises LinkError if that will not be known: the server has no stream management, or the stream could not be resumed.
        """
        await self._outbox.delivered(self._entry)


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
        self._jid = login.account  # until the server has said more
        self._login = login
        self._timeout = timeout
        self._reconnect = reconnect
        self._ping_after_s = ping_after_s
        self._ping_timeout_s = ping_timeout_s
        self._wire: Wire | None = None  # None between two streams
        self._heard_at = 0.0  # when the last octet came
        self._former: str | None = None  # what the stream can be resumed by (XEP-0198)
        self._counts = False  # stanzas that come
        self._handled = 0
        self._outbox = Outbox(outage_s)
        self._waiting: dict[str, Question] = {}
        self._room = anyio.Event()
        self._messages: Inbox[Message] = Inbox(self._has_room, keep=MESSAGES_KEPT)
        self._presences: Inbox[Presence] = Inbox(self._has_room, keep=MESSAGES_KEPT)
        self._subscriptions: dict[tuple[str, str], Subscription] = {}
        self._handling = 0  # tasks of handlers
        self._kept: list[Callable[[Session], Awaitable[object]]] = []
        self._wants_roster = False
        self._presence: Element | None = None  # the last one to everybody
        self._state = State.WAITING
        self._state_changed = anyio.Event()
        self._closing = False
        self._ended: XiotError | None = None
        self._closed = anyio.Event()
        extensions = tuple(extensions)
        self._table = dispatch_table(extensions)
        self.roster = roster.Roster()
        """Our contacts, once `xiot.xep.roster.fetch` has brought them; pushes of our server keep them up to date."""
        self.directory = disco.Directory(
            extensions, identities=[disco.Identity(category="client", type="bot", name="xiot")]
        )
        """What we tell others that we can do."""
        self.activity = last.Activity()
        """When we last did something for our user; `touch` it for what is more than a message."""
        self.things = Things(self, self.directory, self.send_presence)
        """Reading and controlling things."""
        self._objects: tuple[object, ...] = (
            self.roster,
            self.directory,
            self.things,
            self.activity,
            entitytime.Clock(),
            version.Version(name="xiot"),
        )
        self._tasks: TaskGroup

    # ---- what one is ----

    @property
    def jid(self) -> JID:
        """Our full JID. After a reconnect the server may have given us another resource."""
        return self._jid

    @property
    def connected(self) -> bool:
        """Whether there is a stream, and what the session had is restored."""
        return self._state is State.CONNECTED

    @property
    def state(self) -> State:
        """What the connection is like now."""
        return self._state

    def states(self) -> States:
        """The state now, and then each time it changes, up to ENDED. Who is slow gets the newest only."""
        return States(self)

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
        data = stanza.tobytes(NS_CLIENT)
        if self._closing:
            raise LinkError("the stream is closed")
        if stanza.name == "presence" and stanza.get("to") is None and stanza.get("type") in (None, "unavailable"):
            self._presence = stanza if stanza.get("type") is None else None
        return Receipt(self._outbox, await self._outbox.send(data, ahead=ahead))

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
            self._wants_roster = True

        async def ask() -> Element | None:
            return await self._request(type, payload, to, self._timeout if timeout is None else None)

        try:
            with anyio.fail_after(timeout):
                return await (_repeat(ask) if type == "get" else ask())
        except TimeoutError:
            if self._state is State.WAITING:
                raise LinkError("the connection is lost, and there was no other one in time") from None
            raise

    async def _request(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        to: JID | str | None,
        answer_s: float | None,
        *,
        ahead: bool = False,
    ) -> Element | None:
        """As `request`, once; `answer_s` is for the answer alone."""
        question = Question(None if to is None else JID(to), self._has_room)
        id = uuid4().hex
        self._waiting[id] = question
        self._has_room()  # the reader must not wait for an inbox while we wait for an answer
        try:
            await self._send(iq(type, payload.to_element(), id=id, to=question.to), ahead=ahead)
            question.sent = True
            with anyio.fail_after(answer_s):
                answer = await anext(question.answers)
        finally:
            del self._waiting[id]
        if answer.type == "error":
            raise read_error(answer.element)
        return next(iter(answer.element), None)

    async def keep(self, act: Callable[[Session], Awaitable[object]]) -> None:
        """Do `act` now, and again on each new stream before anything else is sent: what a server forgets with the session.

        ``await me.keep(carbons.enable)``, for instance. Raises what `act` raises now; later a StanzaError is logged.
        """
        await act(self)
        self._kept.append(act)

    # ---- receiving ----

    def messages(self) -> AsyncIterator[Message]:
        """Messages in the order they came, for ever; it ends when the stream was closed, and raises LinkError if it was lost for good.

        While nobody iterates the newest 1000 are kept, up to 1 MiB. While somebody does (as long as the iterator lives) nothing
        is dropped: the stream is not read while 1024 or 1 MiB wait; but who fetches nothing for a minute then counts as gone.
        """
        return self._messages.listen()

    def presences(self) -> AsyncIterator[Presence]:
        """Presence of others and of our own resources, as `messages`."""
        return self._presences.listen()

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
        return await _repeat(lambda: pubsub.publish(self, node, element, id=id, at=at))

    @asynccontextmanager
    async def subscribe(self, node: str, *, service: JID | str | None = None) -> AsyncIterator[AsyncIterator[Item]]:
        """Subscribe our full JID to a node and give its items as they are published; leaving the block unsubscribes.

        The last item, if the service sends it, comes first. After a reconnect the client subscribes again: what was published in
        between is missed, but for the last item; if the service refuses, the iteration raises its StanzaError.
        Raises StanzaError (``item-not-found`` if there is no such node).
        """
        if self._ended is not None:
            raise fresh(self._ended)
        at = self._service(service)
        key = (str(at), node)
        inbox: Inbox[Item] = Inbox(self._has_room)
        subscription = self._subscriptions.setdefault(key, Subscription())
        subscription.boxes.append(inbox)
        try:
            async with subscription.lock:  # if whoever came first is refused, or gives up, the next one asks
                if not subscription.made:
                    await _repeat(lambda: pubsub.subscribe(self, node, at=at))
                    subscription.made = True
            yield inbox
        finally:
            subscription.boxes.remove(inbox)
            self._has_room()  # the reader may have waited for this inbox
            if not subscription.boxes:
                del self._subscriptions[key]
                if self._ended is None:
                    with anyio.move_on_after(CLOSE_S, shield=True):
                        await self._unsubscribe(node, at)

    async def _unsubscribe(self, node: str, at: JID) -> None:
        with suppress(XiotError, TimeoutError):  # it ends with our resource anyway
            await pubsub.unsubscribe(self, node, at=at)

    async def serve(self, thing: Thing) -> None:
        """Be available, and answer for `thing`: read-outs and control (`xiot.Thing`). Runs until the stream is closed.

        Raises LinkError if it is lost, ValueError if we serve a thing already.
        """
        await self.things.serve(thing)

    async def ping(self, to: JID | str | None = None, *, timeout: float = 10.0) -> float:  # noqa: ASYNC109
        """Round trip to `to`, or to our server, in seconds (XEP-0199)."""
        return await ping.ping(self, to, timeout=timeout)

    def _service(self, service: JID | str | None) -> JID:
        return JID(f"pubsub.{self._jid.domain}") if service is None else JID(service)

    # ---- the stream ----

    def service(self, kind: type[T]) -> T:
        """For handlers: the object of class `kind` that this client has. Raises LookupError."""
        return find_service(self._objects, kind)

    def _has_room(self) -> None:
        self._room.set()

    def _begin(self, wire: Wire) -> None:
        self._jid, self._wire = wire.jid, wire
        self._manage(wire)
        self._open()

    # ---- stream management (XEP-0198) ----

    def _manage(self, wire: Wire) -> None:
        """Begin anew on a stream that goes on with no earlier one."""
        self._former, self._counts, self._handled = None, False, 0
        machine = wire.machine
        if machine.managed and machine.outcome is not None and machine.outcome.bound is not None:
            self._outbox.manage(asked=True)
            answers = [element for element in machine.outcome.bound if element.ns == sm.NS]
            if answers:
                self._on_sm(answers[0])
            else:
                self._outbox.unmanaged()
        elif machine.features is not None and sm.offered(machine.features.element):
            self._outbox.manage(asked=False)

    def _on_sm(self, element: Element) -> None:
        """Deal with an element of the server's. Raises StreamError."""
        try:
            answer = sm.parse(element)
            if element.name == "r":
                self._acknowledge()
            elif element.name == "a" and not self._outbox.acknowledge(sm.parse_count(element)):
                raise StreamError("undefined-condition", "the server acknowledges more than we have sent")
            elif isinstance(answer, sm.Enabled):
                self._counts, self._former = True, answer.id
            elif isinstance(answer, sm.Failed):
                self._outbox.unmanaged()
        except ValueError as error:
            raise StreamError("bad-format", str(error)) from None

    def _acknowledge(self) -> None:
        if self._counts:
            self._outbox.put(sm.acknowledgement(self._handled), ahead=True, stanza=False)

    def _go_on(self, wire: Wire) -> bool:
        """Whether the stream goes on with the last one; if not, what was under way is lost."""
        if wire.machine.resumed is not None and self._outbox.acknowledge(wire.machine.resumed):
            self._outbox.resend()
            return True
        self._interrupt()
        self._manage(wire)
        return False

    # ---- one stream after the other ----

    async def _run(self, wire: Wire) -> None:
        """Serve one stream after the other, until one ends for good."""
        tries, restore = delays(), False
        while True:
            began_at = self.now()
            error = await self._serve(wire, restore=restore)
            if self._closing or not self._reconnect or is_final(error):
                self._end(error)
                return
            self._set_state(State.WAITING)
            lost_at = self.now()
            if lost_at - began_at >= STEADY_S:
                tries = delays()
            log.warning("%s: %s; trying to connect again", self._jid, error or "the server closed the stream")
            try:
                wire = await self._connect_again(tries, self._login.redirected(error, wire.machine))
            except XiotError as final:
                log.error("%s: given up: %s", self._jid, final)
                self._end(final)
                return
            self._jid = wire.jid
            restore = not self._go_on(wire)
            how = "logged in again" if restore else "resumed"
            log.info("%s: %s after %.1f s", self._jid, how, self.now() - lost_at)
            if not restore:
                self._open()

    async def _connect_again(self, tries: Iterator[float], address: str | None) -> Wire:
        """The next stream, first at `address` if the server sent us there. Raises the error after which there is none."""
        resource = self._jid.resource if self._jid.local is not None and self._login.account.local is not None else None
        resume = None if self._former is None else (self._jid, sm.Resume(self._former, self._handled))
        for delay in tries:
            if delay:
                log.info("%s: trying again in %.1f s", self._jid, delay)
                await anyio.sleep(delay)
            try:
                with anyio.fail_after(self._timeout):
                    return await establish(self._login, resource=resource, address=address, resume=resume)
            except (XiotError, TimeoutError) as problem:
                if is_final(problem):
                    raise
                log.warning("%s: cannot connect: %s", self._jid, str(problem) or "no answer in time")
            address = None
        raise AssertionError("there is always another try")

    def _interrupt(self) -> None:
        """The new stream does not resume the last one: what was under way there is lost."""
        self._outbox.forget()
        for question in self._waiting.values():
            if question.sent:
                question.answers.end(Interrupted())

    async def _serve(self, wire: Wire, *, restore: bool) -> XiotError | None:
        """Read, write and ping until the stream ends; returns the error it ended with."""
        ended: list[XiotError | None] = []

        async def until_end(part: Callable[[Wire], Awaitable[XiotError | None]]) -> None:
            error: XiotError | None = LinkError("the connection is lost")
            try:
                error = await part(wire)
            except LOST:
                pass
            except XiotError as problem:
                error = problem
            ended.append(error)
            parts.cancel_scope.cancel()

        self._wire = wire
        self._heard_at = self.now()
        try:
            async with anyio.create_task_group() as parts:
                parts.start_soon(until_end, self._read)
                parts.start_soon(until_end, self._write)
                if self._ping_after_s is not None:
                    parts.start_soon(until_end, self._watch)
                if restore:
                    parts.start_soon(until_end, self._restore)
        finally:
            self._wire = None
            self._outbox.close()
            with anyio.CancelScope(shield=True), suppress(*LOST), anyio.move_on_after(CLOSE_S):
                await wire.transport.aclose()
        return ended[0]

    async def _write(self, wire: Wire) -> XiotError | None:
        try:
            await self._outbox.run(wire.transport)
        except LOST:
            await anyio.sleep(CLOSE_S)  # the reader may still find why: the server's last word
            raise

    async def _read(self, wire: Wire) -> XiotError | None:
        """Receive until the stream is closed; returns the error it ended with. Raises as the transport."""
        events = wire.early
        while True:
            for event in events:
                if isinstance(event, StanzaReceived):
                    await self._dispatch(event.stanza)
                    self._handled = (self._handled + self._counts) % sm.COUNTS
                elif isinstance(event, NonzaReceived) and event.stanza.ns == sm.NS:
                    self._on_sm(event.stanza.element)
                elif isinstance(event, Closed):
                    self._former = None  # what was closed is not gone on with
                    with anyio.move_on_after(CLOSE_S):
                        await self._outbox.send(wire.machine.data_to_send(), ahead=True, stanza=False)
                    return event.error
            while self._crowded():
                self._room = anyio.Event()
                with anyio.move_on_after(LOOK_AGAIN_S):
                    await self._room.wait()
            events = await wire.receive()
            self._heard_at = self.now()

    async def _watch(self, wire: Wire) -> XiotError | None:
        """Ping the server when nothing has come for `ping_after_s`; returns if it does not answer (XEP-0199 section 4.2)."""
        assert self._ping_after_s is not None
        while True:
            quiet = self.now() - self._heard_at
            if quiet < self._ping_after_s or self._crowded():  # what we do not read says nothing
                await anyio.sleep(max(self._ping_after_s - quiet, LOOK_AGAIN_S))
                continue
            asked_at = self.now()
            with suppress(StanzaError, TimeoutError):
                await ping.ping(Ahead(self), JID(self._jid.domain), timeout=self._ping_timeout_s)
            if self._heard_at < asked_at:
                return LinkError(f"the server has not answered a ping for {self._ping_timeout_s:g} s")

    async def _restore(self, wire: Wire) -> XiotError | None:
        """Make the session what it was on the stream before, then let through what waits (RFC 6121 section 2.2: the roster first)."""
        session, failed = Ahead(self), False
        try:
            if self._wants_roster:
                await self._again("the roster", lambda: roster.fetch(session, self.roster))
            for act in self._kept:
                await self._again("what was to be kept", lambda act=act: act(session))  # type: ignore[misc]
            limit = anyio.CapacityLimiter(RESTORING)
            async with anyio.create_task_group() as asking:
                for (at, node), subscription in self._subscriptions.items():
                    if subscription.made:
                        asking.start_soon(self._subscribe_again, session, node, JID(at), subscription, limit)
            if self._presence is not None:
                await session.send(self._presence)
        except* (TimeoutError, XiotError):
            failed = True
        if failed:
            return LinkError("the session could not be restored")
        self._open()
        await anyio.sleep_forever()
        return None

    async def _again(self, what: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except StanzaError as error:
            log.warning("%s: %s is not restored: %s", self._jid, what, error)

    async def _subscribe_again(
        self, session: Session, node: str, at: JID, subscription: Subscription, limit: anyio.CapacityLimiter
    ) -> None:
        async with limit:
            subscription.again = True
            try:
                await pubsub.subscribe(session, node, at=at)
            except StanzaError as error:
                log.warning("%s: the subscription to %s is not restored: %s", self._jid, node, error)
                subscription.made = False
                for box in subscription.boxes:
                    box.end(error)

    def _open(self) -> None:
        self._outbox.open()
        self._set_state(State.CONNECTED)

    def _set_state(self, state: State) -> None:
        self._state = state
        self._state_changed.set()
        self._state_changed = anyio.Event()

    def _crowded(self) -> bool:
        if (
            self._waiting
            or self.things.waiting
            or (self._wire is not None and self._wire.machine.phase is Phase.CLOSING)
        ):
            return False
        full = any(box.full for subscription in self._subscriptions.values() for box in subscription.boxes)
        return full or self._messages.full or self._presences.full

    def _end(self, error: XiotError | None) -> None:
        if self._ended is not None:
            return
        self._ended = error if error is not None else LinkError("the stream is closed")
        self._outbox.end(self._ended)
        for question in self._waiting.values():
            question.answers.end(self._ended)
        self._messages.end(error)
        self._presences.end(error)
        for subscription in self._subscriptions.values():
            for box in subscription.boxes:
                box.end(error)
        self.things.end(error)
        self._set_state(State.ENDED)
        self._closed.set()

    async def _close(self) -> None:
        """Close our side, wait a moment for the peer's (RFC 6120 section 4.4)."""
        self._closing = True
        if self._ended is None and self._wire is not None:
            self._wire.machine.close()
            self._acknowledge()  # else the server would take what has just come for lost
            self._outbox.put(self._wire.machine.data_to_send(), ahead=not self.connected, stanza=False)
            self._has_room()
            with anyio.move_on_after(CLOSE_S):
                await self._closed.wait()

    async def _dispatch(self, stanza: Stanza) -> None:
        try:
            sender = None if stanza.from_ is None else JID(stanza.from_)
            to = None if stanza.to is None else JID(stanza.to)
        except JidError:
            return  # a server stamps and checks addresses: this can be answered to nobody
        if stanza.name == "iq":
            if stanza.type in ("result", "error"):
                self._on_answer(stanza, sender)
            else:
                await self._on_request(stanza, sender)
        elif stanza.name == "message":
            event = stanza.payload == (pubsub.NS_EVENT, "event") and stanza.type != "error"
            if event and sender is not None and self._on_event(stanza, sender):
                return
            if carbons.is_carbon(stanza.element) and carbons.unwrap(stanza.element, self._jid.bare) is None:
                return  # XEP-0280 section 11: somebody pretends to be our server
            if self._on_message(stanza, sender):
                return
            body = stanza.element.findtext(f"{{{NS_CLIENT}}}body")
            text = Message(sender, to, stanza.type or "normal", stanza.id, body, stanza.element)
            self._messages.put(text, len(stanza.raw))
        else:
            self._presences.put(to_presence(stanza, sender), len(stanza.raw))

    def _on_answer(self, stanza: Stanza, sender: JID | None) -> None:
        question = self._waiting.get(stanza.id or "")
        if question is None:
            return
        # RFC 6120 section 8.1.2.1: no `from`, or our own bare JID, or the server, is our account's answer
        own = (None, self._jid.bare, JID(self._jid.domain), self._jid)
        if sender == question.to or (question.to in own and sender in own):
            question.answers.put(stanza)

    def _on_event(self, stanza: Stanza, sender: JID) -> bool:
        try:
            event = pubsub.Event.from_element(next(iter(stanza.element)))
        except StanzaError:
            return False
        items = event.verb
        if not isinstance(items, pubsub.EventItems):
            return False
        subscription = self._subscriptions.get((str(sender), items.node))
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

    def _on_message(self, stanza: Stanza, sender: JID | None) -> bool:
        """Hand a message to the handlers of its payload; False if there are none."""
        if stanza.payload is None or stanza.type == "error":
            return False
        handlers = self._table.get(Key("message", None, SESSION, stanza.payload), ())
        context = Request(self, stanza, sender or self._jid.bare)
        for handler in handlers:
            with ignoring_failures():
                outcome: Any = self._call(handler, stanza, context)
                if handler.style is Style.ASYNC:
                    self._tasks.start_soon(self._finish, outcome)
        return bool(handlers)

    async def _finish(self, outcome: Awaitable[None]) -> None:
        with ignoring_failures():
            await outcome
        self._handling -= 1

    def _call(self, handler: Handler, stanza: Stanza, context: Request) -> Any:
        """Call a handler, and count it if it goes on in a task. Raises StanzaError, also if too many do."""
        if handler.style is Style.ASYNC and self._handling >= HANDLING:
            raise StanzaError("resource-constraint")
        outcome = handler(next(iter(stanza.element)), context)
        if handler.style is Style.ASYNC:
            self._handling += 1
        return outcome

    async def _on_request(self, stanza: Stanza, sender: JID | None) -> None:
        kind: Literal["get", "set"] = "get" if stanza.type == "get" else "set"
        handlers = self._table.get(Key("iq", kind, SESSION, stanza.payload)) if stanza.payload is not None else None
        try:
            if handlers is None or stanza.type not in ("get", "set"):
                raise StanzaError("service-unavailable")
            context = Request(self, stanza, sender or self._jid.bare)
            outcome: Any = self._call(handlers[0], stanza, context)
            if handlers[0].style is Style.ASYNC:
                self._tasks.start_soon(self._answer_later, context, stanza, outcome)
                return
            await self._reply(reply_to(stanza, None if outcome is None else outcome.to_element()))
        except StanzaError as error:
            await self._reply(error_to(stanza, error))
        except Exception:
            await self._reply(self._failure(stanza))

    async def _answer_later(self, context: Request, stanza: Stanza, outcome: Awaitable[Payload | None]) -> None:
        answer: Element | None = None
        try:
            payload = await outcome
            answer = reply_to(stanza, None if payload is None else payload.to_element())
        except StanzaError as error:
            answer = error_to(stanza, error)
        except XiotError:
            return  # the stream has ended while it worked
        except Exception:
            answer = self._failure(stanza)
        finally:
            self._handling -= 1
        if not context.replied:
            await self._reply(answer)

    def _failure(self, stanza: Stanza) -> Element | None:
        log.exception("a handler failed on the request %s", stanza.id)
        return error_to(stanza, StanzaError("internal-server-error"))

    async def _reply(self, answer: Element | None) -> None:
        if answer is not None and self._ended is None:
            with suppress(XiotError):  # whoever asked is gone with the stream
                await self._send(answer, ahead=True)


class Ahead:
    """The client as a session whose stanzas go ahead of what is queued, also while the session is being restored."""

    def __init__(self, client: Client) -> None:
        self._client = client

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
            return await self._client._request(type, payload, to, None, ahead=True)

    async def send(self, stanza: Element) -> None:
        """As `Client.send`."""
        await self._client._send(stanza, ahead=True)


class States:
    """An iteration over the states of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: State | None = None

    def __aiter__(self) -> States:
        return self

    async def __anext__(self) -> State:
        if self._last is State.ENDED:
            raise StopAsyncIteration
        while self._client._state is self._last:
            await self._client._state_changed.wait()
        self._last = self._client._state
        return self._last


class Question:
    """An iq of ours that waits for its answer."""

    def __init__(self, to: JID | None, on_room: Callable[[], None]) -> None:
        self.to = to
        self.sent = False
        self.answers: Inbox[Stanza] = Inbox(on_room)


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


class Request:
    """What a handler of ours knows of the stanza it got, and may do (an `xiot.ext.Answering`)."""

    def __init__(self, client: Client, stanza: Stanza, sender: JID) -> None:
        self._client = client
        self._stanza = stanza
        self.sender = sender
        """Who sent it, as the server stamped it."""
        self.replied = False

    @property
    def to(self) -> JID:
        """Us."""
        return self._client.jid

    @property
    def id(self) -> str:
        """The id of the stanza."""
        return self._stanza.id or ""

    def service(self, kind: type[T]) -> T:
        """The object of class `kind` that the client has. Raises LookupError."""
        return self._client.service(kind)

    async def reply(self, payload: Payload | None) -> None:
        """Answer the iq now; what the handler returns or raises later is not sent."""
        self.replied = True
        await self._client.send(reply_to(self._stanza, None if payload is None else payload.to_element()))

    async def send(self, stanza: Element) -> None:
        """Send a stanza of its own. Raises LinkError if the stream has ended."""
        await self._client.send(stanza)


@contextmanager
def ignoring_failures() -> Iterator[None]:
    """For messages, which nobody answers: log what goes wrong, a fault of ours loudly."""
    try:
        yield
    except XiotError as error:
        log.debug("a message is ignored: %s", error)
    except Exception:
        log.exception("a handler failed on a message")


def to_element(item: Reading | Payload | Element) -> Element:
    """What is published, as a tree."""
    if isinstance(item, Element):
        return item
    return sensordata.write(item) if isinstance(item, Reading) else item.to_element()


def to_presence(stanza: Stanza, sender: JID | None) -> Presence:
    """The fields of a presence stanza; a priority that is no number is 0."""
    element = stanza.element
    show, status, priority = (element.findtext(f"{{{NS_CLIENT}}}{name}") for name in ("show", "status", "priority"))
    try:
        number = int(priority or 0)
    except ValueError:
        number = 0
    return Presence(sender, stanza.type, show, status, number, element)


async def _repeat(act: Callable[[], Awaitable[T]]) -> T:
    """What `act` gives; done again, a few times, if the connection is lost in the middle of it."""
    for _ in range(REPEATS):
        with suppress(Interrupted):
            return await act()
    return await act()


@asynccontextmanager
async def connect(
    jid: JID | str,
    password: str | None = None,
    *,
    address: str | None = None,
    ca_file: str | Path | None = None,
    ssl_context: ssl.SSLContext | None = None,
    pins: Collection[str] = (),
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    memory: Memory | str | Path | None = None,
    tls: Tls | Literal["direct"] = "required",
    plain_without_tls: bool = False,
    timeout: float = 30.0,  # noqa: ASYNC109 - for each of many steps
    reconnect: bool = True,
    outage_s: float = 60.0,
    ping_after_s: float | None = 120.0,
    ping_timeout_s: float = 30.0,
    max_stanza_bytes: int = MAX_STANZA_BYTES,
    resolver: Resolver | None = None,
    extensions: Iterable[Extension] | None = None,
) -> AsyncIterator[Client]:
    """Log in and give a `Client`; leaving the block closes the stream.

    `jid`: the account, with a resource if a certain one is wanted; a domain alone logs in anonymously. `address`: "host:port" of the
    server, else what the SRV records of the JID's domain say (RFC 6120 section 3.2, XEP-0368), else the domain at port 5222; `resolver`
    is asked instead of the system's. The certificate must be valid for the JID's domain, by the system's CAs, `ca_file`, or as
    `ssl_context` says, which must not let just anybody through, whatever the DNS says; or it is one of `pins` (SHA-256 fingerprints of
    certificates or public keys, see `xiot.net.tls.client_context`). `certificate`, `key`: PEM files to log in with instead of a
    password (EXTERNAL). `memory`: what is remembered from login to login, so that nobody talks us down to less TLS, less channel
    binding or a weaker mechanism than before; a path keeps it in a file. `tls`: "required" (STARTTLS, or TLS from the first octet where the DNS knows of it),
    "direct" (from the first octet only), "optional", "off"; without TLS SCRAM is still safe against listeners, PLAIN needs
    `plain_without_tls`. `timeout`: seconds for the login, and for a request that names none. `max_stanza_bytes`: a longer one ends
    the stream.

    The first login fails at once; later, if `reconnect`, a lost stream is replaced, until an error comes that is final
    (`xiot.client.reconnect`), and roster, presence and subscriptions are restored. Meanwhile whoever sends waits, at most `outage_s`
    seconds. A server that has been silent for `ping_after_s` seconds (None: for ever) is pinged, and lost if nothing comes for
    `ping_timeout_s` more: so it is known to be dead after 150 s. What was sent and is not acknowledged by TCP ends
    the connection after 60 s.

    Raises LinkError (no connection, no TLS, lost), AuthError (login refused, or the server could not prove that it knows us), TimeoutError,
    ValueError (not a JID, not an address).
    """
    if address is not None:
        parse_address(address)
    if ssl_context is not None and (pins or certificate is not None):
        raise ValueError("an ssl_context brings its own certificates and pins")
    if ssl_context is not None and not verifies(ssl_context):
        raise ValueError("this ssl_context would let just anybody be the server: give ca_file or pins instead")
    if not isinstance(memory, Memory):
        memory = Memory() if memory is None else await anyio.to_thread.run_sync(FileMemory, memory)
    login = Login(
        account=JID(jid),
        password=password,
        address=address,
        ca_file=ca_file,
        ssl_context=ssl_context,
        tls=tls,
        plain_without_tls=plain_without_tls,
        max_stanza_bytes=max_stanza_bytes,
        resolver=resolver or Dns(),
        pins=pins,
        certificate=certificate,
        key=key,
        memory=memory,
    )
    client = Client(
        login,
        standard() if extensions is None else extensions,
        timeout=timeout,
        reconnect=reconnect,
        outage_s=outage_s,
        ping_after_s=ping_after_s,
        ping_timeout_s=ping_timeout_s,
    )
    with anyio.fail_after(timeout):
        wire = await establish(login)
    client._begin(wire)
    problem: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            client._tasks = tasks
            tasks.start_soon(client._run, wire)
            try:
                yield client
            except Exception as error:  # as it is, not in a group
                problem = error
            await client._close()
            tasks.cancel_scope.cancel()
    finally:
        client._end(None)
    if problem is not None:
        raise problem
