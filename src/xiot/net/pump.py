# SPDX-License-Identifier: Apache-2.0
"""The pump: one trio task that moves bytes between all sockets of a server and their links.

Theory of operation. One turn: ask epoll which sockets are ready, receive once from each into the router's buffer, let its link parse
and route, then send once from each link that was written to. Nothing is awaited inside a turn: sockets are non-blocking, and the task
waits on the epoll descriptor only. A turn lasts about `TURN_S`; then the other tasks of the process run.

A connection that is read and has nothing left to send is in the hands of the core's `Drain`, which does all of this without Python;
what is special (handshakes, closing, back-pressure, errors) is done here.

Who receives a stanza is an `Owner`: the session behind a connection, in a higher room. It is called for each event that the link does
not handle itself, and answers by `link.write`; what it wrote goes out at the end of the turn. Code that writes outside of a turn calls
`Pump.flush`.

Back-pressure. A link above its high mark makes its senders wait: they are not read until it is below the low mark. With stream management
it is also above it while too much is not acknowledged, though the socket took it. If it accepts nothing at
all for `stall_after_s` it is stalled: its senders go on, what is for it comes back to them, and after `stall_close_s` it is closed. So
one that stops reading costs a bounded amount of memory and slows nobody for longer than that. Nor is a connection read while it is
itself above the mark: who does not take our answers may not ask for more.

Fairness. The handshakes of TLS are what costs most, and anybody may begin one: they queue up, and a few at a time are gone on with when the
established connections have nothing to say; however busy those are, a few at the end of each turn.

As long as the core does all that comes, the turn waits a moment for more, up to its 5 ms: to go through trio and back costs more than a message.
It does not while anybody is paused, who waits for another task.

Where there is no epoll each connection has a task that waits for its socket and then takes the same turn.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

import trio

from _xmppcore import Link, Router, Stanza, StreamClose, StreamOpen, XmlError
from _xmppcore.errors import ExiError
from _xmppcore.exi_stream import Exi, ExiStream
from _xmppcore.layer import Layer
from _xmppcore.tls import Tls
from xiot.net.listen import source_of

if sys.platform == "linux":
    from _xmppcore.drain import Drain

TURN_S = 0.005  # other tasks of the process wait at most about this long
SWEEP_S = 0.25  # how exactly deadlines are kept
HANDSHAKES_AT_ONCE = 4  # steps between two looks at the others, unless a turn's time is up before; one takes from 0.3 ms (ECDSA) to several (RSA)
LINGER_S = 3.0  # how long a closed connection may take to accept our last bytes and to close its side

CLOSED_BY_PEER = "connection closed by the peer"

Event = StreamOpen | Stanza | StreamClose | XmlError | ExiError


class Owner(Protocol):
    """What the pump calls on behalf of a connection."""

    def on_event(self, event: Event) -> None:
        """The next thing in the stream. Nothing later of this stream is parsed before this returns."""

    def on_secured(self) -> None:
        """The TLS handshake is done."""

    def on_timeout(self) -> None:
        """The deadline of `Connection.set_deadline` has passed."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone; called exactly once. `reason` is for the log. A link that it detaches stays bound."""


class Connection:
    """A socket, its link, and the state of both; made by `Pump.add`."""

    __slots__ = (
        "_acknowledged",
        "_changed",
        "_choked",
        "_closing",
        "_codec",
        "_deadline",
        "_held",
        "_interest",
        "_paused",
        "_progress",
        "_reading",
        "_received",
        "_scope",
        "_sent",
        "_tls",
        "_waiters",
        "asked",
        "events",
        "heard_at",
        "heard_bytes",
        "heard_stanzas",
        "link",
        "lost",
        "owner",
        "peer",
        "pump",
        "sock",
        "source",
    )

    def __init__(self, pump: Pump, sock: socket.socket, peer: str) -> None:
        self.pump = pump
        self.sock = sock
        self.peer = peer
        self.source = source_of(peer)  # what limits count by
        self.link: Link = pump.router.link(self)
        self.owner: Owner
        self._received = self._sent = 0  # here, not by the drain
        self.lost: str | None = None  # why the connection is gone
        self.events = 0  # given to the owner: stanzas that the link did not route itself, and headers
        # For who watches over it: what had come when it last looked, and since when nothing has; if a ping is out.
        self.heard_bytes = self.heard_stanzas = 0
        self.heard_at = 0.0
        self.asked = False
        self._reading = True  # unless paused or held
        self._paused = False
        self._held = False
        self._choked = False  # not read because of what is queued for itself
        self._interest = 0
        self._closing: str | None = None
        self._deadline: float | None = None
        self._progress = 0.0  # when the peer last took, or acknowledged, something of what somebody waits for
        self._acknowledged = 0  # then
        self._waiters: list[Connection] | None = None  # until there are some: it would be 56 bytes
        self._tls: Tls | None = None
        self._codec: Exi | None = None
        self._scope: trio.CancelScope | None = None  # of its task, where there is no epoll
        self._changed: trio.Event  # there too: what it waits for has changed

    @property
    def closing(self) -> bool:
        """True once `close` was called or the connection is lost: nothing more is read or worth writing."""
        return self._closing is not None or self.lost is not None

    @property
    def bytes_in(self) -> int:
        """Octets received on the wire."""
        return self._received + self.link.received_bytes

    @property
    def bytes_out(self) -> int:
        """Octets sent on the wire."""
        return self._sent + self.link.sent_bytes

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session; None on a plain connection and until the handshake is done."""
        return None if self._tls is None or not self._tls.secured else self._tls.session

    @property
    def exi(self) -> ExiStream | None:
        """The stream as EXI; None if it is XML, and always was."""
        return None if self._codec is None else self._codec.stream

    @property
    def over_exi(self) -> bool:
        """Whether the stream is in EXI now."""
        return self._codec is not None and not self._codec.stream.xml

    @property
    def layer(self) -> Layer | None:
        """What stands between the link and the socket; None: nothing."""
        return self._codec if self._tls is None else self._tls

    @property
    def securing(self) -> bool:
        """Whether a TLS handshake has begun and is not done."""
        return self._tls is not None and not self._tls.secured

    @property
    def reading(self) -> bool:
        """False while it is paused or held."""
        return self._reading

    @property
    def choked(self) -> bool:
        """Whether it is not read because it does not take what is queued for it."""
        return self._choked

    def set_deadline(self, seconds: float | None) -> None:
        """Have `Owner.on_timeout` called after so many seconds; None: no deadline any more."""
        self._deadline = None if seconds is None else monotonic() + seconds
        self.pump.watch(self)

    def close(self, reason: str) -> None:
        """Send what is queued, then close; bytes that still come are dropped. `reason` is for the log."""
        if not self.closing:
            self._closing = reason
            self.link.unbind()
            self.pump.hand_over(self)
            self.set_deadline(LINGER_S)
            self.pump.closed(self)

    def drop(self, reason: str) -> None:
        """Be lost at once, without last words: the peer is dead. `reason` is for the log."""
        self.pump.lose(self, reason)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on under TLS as the server: what is queued (``<proceed/>``) leaves in clear first.

        Raises ValueError if clear-text bytes of the peer are already behind (RFC 6120 section 5.4.3.3: they would be acted upon inside
        of TLS though nobody protected them).
        """
        self._send_before("starttls")
        self._tls = Tls(context)
        self._tls.above = self._codec
        self.pump.hand_over(self)

    def start_exi(self, stream: ExiStream) -> None:
        """Go on in EXI; what is queued (``<compressed/>``) leaves as XML first.

        Raises ValueError if there is no TLS, or if octets of the peer are already behind, as in `start_tls`.
        """
        if self._tls is None or self._codec is not None:
            raise ValueError("EXI where it is not offered")
        self._send_before("compress")
        self._codec = self._tls.above = Exi(stream)

    def _send_before(self, what: str) -> None:
        if self.link.unread_bytes or (self._codec is not None and self._codec.stream.pending):
            raise ValueError(f"something behind <{what}/>")
        self.pump.send(self)
        if self.link.queued_bytes or (self.layer is not None and self.layer.unsent):
            raise ValueError("the peer does not read")

    def log_in(self, max_bytes: int) -> None:
        """From now on the limits of after login hold, and the stream goes on. `max_bytes`: of a stanza."""
        self.link.log_in()
        if self._codec is not None:
            self._codec.stream.max_bytes = max_bytes

    def restart(self, *, logged_in: bool) -> None:
        """Expect a new stream header."""
        if self._codec is not None:
            self._codec.restart(self.link)
        self.link.restart(logged_in=logged_in)


class Pump:
    """All connections of one process; `run` is its task.

    The router's high mark holds both ways: who has more queued for him is not read, nor are those that send to him.
    low_bytes: they go on when no more than this is queued.
    stall_after_s, stall_close_s: seconds without any progress until a link over its high mark is passed over, and closed.
    """

    def __init__(
        self,
        router: Router,
        *,
        low_bytes: int = 65536,
        stall_after_s: float = 2.0,
        stall_close_s: float = 30.0,
        epoll: bool | None = None,
    ) -> None:
        self.router = router
        self.high_bytes = router.high_bytes
        self.low_bytes = low_bytes
        self.stall_after_s = stall_after_s
        self.stall_close_s = stall_close_s
        self._epoll = self._drain = None
        if sys.platform == "linux" and epoll is not False:
            self._epoll = select.epoll()
            self._drain = Drain(router, self._epoll.fileno())
        self._connections: dict[int, Connection] = {}
        self._watched: set[Connection] = set()
        self._resumed: list[Connection] = []
        self._pausing: set[Connection] = set()
        self._called = False  # in this turn, for what the drain does not do
        self._securing: deque[Connection] = deque()  # not read until their handshake's turn has come
        self.turns = 0
        """So many times all that was ready has been dealt with; not counted without epoll."""
        self.handshake_steps = 0
        """Messages of TLS handshakes taken in, each with the answer that it got."""
        self.handshakes = 0
        """Done."""
        self.failed_handshakes = 0
        self._nursery: trio.Nursery | None = None
        self._buffer = router.buffer

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def securing(self) -> int:
        """Handshakes that wait for their turn."""
        return len(self._securing)

    def connections(self) -> list[Connection]:
        """All connections of now."""
        return list(self._connections.values())

    def add(
        self, sock: socket.socket, peer: str, context: ssl.SSLContext | None = None, exi: ExiStream | None = None
    ) -> Connection:
        """Take over a connected socket; with `context` TLS begins at once. The caller sets `owner` before the next await.

        exi: the peer may speak EXI from the first octet.
        """
        sock.setblocking(False)
        connection = Connection(self, sock, peer)
        if exi is not None:
            connection._codec = Exi(exi)
        if context is not None:
            connection.start_tls(context)
        self._connections[sock.fileno()] = connection
        if self._epoll is None:
            connection._changed = trio.Event()
        self._interest(connection, True, False)
        if self._epoll is None:
            assert self._nursery is not None
            connection._scope = trio.CancelScope()
            self._nursery.start_soon(self._task, connection)
        return connection

    async def run(self) -> None:
        """Move bytes until cancelled; then all sockets are closed."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._sweep)
                if self._epoll is not None:
                    assert self._drain is not None
                    await self._poll(self._epoll.fileno(), self._drain)
        finally:
            for connection in self.connections():
                self.lose(connection, connection._closing or "shutdown")
            if self._epoll is not None:
                self._epoll.close()

    def flush(self, *, late: bool = True) -> None:
        """Send what was written since the last turn: for code that writes outside of a turn. `late`: see `Drain.flush`."""
        while True:
            for link in self.router.take_dirty() if self._drain is None else self._drain.flush(late):
                if link.owner is not None:
                    self.send(link.owner)
            if not self._resumed:
                return
            self._go_on(self._resumed.pop())

    def watch(self, connection: Connection) -> None:
        """Look at the connection's deadlines from now on."""
        self._watched.add(connection)

    def closed(self, connection: Connection) -> None:
        """`Connection.close` was called: its senders need not wait, and its last bytes go out with this turn or `flush`."""
        self._wake(connection)
        if not connection.link.queued_bytes and (connection.layer is None or not connection.layer.unsent):
            self.send(connection)

    # ---- waiting ----

    async def _poll(self, fd: int, drain: Drain) -> None:
        while True:
            if self._securing:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(fd)
            self.turns += 1
            self._called = False
            end = monotonic() + TURN_S
            while True:
                if drain.turn(self._ready, not (self._called or self._pausing or self._securing)):
                    self.flush(late=False)
                elif self._securing:
                    self._shake_hands()
                else:
                    break
                if monotonic() > end:
                    self._shake_hands()  # however busy the others are
                    break

    def _shake_hands(self) -> None:
        """Go on with the handshakes that have waited longest."""
        end = monotonic() + TURN_S
        for number in range(min(HANDSHAKES_AT_ONCE, len(self._securing))):
            if number and monotonic() > end:
                break
            connection = self._securing.popleft()
            if connection.lost is None and connection._reading:
                self._interest(connection, True, bool(connection._interest & 2))
                self._receive(connection)
        self.flush()

    def _ready(self, fd: int, what: Event | Link | OSError | int | None) -> None:
        """Deal with what the drain leaves to us; see `Drain.turn`."""
        self._called = True
        connection = self._connections.get(fd)
        if connection is None:
            return
        if isinstance(what, int):
            if what & select.EPOLLOUT:
                self.send(connection)
            if connection.lost is not None:
                return
            if connection._reading:
                if what & ~select.EPOLLOUT:
                    if connection.securing and not connection.closing:
                        self._securing.append(connection)
                        self._interest(connection, False, bool(connection._interest & 2))
                    else:
                        self._receive(connection)
            elif what & (select.EPOLLHUP | select.EPOLLERR):
                self.lose(connection, "connection lost")
        elif what is None:
            self.lose(connection, CLOSED_BY_PEER)
        elif isinstance(what, ssl.SSLError):
            self._tls_failed(connection, what)
        elif isinstance(what, OSError):
            self.lose(connection, f"connection lost: {what.strerror}")
        else:
            self._process(connection, what)
            if connection._tls is not None or connection._codec is not None:
                self._feed_through(connection)

    async def _task(self, connection: Connection) -> None:
        """Without epoll: both directions of one connection."""

        async def loop(
            bit: int, wait: Callable[[socket.socket], Awaitable[None]], act: Callable[[Connection], None]
        ) -> None:
            while connection.lost is None:
                if not connection._interest & bit:
                    await connection._changed.wait()
                    continue
                try:
                    await wait(connection.sock)
                except trio.ClosedResourceError:
                    return
                if connection._interest & bit and connection.lost is None:
                    act(connection)
                    self.flush()

        assert connection._scope is not None
        with connection._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop, 1, trio.lowlevel.wait_readable, self._receive)
                nursery.start_soon(loop, 2, trio.lowlevel.wait_writable, self.send)

    def _interest(self, connection: Connection, read: bool, write: bool) -> None:
        interest = read | write << 1
        if interest == connection._interest or connection.lost is not None:
            return
        if self._epoll is not None:
            mask = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
            if not interest:  # a hang-up would be reported again and again
                self._epoll.unregister(connection.sock)
            elif connection._interest:
                self._epoll.modify(connection.sock, mask)
            else:
                self._epoll.register(connection.sock, mask)
        else:
            connection._changed.set()
            connection._changed = trio.Event()
        connection._interest = interest
        self.hand_over(connection)

    def hand_over(self, connection: Connection) -> None:
        """Let the drain serve the connection as long as nothing about it is special; called when that may have changed."""
        if self._drain is None:
            return
        if connection._interest == 1 and not connection.securing and not connection.closing:
            self._drain.add(connection.link, connection.sock.fileno(), connection.layer)
        else:
            self._drain.remove(connection.link)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_S)
            self.router.ask()
            now = monotonic()
            for connection in list(self._watched):
                if connection.lost is not None:
                    self._watched.discard(connection)
                elif connection._deadline is not None and now >= connection._deadline:
                    connection._deadline = None
                    if connection._closing is None:
                        connection.owner.on_timeout()
                    else:
                        self.lose(connection, connection._closing)
                elif connection._interest & 2 or connection.link.awaited:
                    link = connection.link
                    if link.awaited and link.acknowledged != connection._acknowledged:
                        connection._acknowledged, connection._progress = link.acknowledged, now
                    waited = now - connection._progress
                    if waited >= self.stall_close_s:
                        self.lose(connection, "does not read" if connection._interest & 2 else "does not acknowledge")
                    elif waited >= self.stall_after_s and link.load > self.low_bytes:
                        link.stalled = True
                        self._wake(connection)
                elif connection._deadline is None:
                    self._watched.discard(connection)
            self.flush()

    # ---- receiving ----

    def _receive(self, connection: Connection) -> None:
        try:
            n = connection.sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.lose(connection, f"connection lost: {error.strerror}")
            return
        if n == 0:
            self.lose(connection, connection._closing or CLOSED_BY_PEER)
            return
        connection._received += n
        if connection._tls is not None:
            self._receive_tls(connection, n)
        elif connection._codec is not None:
            if not connection.closing:
                connection._codec.receive(connection.link, n)
                self._feed_through(connection)
        elif connection._closing is None:
            event = connection.link.feed(n)
            if event is not None:
                self._process(connection, event)

    def _receive_tls(self, connection: Connection, n: int) -> None:
        tls = connection._tls
        assert tls is not None
        if connection.closing:
            return
        tls.receive(connection.link, n)
        if not tls.secured:
            self.handshake_steps += 1
            try:
                done = tls.handshake()
            except ssl.SSLError as error:
                self.failed_handshakes += 1
                self._tls_failed(connection, error)
                return
            if done:
                self.handshakes += 1
                self.hand_over(connection)
                connection.owner.on_secured()
            self.send(connection)
        self._feed_through(connection)

    def _feed_through(self, connection: Connection) -> None:
        """What has come through a layer, if there is one; and behind each event of it what `_process` leaves to us."""
        try:
            while (
                connection._reading
                and not connection.closing
                and not connection.securing
                and (layer := connection.layer) is not None
                and (event := layer.feed(connection.link)) is not None
            ):
                self._process(connection, event)
        except ssl.SSLError as error:
            self._tls_failed(connection, error)

    def _tls_failed(self, connection: Connection, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLZeroReturnError):
            self.lose(connection, CLOSED_BY_PEER)
            return
        if connection._tls is not None:
            with suppress(OSError):
                self._send_through(connection, connection._tls)  # the alert
        self.lose(connection, f"TLS: {error.reason or error}")

    def _go_on(self, connection: Connection) -> None:
        """What a resumed connection has received already."""
        if connection._reading and connection.link.queued_bytes > self.high_bytes:
            self._choke(connection)
        if connection.closing or not connection._reading:
            return
        self._process(connection, connection.link.feed())
        self._feed_through(connection)

    def _process(self, connection: Connection, event: Event | Link | None) -> None:
        """Hand on what the link does not handle: `event`, and what comes behind it."""
        link = connection.link
        while event is not None:
            if type(event) is Link:
                if event is link and link.load <= self.high_bytes // 4:
                    link.stalled = False
                    self._wake(connection)
                    event = link.feed()
                    continue
                if event is link and link.queued_bytes > self.high_bytes:
                    self._choke(connection)
                    if connection._reading:
                        event = link.feed()
                        continue
                    return
                self._wait_for(connection, event.owner)
                return
            connection.events += 1
            connection.owner.on_event(event)
            if connection._reading and link.queued_bytes > self.high_bytes:
                self._choke(connection)
            if connection._closing is not None or connection.lost is not None or not connection._reading:
                link.park()
                return
            event = link.feed()

    # ---- back-pressure ----

    def pause(self, connection: Connection) -> None:
        """Do not read from the connection until `resume`."""
        connection._paused = True
        self._pausing.add(connection)
        self._stop(connection)

    def resume(self, connection: Connection) -> None:
        """Read again; what was received before the pause comes first, at the next `flush` or turn."""
        connection._paused = False
        self._pausing.discard(connection)
        self._start(connection)

    def hold(self, connection: Connection) -> None:
        """Do not read from the connection until `release`, though it may be paused and resumed meanwhile."""
        if not connection.closing:
            connection._held = True
            self._stop(connection)

    def release(self, connection: Connection) -> None:
        """The end of `hold`."""
        connection._held = False
        self._start(connection)

    def _stop(self, connection: Connection) -> None:
        connection._reading = False
        connection.link.park()
        self._interest(connection, False, bool(connection._interest & 2))

    def _start(self, connection: Connection) -> None:
        if not (connection._reading or connection._paused or connection._held) and connection.lost is None:
            connection._reading = True
            self._interest(connection, True, bool(connection._interest & 2))
            self._resumed.append(connection)

    def _choke(self, connection: Connection) -> None:
        """Read on when it has taken what is queued for it."""
        self.send(connection)
        if connection.lost is None and connection.link.queued_bytes > self.low_bytes:
            connection._choked = True
            self.pause(connection)

    def _wait_for(self, connection: Connection, slow: Connection) -> None:
        self.send(slow)
        link = slow.link
        if slow.lost is None and link.load > self.low_bytes and not link.stalled:
            if slow._waiters is None:
                slow._waiters = []
            slow._waiters.append(connection)
            if link.managed and not link.awaited:
                link.awaited = True
                slow._acknowledged, slow._progress = link.acknowledged, monotonic()
                self.watch(slow)
            self.pause(connection)
        else:
            connection.link.park()
            self._resumed.append(connection)

    def _wake(self, slow: Connection) -> None:
        waiters, slow._waiters = slow._waiters, None
        for connection in waiters or ():
            self.resume(connection)

    # ---- sending ----

    def send(self, connection: Connection) -> None:
        """Send what is queued, as far as the socket takes it."""
        if connection.lost is not None:
            return
        try:
            layer = connection.layer
            done = self._send_plain(connection) if layer is None else self._send_through(connection, layer)
        except OSError as error:
            self.lose(connection, f"connection lost: {error.strerror or error}")
            return
        if connection._choked and connection.link.queued_bytes <= self.low_bytes:
            connection._choked = False
            self.resume(connection)
        if connection.link.load <= self.low_bytes:
            if connection.link.stalled:
                connection.link.stalled = False
            if connection._waiters:
                self._wake(connection)
        if not done:
            if not connection._interest & 2:
                connection._progress = monotonic()
                self.watch(connection)
                self._interest(connection, connection._reading, True)
            return
        if connection._interest & 2:
            self._interest(connection, connection._reading, False)
        if connection._closing is not None:
            # Not close(): bytes of the peer that nobody reads would reset the connection before our last ones arrive.
            try:  # noqa: SIM105 - each connection comes by here, and a context manager costs more than the call
                connection.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            connection._reading = True
            self._interest(connection, True, False)

    def _send_plain(self, connection: Connection) -> bool:
        out, sock = connection.link.out, connection.sock
        while out:
            buffers = out.buffers()
            try:
                n = sock.send(buffers[0]) if len(buffers) == 1 else sock.sendmsg(buffers)
            except (BlockingIOError, InterruptedError):
                return False
            out.sent(n)
            connection._sent += n
            if connection._interest & 2:
                connection._progress = monotonic()
        return True

    def _send_through(self, connection: Connection, layer: Layer) -> bool:
        while octets := layer.output(connection.link, connection._closing is not None):
            try:
                n = connection.sock.send(octets)
            except (BlockingIOError, InterruptedError):
                return False
            layer.sent(n)
            connection._sent += n
            if connection._interest & 2:
                connection._progress = monotonic()
        return True

    def lose(self, connection: Connection, reason: str) -> None:
        """The connection is gone; nothing happens if it was already."""
        if connection.lost is not None:
            return
        connection.lost = reason
        self._pausing.discard(connection)
        if self._drain is not None:
            self._drain.remove(connection.link)
        del self._connections[connection.sock.fileno()]
        if self._epoll is None:
            trio.lowlevel.notify_closing(connection.sock)
        connection.sock.close()  # and is no more in the epoll set
        if connection._waiters:
            self._wake(connection)
        if connection._scope is not None:
            connection._scope.cancel()
        connection.owner.on_lost(reason)
        if not connection.link.detached:
            connection.link.unbind()
        # Cycles: what is left of the stream must not wait for the collector.
        connection.link.owner = None
        del connection.owner
