# SPDX-License-Identifier: Apache-2.0
"""The streams of a client, one after the other.

Theory of operation. `login.establish` makes a stream, up to the bound resource; while it lasts one task reads. A second task writes
what callers have queued: a caller that is cancelled in the middle of it cuts no stanza and no TLS record. A third one pings when the
server has long been silent. If any of them fails, all end, and unless the reason is final (`reconnect`) the next stream is made, with
growing pauses; there what the session had is restored first, ahead of all that waits in the queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import anyio

from xiot.client.incoming import Incoming
from xiot.client.login import LOST, Login, Wire, establish
from xiot.client.management import Management
from xiot.client.outbox import Outbox
from xiot.client.reconnect import STEADY_S, delays, is_final
from xiot.client.restoring import Restoring
from xiot.client.state import State, Status
from xiot.core import JID, Element
from xiot.errors import LinkError, StanzaError, XiotError
from xiot.ext import Session
from xiot.proto import sm
from xiot.proto.events import Closed, NonzaReceived, StanzaReceived
from xiot.proto.stream import Phase
from xiot.xep import ping

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # for the peer's closing tag
LOOK_AGAIN_S = 1.0  # while the stream is not read: whether somebody has stopped to listen


class Streams:
    """Makes streams, and serves one after the other, until one ends for good."""

    def __init__(
        self,
        login: Login,
        outbox: Outbox,
        incoming: Incoming,
        restoring: Restoring,
        session: Session,
        *,
        timeout: float,
        reconnect: bool,
        ping_after_s: float | None,
        ping_timeout_s: float,
    ) -> None:
        """`session` sends ahead of all that is queued."""
        self._login = login
        self._outbox = outbox
        self._incoming = incoming
        self._restoring = restoring
        self._session = session
        self._timeout = timeout
        self._reconnect = reconnect
        self._ping_after_s = ping_after_s
        self._ping_timeout_s = ping_timeout_s
        self._management = Management(outbox, durable=login.durable)
        self._heard_at = 0.0  # when the last octet came
        self._room = anyio.Event()
        self.jid = login.account  # until the server has said more
        self.wire: Wire | None = None
        """None between two streams."""
        self.status = Status()
        self.closing = False
        self.ended: XiotError | None = None
        """Why there is no stream any more."""
        self.closed = anyio.Event()

    def begin(self, wire: Wire) -> None:
        """The first stream is there."""
        self.jid, self.wire = wire.jid, wire
        self._management.begin(wire)
        self._open()

    def has_room(self) -> None:
        """The stream may be read again."""
        self._room.set()

    def carries(self, stanza: Element) -> bool:
        """Whether the stream can carry a stanza: strict EXI only what its schemas have (XEP-0322)."""
        exi = None if self.wire is None else self.wire.exi
        if exi is None or exi.setup is None or not exi.setup.options.strict:
            return True
        return exi.setup.can_carry(stanza.tobytes())

    # ---- one after the other ----

    async def run(self, wire: Wire) -> None:
        """Serve one stream after the other, `wire` first, until one ends for good."""
        error: XiotError | None = None
        try:
            error = await self._run(wire)
        finally:  # also if it is cancelled: nobody shall wait for an answer that does not come
            self.end(error)

    async def _run(self, wire: Wire) -> XiotError | None:
        """As `run`; returns the error that the last stream ended with, or why there is no other."""
        tries, restore = delays(), False
        while True:
            began_at = time.monotonic()
            error = await self._serve(wire, restore=restore)
            if self.closing or not self._reconnect or is_final(error):
                return error
            elsewhere = self._login.redirected(error, wire.machine)
            if self._management.resumption is not None and self._login.proved(wire.machine):
                elsewhere = elsewhere or self._management.location
            self.status.become(State.WAITING)
            lost_at = time.monotonic()
            if lost_at - began_at >= STEADY_S:
                tries = delays()
            log.warning("%s: %s; trying to connect again", self.jid, error or "the server closed the stream")
            try:
                wire = await self._connect_again(tries, elsewhere)
            except XiotError as final:
                log.error("%s: given up: %s", self.jid, final)
                return final
            self.jid = wire.jid
            restore = not self._go_on(wire)
            how = "logged in again" if restore else "resumed"
            log.info("%s: %s after %.1f s", self.jid, how, time.monotonic() - lost_at)
            if not restore:
                self._open()

    async def _connect_again(self, tries: Iterator[float], address: str | None) -> Wire:
        """The next stream, first at `address` if the server sent us there. Raises the error after which there is none."""
        resource = self.jid.resource if self.jid.local is not None and self._login.account.local is not None else None
        former = self._management.resumption
        resume = None if former is None else (self.jid, former)
        for delay in tries:
            if delay:
                log.info("%s: trying again in %.1f s", self.jid, delay)
                await anyio.sleep(delay)
            try:
                with anyio.fail_after(self._timeout):
                    return await establish(self._login, resource=resource, address=address, resume=resume)
            except (XiotError, TimeoutError) as problem:
                if is_final(problem):
                    raise
                log.warning("%s: cannot connect: %s", self.jid, str(problem) or "no answer in time")
            address = None
        raise AssertionError("there is always another try")

    def _go_on(self, wire: Wire) -> bool:
        """Whether the stream goes on with the last one; if not, what was under way is lost."""
        if self._management.go_on(wire):
            return True
        self._outbox.forget()
        self._incoming.interrupt()
        self._management.begin(wire)
        return False

    def _open(self) -> None:
        self._outbox.open()
        self.status.become(State.CONNECTED)

    # ---- one of them ----

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

        self.wire = wire
        self._heard_at = time.monotonic()
        try:
            async with anyio.create_task_group() as parts:
                parts.start_soon(until_end, self._read)
                parts.start_soon(until_end, self._write)
                if self._ping_after_s is not None:
                    parts.start_soon(until_end, self._watch)
                if restore:
                    parts.start_soon(until_end, self._restore)
        finally:
            self.wire = None
            self._outbox.close()
            with anyio.CancelScope(shield=True), suppress(*LOST), anyio.move_on_after(CLOSE_S):
                if not ended:
                    await self._leave(wire)
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
                    await self._incoming.receive(event.stanza, self.jid)
                    self._management.handled()
                elif isinstance(event, NonzaReceived) and event.stanza.ns == sm.NS:
                    self._management.receive(event.stanza.element)
                elif isinstance(event, Closed):
                    self._management.closed(event.error)
                    with anyio.move_on_after(CLOSE_S):
                        await self._outbox.send(wire.machine.data_to_send(), ahead=True, stanza=False)
                    return event.error
            self._management.check()
            while self._paused(wire):
                self._room = anyio.Event()
                with anyio.move_on_after(LOOK_AGAIN_S):
                    await self._room.wait()
            events = await wire.receive()
            self._heard_at = time.monotonic()

    def _paused(self, wire: Wire) -> bool:
        return wire.machine.phase is not Phase.CLOSING and self._incoming.crowded

    async def _watch(self, wire: Wire) -> XiotError | None:
        """Ping the server when nothing has come for `ping_after_s`; returns if it does not answer (XEP-0199 section 4.2)."""
        assert self._ping_after_s is not None
        while True:
            quiet = time.monotonic() - self._heard_at
            if quiet < self._ping_after_s or self._paused(wire):  # what we do not read says nothing
                await anyio.sleep(max(self._ping_after_s - quiet, LOOK_AGAIN_S))
                continue
            asked_at = time.monotonic()
            if wire.exi is not None and self._management.resumption is not None:  # 2 octets, and 3 of answer
                self._outbox.put(sm.request(), ahead=True, stanza=False)
                with anyio.move_on_after(self._ping_timeout_s):
                    while self._heard_at < asked_at:  # noqa: ASYNC110 - whatever comes will do
                        await anyio.sleep(min(LOOK_AGAIN_S, self._ping_timeout_s))
            else:
                with suppress(StanzaError, TimeoutError):
                    await ping.ping(self._session, JID(self.jid.domain), timeout=self._ping_timeout_s)
            if self._heard_at < asked_at:
                return LinkError(f"the server has not answered a ping for {self._ping_timeout_s:g} s")

    async def _restore(self, _: Wire) -> XiotError | None:
        """Make the session what it was on the stream before, then let through what waits."""
        failed = False
        try:
            await self._restoring.restore(self._session)
        except* (TimeoutError, XiotError):
            failed = True
        if failed:
            return LinkError("the session could not be restored")
        self._open()
        await anyio.sleep_forever()
        return None

    # ---- the end ----

    async def _leave(self, wire: Wire) -> None:
        """Close our side of a stream that is cancelled: else the server would keep the session for us, and take us for available."""
        if wire.machine.phase is Phase.CLOSING or self._outbox.sending:  # into half a stanza nothing can be said
            return
        wire.machine.close()
        await wire.transport.send(self._management.acknowledgement() + wire.machine.data_to_send())

    async def close(self) -> None:
        """Close our side, wait a moment for the peer's (RFC 6120 section 4.4)."""
        self.closing = True
        if self.ended is None and self.wire is not None:
            self.wire.machine.close()
            self._management.acknowledge()  # else the server would take what has just come for lost
            ahead = self.status.state is not State.CONNECTED
            self._outbox.put(self.wire.machine.data_to_send(), ahead=ahead, stanza=False)
            self.has_room()
            with anyio.move_on_after(CLOSE_S):
                await self.closed.wait()

    def end(self, error: XiotError | None) -> None:
        """There is no further stream; a second call changes nothing."""
        if self.ended is not None:
            return
        self.ended = error if error is not None else LinkError("the stream is closed")
        self._outbox.end(self.ended)
        self._incoming.end(error, self.ended)
        self.status.become(State.ENDED)
        self.closed.set()
