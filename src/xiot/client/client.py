# SPDX-License-Identifier: Apache-2.0
"""A logged-in client: `connect` and what can be done with what it gives.

Theory of operation. `connect` dials, drives the stream machine of `xiot.proto` until the resource is bound, and then starts one task that
reads: answers go to whoever waits for them, requests of others to the handlers of the extensions, events to their subscriptions,
messages and presence into bounded inboxes. A second task writes what callers have queued: a caller that is cancelled in the middle of
it cuts no stanza and no TLS record. If either task fails, both end. Leaving the block ends everything.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, TaskGroup

from xiot.client.inbox import Inbox, fresh
from xiot.client.outbox import Outbox
from xiot.client.things import Things
from xiot.core import JID, Element, JidError, Stanza, StreamClose, StreamOpen, StreamParser, XmlError
from xiot.errors import AuthError, LinkError, StanzaError, XiotError
from xiot.ext import SESSION, Extension, Handler, Key, Style, dispatch_table, find_service
from xiot.model.reading import Reading
from xiot.net.dial import bindings, dial, parse_address, secure
from xiot.net.tls import make_client_context
from xiot.proto import scram
from xiot.proto.events import (
    Authenticated,
    Closed,
    Event,
    NeedPassword,
    NeedSaltedPassword,
    Ready,
    RestartStream,
    StanzaReceived,
    StartTls,
)
from xiot.proto.initiating import ClientStream
from xiot.proto.stream import Phase
from xiot.stanzas import NS_CLIENT, error_to, iq, message, presence, read_error, reply_to
from xiot.xep import disco, ping, pubsub, roster, sensordata, standard, version

if TYPE_CHECKING:
    from xiot.iot.thing import Thing
    from xiot.proto.features import Tls
    from xiot.schema import Payload

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # for the peer's closing tag
RECEIVE_BYTES = 16384
MESSAGES_KEPT = 1000  # until messages() or presences() is iterated
HANDLING = 256  # requests and messages of others that are being dealt with at a time
MAX_STANZA_BYTES = 16 * 2**20  # what a server lets through must not end our stream: far more than servers take

LOST = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
)  # what a broken transport raises


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


class Client:
    """One logged-in stream (an `xiot.ext.Session`); made by `connect`."""

    def __init__(
        self,
        transport: ByteStream,
        parser: StreamParser,
        machine: ClientStream,
        early: list[Event],
        extensions: Iterable[Extension],
        timeout: float,
    ):
        assert machine.jid is not None
        self._jid: JID = machine.jid
        self._transport = transport
        self._parser = parser
        self._machine = machine
        self._early = early  # came in one read with the end of the login
        self._timeout = timeout
        self._lock = anyio.Lock()  # who queues next
        self._outbox = Outbox()
        self._waiting: dict[str, tuple[JID | None, Inbox[Stanza]]] = {}
        self._room = anyio.Event()
        self._messages: Inbox[Message] = Inbox(self._has_room, keep=MESSAGES_KEPT)
        self._presences: Inbox[Presence] = Inbox(self._has_room, keep=MESSAGES_KEPT)
        self._subscriptions: dict[tuple[str, str], Subscription] = {}
        self._handling = 0  # tasks of handlers
        self._ended: XiotError | None = None
        self._closed = anyio.Event()
        extensions = tuple(extensions)
        self._table = dispatch_table(extensions)
        self.roster = roster.Roster()
        """Our contacts, once `xiot.xep.roster.fetch` has brought them; pushes of our server keep them up to date."""
        directory = disco.Directory(extensions, identities=[disco.Identity(category="client", type="bot", name="xiot")])
        self.things = Things(self, directory, self.send_presence)
        """Reading and controlling things."""
        self._objects: tuple[object, ...] = (self.roster, directory, self.things, version.Version(name="xiot"))
        self._tasks: TaskGroup

    # ---- what one is ----

    @property
    def jid(self) -> JID:
        """Our full JID."""
        return self._jid

    def now(self) -> float:
        """A clock in seconds that never goes back."""
        return time.monotonic()

    # ---- sending ----

    async def send(self, stanza: Element) -> None:
        """Send a stanza; returns when the transport has taken it. If cancelled it may still go out, but whole.

        Raises LinkError, or the StreamError that ended the stream, if it has ended; ValueError if it is no XML.
        """
        async with self._lock:
            await self._outbox.room()
            self._machine.send(stanza)
            mark = self._outbox.put(self._machine.data_to_send())
        await self._outbox.sent(mark)

    async def send_message(
        self, to: JID | str, body: str, *, type: Literal["chat", "normal", "headline"] = "chat"
    ) -> str:
        """Send a text; returns the id of the message. Raises as `send`."""
        id = uuid4().hex
        await self.send(message(Element(f"{{{NS_CLIENT}}}body", None, body), type=type, id=id, to=to))
        return id

    async def send_presence(
        self, to: JID | str | None = None, *, show: str | None = None, status: str | None = None, priority: int | None = None,
        type: Literal["unavailable"] | None = None,
    ) -> None:  # fmt: skip
        """Send presence, to everybody who may see it or to one JID (RFC 6121 section 4). Raises as `send`."""
        given = {"show": show, "status": status, "priority": None if priority is None else str(priority)}
        children = (Element(f"{{{NS_CLIENT}}}{name}", None, text) for name, text in given.items() if text is not None)
        await self.send(presence(*children, type=type, to=to))

    async def request(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        *,
        to: JID | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a waiter in a table, not a task
    ) -> Element | None:
        """Send an iq and wait for its answer, `timeout` seconds at most (None: as given to `connect`).

        Returns the child of the result, None if it is empty. Only an answer with our id from `to` counts (RFC 6120 section 8.1.3).
        Raises StanzaError as the peer answered, TimeoutError, or as `send`.
        """
        address = None if to is None else JID(to)
        id = uuid4().hex
        answers: Inbox[Stanza] = Inbox(self._has_room)
        self._waiting[id] = (address, answers)
        self._has_room()  # the reader must not wait for an inbox while we wait for an answer
        try:
            with anyio.fail_after(self._timeout if timeout is None else timeout):
                await self.send(iq(type, payload.to_element(), id=id, to=address))
                answer = await anext(answers)
        finally:
            del self._waiting[id]
        if answer.type == "error":
            raise read_error(answer.element)
        return next(iter(answer.element), None)

    # ---- receiving ----

    def messages(self) -> AsyncIterator[Message]:
        """Messages in the order they came, for ever; it ends when the stream was closed, and raises LinkError if it was lost.

        Before the first iteration the newest 1000 are kept; from then on all: the stream is not read while too many wait.
        """
        return self._messages

    def presences(self) -> AsyncIterator[Presence]:
        """Presence of others and of our own resources, as `messages`."""
        return self._presences

    # ---- things ----

    async def publish(
        self, node: str, item: Reading | Payload | Element, *, id: str | None = None, service: JID | str | None = None
    ) -> str:
        """Publish to a node of our host's pubsub service, or of `service`; returns the item's id. The first publish makes the node.

        Raises StanzaError (``forbidden`` if the node is somebody else's), TimeoutError, LinkError.
        """
        return await pubsub.publish(self, node, to_element(item), id=id, at=self._service(service))

    @asynccontextmanager
    async def subscribe(self, node: str, *, service: JID | str | None = None) -> AsyncIterator[AsyncIterator[Item]]:
        """Subscribe our full JID to a node and give its items as they are published; leaving the block unsubscribes.

        The last item, if the service sends it, comes first. Raises StanzaError (``item-not-found`` if there is no such node).
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
                    await pubsub.subscribe(self, node, at=at)
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

    async def _run(self) -> None:
        """Read and write until the stream ends."""
        async with anyio.create_task_group() as halves:
            for half in (self._read, self._write):
                halves.start_soon(self._until_end, half, halves)

    async def _until_end(self, half: Callable[[], Awaitable[XiotError | None]], halves: TaskGroup) -> None:
        error: XiotError | None = LinkError("the connection is lost")
        try:
            error = await half()
        except LOST:
            pass
        except XiotError as problem:
            error = problem
        finally:
            self._end(error)
            halves.cancel_scope.cancel()

    async def _write(self) -> XiotError | None:
        try:
            await self._outbox.run(self._transport)
        except LOST:
            await anyio.sleep(CLOSE_S)  # the reader may still find why: the server's last word
            raise

    async def _read(self) -> XiotError | None:
        """Receive until the stream is closed; returns the error it ended with. Raises as the transport."""
        events = self._early
        while True:
            for event in events:
                if isinstance(event, StanzaReceived):
                    await self._dispatch(event.stanza)
                elif isinstance(event, Closed):
                    with anyio.move_on_after(CLOSE_S):
                        await self._outbox.sent(self._outbox.put(self._machine.data_to_send()))
                    return event.error
            while self._crowded():
                self._room = anyio.Event()
                await self._room.wait()
            events = feed(self._parser, self._machine, await self._transport.receive(RECEIVE_BYTES))

    def _crowded(self) -> bool:
        if self._waiting or self.things.waiting or self._machine.phase is Phase.CLOSING:
            return False
        full = any(box.full for subscription in self._subscriptions.values() for box in subscription.boxes)
        return full or self._messages.full or self._presences.full

    def _end(self, error: XiotError | None) -> None:
        if self._ended is not None:
            return
        self._ended = error if error is not None else LinkError("the stream is closed")
        self._outbox.end(self._ended)
        for _, answers in self._waiting.values():
            answers.end(self._ended)
        self._messages.end(error)
        self._presences.end(error)
        for subscription in self._subscriptions.values():
            for box in subscription.boxes:
                box.end(error)
        self.things.end(error)
        self._closed.set()

    async def _close(self) -> None:
        """Close our side, wait a moment for the peer's (RFC 6120 section 4.4)."""
        if self._ended is None:
            self._machine.close()
            self._outbox.put(self._machine.data_to_send())
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
            if self._on_message(stanza, sender):
                return
            body = stanza.element.findtext(f"{{{NS_CLIENT}}}body")
            self._messages.put(Message(sender, to, stanza.type or "normal", stanza.id, body, stanza.element))
        else:
            self._presences.put(to_presence(stanza, sender))

    def _on_answer(self, stanza: Stanza, sender: JID | None) -> None:
        address, answers = self._waiting.get(stanza.id or "", (None, None))
        if answers is None:
            return
        # RFC 6120 section 8.1.2.1: no `from`, or our own bare JID, or the server, is our account's answer
        own = (None, self._jid.bare, JID(self._jid.domain), self._jid)
        if sender == address or (address in own and sender in own):
            answers.put(stanza)

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
            for box in subscription.boxes:
                box.put(Item(items.node, item.id or "", publisher, item.payload))
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
                await self.send(answer)


class Subscription:
    """One subscription at a service, and who here shares it."""

    def __init__(self) -> None:
        self.boxes: list[Inbox[Item]] = []
        self.lock = anyio.Lock()
        """Who asks the service."""
        self.made = False


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


def feed(parser: StreamParser, machine: ClientStream, data: bytes) -> list[Event]:
    """Parse `data` and run the machine over it; what the shell has to do, in order.

    Raises LinkError if the server has sent something behind an element after which a new stream, or TLS, begins.
    """
    events: list[Event] = []
    parsed: list[StreamOpen | Stanza | StreamClose | XmlError] = []
    try:
        parsed += parser.feed(data)
        parser.feed(b"")  # an error that came behind the events
    except XmlError as error:
        parsed.append(error)
    for index, event in enumerate(parsed):
        news = machine.receive(event)
        events += news
        more = index + 1 < len(parsed) or parser.pending_bytes
        if more and any(isinstance(e, (StartTls, RestartStream)) for e in news):
            raise LinkError("the server sent more than it may at this point")
    return events


@asynccontextmanager
async def connect(
    jid: JID | str,
    password: str | None = None,
    *,
    address: str | None = None,
    ca_file: str | Path | None = None,
    ssl_context: ssl.SSLContext | None = None,
    tls: Tls | Literal["direct"] = "required",
    plain_without_tls: bool = False,
    timeout: float = 30.0,  # noqa: ASYNC109 - for each of many steps
    max_stanza_bytes: int = MAX_STANZA_BYTES,
    extensions: Iterable[Extension] | None = None,
) -> AsyncIterator[Client]:
    """Log in and give a `Client`; leaving the block closes the stream.

    `jid`: the account, with a resource if a certain one is wanted; a domain alone logs in anonymously. `address`: "host:port" of the
    server, else the JID's domain at port 5222. The certificate must be valid for the JID's domain, by the system's CAs,
    `ca_file`, or as `ssl_context` says. `tls`: "required" (STARTTLS), "direct" (TLS from the first octet, XEP-0368),
    "optional", "off"; without TLS SCRAM is still safe against listeners, PLAIN needs `plain_without_tls`. `timeout`: seconds for
    the login, and for a request that names none. `max_stanza_bytes`: a longer one ends the stream.

    Raises LinkError (no connection, no TLS, lost), AuthError (login refused, or the server could not prove that it knows us), TimeoutError,
    ValueError (not a JID, not an address).
    """
    account = JID(jid)
    host, port = parse_address(address if address is not None else account.domain)
    async with AsyncExitStack() as stack:
        with anyio.fail_after(timeout):
            transport, parser, machine, early = await _login(
                stack, account, password, host, port, ca_file, ssl_context, tls, plain_without_tls, max_stanza_bytes
            )
        client = Client(transport, parser, machine, early, standard() if extensions is None else extensions, timeout)
        problem: Exception | None = None
        async with anyio.create_task_group() as tasks:
            client._tasks = tasks
            tasks.start_soon(client._run)
            try:
                yield client
            except Exception as error:  # as it is, not in a group
                problem = error
            await client._close()
            tasks.cancel_scope.cancel()
        if problem is not None:
            raise problem


async def _login(
    stack: AsyncExitStack,
    account: JID,
    password: str | None,
    host: str,
    port: int,
    ca_file: str | Path | None,
    context: ssl.SSLContext | None,
    tls: Tls | Literal["direct"],
    plain_without_tls: bool,
    max_stanza_bytes: int,
) -> tuple[ByteStream, StreamParser, ClientStream, list[Event]]:
    if context is None and tls != "off":
        context = await make_client_context(ca_file)
    transport = await stack.enter_async_context(await dial(host, port))
    found: Mapping[str, bytes] = {}
    if tls == "direct":
        assert context is not None
        transport = over_tls = await stack.enter_async_context(await secure(transport, account.domain, context))
        found = bindings(over_tls)
    machine = ClientStream(
        account,
        tls="required" if tls == "direct" else tls,
        secure=tls == "direct",
        bindings=found,
        plain_without_tls=plain_without_tls,
    )
    parser = StreamParser(
        text_between=False,
        max_stanza_bytes=max_stanza_bytes,
        max_tag_bytes=max_stanza_bytes,
        max_depth=1000,
        max_attributes=1024,
        max_namespaces=1024,
    )
    events: list[Event] = []
    while True:
        if not events:
            try:
                if data := machine.data_to_send():
                    await transport.send(data)
                data = await transport.receive(RECEIVE_BYTES)
            except LOST:
                raise LinkError("the server closed the connection during login") from None
            events = feed(parser, machine, data)
            continue
        match events.pop(0):
            case StartTls(domain):
                assert context is not None
                transport = over_tls = await stack.enter_async_context(await secure(transport, domain, context))
                events += machine.tls_started(bindings(over_tls))
            case RestartStream():
                parser.reset()
            case NeedPassword():
                events += machine.provide_password(_needed(password))
            case NeedSaltedPassword(mechanism, salt, iterations):
                salted = await anyio.to_thread.run_sync(
                    scram.salted_password, mechanism, _needed(password), salt, iterations
                )
                events += machine.provide_salted_password(salted)
            case Ready():
                return transport, parser, machine, events
            case Closed(error):
                if data := machine.data_to_send():
                    with suppress(*LOST):  # why it ended says more than that it is gone
                        await transport.send(data)
                raise error if error is not None else LinkError("the server closed the stream during login")
            case Authenticated():
                pass


def _needed(password: str | None) -> str:
    if password is None:
        raise AuthError("not-authorized", "a password is needed")
    return password
