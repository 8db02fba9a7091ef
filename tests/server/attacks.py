# SPDX-License-Identifier: Apache-2.0
"""Attacks on a server, what must be seen of each, and the switch that turns off the defence against it.

An attack is a coroutine that is given a running server, does its worst, and raises AssertionError unless the server answered as it
must. It is run with its defence on, when it has to pass, and with its defence off, when it has to fail: else nobody knows what the
defence is for. Rows and statements are those of tests/security.txt.
"""

from __future__ import annotations

import base64
import ctypes
import os
import random
import re
import socket
import ssl
import time
import warnings
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any, Literal, NoReturn, TypeAlias
from unittest import mock

import structlog
import trio
from cryptography import x509

import xiot.cli.serve
import xiot.net.pump
import xiot.proto.receiving
import xiot.proto.scram
import xiot.server.accounts
import xiot.server.certificates
import xiot.server.resumption
import xiot.server.routing
import xiot.server.server
from tests.certificates import make, xmpp_addr
from tests.shared import program
from xiot.core import JID, Router, Stanza
from xiot.errors import AuthError
from xiot.net.pump import Connection
from xiot.net.tls import client_context
from xiot.proto import bind
from xiot.proto.receiving import ServerStream
from xiot.proto.sasl import SaslServer
from xiot.proto.stream import Stream
from xiot.server.resumption import Resumptions
from xiot.server.server import Server

from .serving import HOST, PASSWORD, Running, serving

NS_STREAM = "http://etherx.jabber.org/streams"
NS_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
DECLARATION = b"<?xml version='1.0'?>"
HEADER = b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
CLOSE = b"</stream:stream>"
MIB = 1 << 20
LINGER_S = xiot.net.pump.LINGER_S
GARBAGE = {"not-well-formed", "bad-format", "unsupported-encoding", "invalid-xml", "restricted-xml"}

MOST_CPU_S = 0.5
"""Of the whole process, attacker included, for one refusal: far above what it takes, far below what a quadratic fault takes."""

MOST_GROWTH_BYTES = 8 * MIB
"""Of the whole process, attacker included, during one refusal."""


def rss_bytes() -> int:
    """The resident memory of this process, without what the allocator holds back though it is free; 0 where there is no /proc."""
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def condition_of(document: bytes) -> str | None:
    """The stream error in all that a server sent, None if there is none; AssertionError unless it is one whole XML document.

    It is read by another parser than ours.
    """
    assert document.endswith(CLOSE), f"the stream was not closed: ...{document[-200:]!r}"
    try:
        root = ET.fromstring(document)
    except ET.ParseError as error:
        raise AssertionError(f"not well-formed: {error}: {document[-200:]!r}") from None
    assert root.tag == f"{{{NS_STREAM}}}stream", root.tag
    errors = root.findall(f"{{{NS_STREAM}}}error")
    if not errors:
        return None
    assert errors == list(root)[-1:], "something came behind the stream error"
    defined = f"{{{NS_ERRORS}}}"
    conditions = [
        child.tag.removeprefix(defined)
        for child in errors[0]
        if child.tag.startswith(defined) and not child.tag.endswith("}text")
    ]
    assert len(conditions) == 1, conditions
    return conditions[0]


def auth(mechanism: str, data: bytes) -> bytes:
    """``<auth/>`` with an initial response."""
    return f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{base64.b64encode(data).decode() or '='}</auth>".encode()


class Peer:
    """The attacker's end of a connection: bytes out, bytes in."""

    def __init__(self, stream: trio.abc.Stream, patience_s: float) -> None:
        self.stream = stream
        self.patience_s = patience_s
        self.received = b""
        """Since the last header of ours."""
        self.jid = ""

    async def send(self, data: bytes, *, piece_bytes: int = 65536, every_s: float = 0) -> None:
        """Send in pieces; a server that has hung up is no fault."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for at in range(0, len(data), piece_bytes):
                await self.stream.send_all(data[at : at + piece_bytes])
                if every_s:
                    await trio.sleep(every_s)

    async def receive(self) -> bytes:
        """What comes next; empty at the end. AssertionError if the connection was reset: then last words are lost."""
        try:
            data = bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError as error:
            raise AssertionError(f"the connection was reset: {error.__cause__ or error}") from None
        self.received += data
        return data

    async def until(self, text: bytes) -> None:
        """Receive until `text` has come."""
        with trio.move_on_after(self.patience_s):
            while text not in self.received:
                assert await self.receive(), f"closed before {text!r} came: {self.received[-300:]!r}"
        assert text in self.received, f"{text!r} did not come: {self.received[-300:]!r}"

    async def ending(self, data: bytes = b"", *, within_s: float | None = None, **how: Any) -> None:
        """Send `data` and read until the server closes; AssertionError if it does not in time."""
        seconds = self.patience_s if within_s is None else within_s

        fault: AssertionError | None = None
        with trio.move_on_after(seconds) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(self.send, data, **how))
                try:
                    while await self.receive():
                        pass
                except AssertionError as error:  # not from within the nursery: it would come in a group
                    fault = error
                nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault
        assert not scope.cancelled_caught, f"still open after {seconds} s: ...{self.received[-200:]!r}"

    async def condition(self, data: bytes = b"", **how: Any) -> str | None:
        """`ending`, and the stream error that the server gave."""
        await self.ending(data, **how)
        return condition_of(self.received)

    async def open(self) -> None:
        """Begin a stream and wait for the features."""
        self.received = b""
        await self.send(DECLARATION + HEADER)
        await self.until(b"features>")

    async def prove(self, name: str) -> None:
        """Log in by PLAIN; the next header is to follow."""
        await self.open()
        await self.send(auth("PLAIN", f"\0{name}\0{PASSWORD}".encode()))
        await self.until(b"<success")

    async def login(self, name: str, resource: str = "") -> None:
        """Log in by PLAIN and bind."""
        await self.prove(name)
        await self.open()
        wish = f"<resource>{resource}</resource>" if resource else ""
        await self.send(
            f"<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{wish}</bind></iq>".encode()
        )
        await self.until(b"</iq>")
        self.jid = re.findall(rb"<jid>(.*)</jid>", self.received)[0].decode()


Transport: TypeAlias = Literal["tcp", "tls"]


class Site:
    """A server under attack, over one transport: TCP before any TLS, or TLS from the first octet."""

    def __init__(self, running: Running, transport: Transport, patience_s: float) -> None:
        self.running = running
        self.server: Server = running.server
        self.transport = transport
        self.patience_s = patience_s
        """Seconds within which the server must have done what it has to do at once."""
        self._open: list[trio.abc.Stream] = []

    async def socket(self, *, receive_bytes: int = 0, source: str = "") -> trio.SocketStream:
        """A bare connection to the port of this transport; `receive_bytes`: size of the kernel's buffer; `source`: whence."""
        address = self.running.address if self.transport == "tcp" else self.running.tls_address
        host, _, port = address.rpartition(":")
        sock = trio.socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if source:
            await sock.bind((source, 0))
        await sock.connect((host, int(port)))
        stream = trio.SocketStream(sock)
        self._open.append(stream)
        return stream

    async def peer(self, login: str | None = None, *, header: bool = False, **how: Any) -> Peer:
        """Connect as `socket` does; then nothing, or the header has been answered, or `login` is logged in and bound."""
        stream: trio.abc.Stream = await self.socket(**how)
        if self.transport == "tls":
            stream = trio.SSLStream(stream, self.running.tls, server_hostname=HOST)
            self._open.append(stream)
        peer = Peer(stream, self.patience_s)
        if login is not None:
            await peer.login(login)
        elif header:
            await peer.open()
        return peer

    async def aclose(self) -> None:
        """Drop all connections."""
        while self._open:
            await trio.aclose_forcefully(self._open.pop())


# ---- switches ----


@dataclass(frozen=True)
class Switch:
    """What turns a defence off.

    limit: a key of ``[limits]``, raised. core: a parameter of `Router` that the configuration leaves alone, raised. code: a method or constant,
    replaced. bit: a check of the core that no parameter turns off; debug builds look at XC_DEFENCES_OFF.
    """

    kind: Literal["limit", "core", "code", "bit"]
    name: str
    value: Any
    owner: Any = None

    @contextmanager
    def off(self) -> Iterator[None]:
        """Turn the defence off for servers that are made within; a replaced method stays so to the end of the block."""
        if self.kind == "core":
            raised = partial(Router, **{self.name: self.value})
            with mock.patch.object(xiot.server.server, "Router", raised):
                yield
        elif self.kind == "code":
            with mock.patch.object(self.owner, self.name, self.value):
                yield
        elif self.kind == "bit":
            with mock.patch.dict(os.environ, XC_DEFENCES_OFF=str(1 << self.value)):
                yield
        else:
            yield

    def __str__(self) -> str:
        if self.kind == "code":
            return f"code {self.owner.__name__}.{self.name}"
        return f"bit {self.name}" if self.kind == "bit" else f"{self.kind} {self.name} = {self.value}"


def limit(name: str, value: float) -> Switch:
    """A key of ``[limits]``."""
    return Switch("limit", name, value)


def core(name: str, value: int) -> Switch:
    """A parameter of `Router`."""
    return Switch("core", name, value)


def code(owner: Any, name: str, instead: Any) -> Switch:
    """A method or a constant."""
    return Switch("code", name, instead, owner)


def bit(name: str) -> Switch:
    """One of `enum xc_defence` in c/xml.h."""
    return Switch("bit", name, BITS.index(name))


BITS = ("dtd", "comment", "instruction", "entity", "encoding", "utf8", "control", "outside", "colons", "clear_text")


# ---- attacks ----

Run: TypeAlias = Callable[[Site], Awaitable[None]]
Numbers: TypeAlias = int | tuple[int, ...]


@dataclass(frozen=True)
class Attack:
    """An attack, and the switch of the defence that holds it off."""

    name: str
    row: Numbers
    """Of the catalogue in tests/security.txt."""
    switch: Switch
    run: Run
    statement: Numbers = ()
    """Of the requirements there."""
    limits: Mapping[str, float] = field(default_factory=dict)
    transports: Sequence[Transport] = ("tcp", "tls")
    starttls: Literal["optional", "required"] = "optional"
    host: str = ""
    """More lines of the configuration of its first host."""


@asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """What happens within takes little time of the processor, and little memory."""
    cpu, memory = time.process_time(), rss_bytes()
    yield
    cpu, memory = time.process_time() - cpu, rss_bytes() - memory
    assert cpu < MOST_CPU_S, f"{cpu:.2f} s of CPU"
    assert memory < MOST_GROWTH_BYTES, f"{memory} bytes more"


def refused(
    condition: str | set[str], *attacks: bytes, start: Literal["connect", "header", "login"] = "header", **how: Any
) -> Run:
    """Each of `attacks` on a connection of its own, which ends with `condition` (one of them)."""
    expected = {condition} if isinstance(condition, str) else condition

    async def run(site: Site) -> None:
        for data in attacks:
            peer = await site.peer("mallory" if start == "login" else None, header=start == "header")
            async with bounded():
                seen = await peer.condition(data, **how)
            assert seen in expected, f"{seen} instead of {condition} for {data[:60]!r}"

    return run


def both(*runs: Run) -> Run:
    """One after the other."""

    async def run(site: Site) -> None:
        for one in runs:
            await one(site)

    return run


LAUGHS = (
    b"<!DOCTYPE lolz [<!ENTITY lol 'lol'>"
    + b"".join(b"<!ENTITY lol%d '%s'>" % (i, b"&lol%s;" % (b"%d" % (i - 1) if i else b"") * 10) for i in range(10))
    + b"]>"
)
INVALID_UTF8 = (
    b"\x80",  # a continuation by itself
    b"\xc0\xaf",  # overlong, in two, three and four octets
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",  # a surrogate
    b"\xed\xa0\x80\xed\xb0\x80",  # CESU-8
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xf8\x88\x80\x80\x80",  # five octets
    b"\xff",
    b"\xc3<",  # cut short
    b"\xe2\x82<",
    b"\xf0\x9f\x98<",
)


def message(body: bytes, to: str = "") -> bytes:
    """A message; by default to oneself."""
    return b"<message%s type='chat'><body>%s</body></message>" % (f" to='{to}'".encode() if to else b"", body)


def nested(levels: int) -> bytes:
    """A message that is so many elements deep, itself included."""
    return b"<message>" + b"<a>" * (levels - 1) + b"</a>" * (levels - 1) + b"</message>"


def attributes(n: int) -> bytes:
    """A message with an element of so many attributes, whose names agree at both ends."""
    return b"<message><a" + b"".join(b" samename%06dx='1'" % i for i in range(n)) + b"/></message>"


def declarations(n: int) -> bytes:
    """A message with so many namespace declarations in force, ten an element."""
    opened = b"".join(
        b"<a" + b"".join(b" xmlns:p%d='u:%d'" % (i, i) for i in range(at, min(at + 10, n))) + b">"
        for at in range(0, n, 10)
    )
    return b"<message>" + opened + b"</a>" * opened.count(b"<a") + b"</message>"


def padded(stanza: bytes, size: int) -> bytes:
    """`stanza` with its ``%s`` filled up to `size` octets."""
    return stanza % (b"x" * (size - len(stanza) + 2))


def exactly(make: Callable[[int], bytes], most: int, beyond: int, condition: str = "policy-violation") -> Run:
    """After login `make(most)` is taken, and what comes behind it answered; `make(most + 1)` and `make(beyond)` are refused."""

    async def run(site: Site) -> None:
        peer = await site.peer("mallory")
        async with bounded():
            await peer.send(make(most) + b"<iq id='still' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
            await peer.until(b"still")
        await refused(condition, make(most + 1), make(beyond), start="login")(site)

    return run


async def size_before_login(site: Site) -> None:
    """10000 octets are what RFC 6120 section 13.12 wants to be taken: here a question about registration."""
    ask = b"<iq id='ask' type='get'><query xmlns='jabber:iq:register'><x>%s</x></query></iq>"
    peer = await site.peer(header=True)
    await peer.send(padded(ask, 10_000))
    await peer.until(b"id='ask'")
    for size in (10_001, 60_000):
        peer = await site.peer(header=True)
        assert await peer.condition(padded(ask, size)) == "policy-violation"


async def unfinished_tag(site: Site) -> None:
    """A tag that never ends must not be waited for."""
    peer = await site.peer(header=True)
    assert await peer.condition(b"<auth a='" + b"x" * 20_000) == "policy-violation"


async def unfinished_tag_after_login(site: Site) -> None:
    """The same where more is allowed."""
    peer = await site.peer("mallory")
    async with bounded():
        assert await peer.condition(b"<message a='" + b"x" * 100_000) == "policy-violation"


async def slow_loris(site: Site) -> None:
    """One octet at a time never is a login: neither progress in the header nor white space behind it counts."""
    peer = await site.peer(header=site.transport == "tls")
    seen = await peer.condition(b" " * 1000 if site.transport == "tls" else HEADER, piece_bytes=1, every_s=0.2)
    assert seen == "connection-timeout", seen


async def half_open(site: Site) -> None:
    """One that connects and says nothing; on the port of TLS, not even a ClientHello."""
    silent = Peer(await site.socket(), site.patience_s)
    if site.transport == "tcp":
        assert await silent.condition() == "connection-timeout"
        proceeding = await site.peer(header=True)
        proceeding.received = b""
        await proceeding.ending(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        assert proceeding.received == b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", proceeding.received
        return
    await silent.ending()
    assert silent.received == b"", silent.received
    peer = await site.peer()
    assert await peer.condition() == "connection-timeout"


async def header_only(site: Site) -> None:
    """One that begins a stream and then says nothing."""
    peer = await site.peer(header=True)
    assert await peer.condition() == "connection-timeout"


async def stays_after_the_end(site: Site) -> None:
    """Whoever does not close his side, and goes on talking, is dropped nevertheless."""
    peer = await site.peer(header=True)
    await peer.send(b"<a></b>")
    with trio.move_on_after(LINGER_S + 0.5):
        while len(site.server.pump):
            await peer.send(b"<message/>")
            await trio.sleep(0.05)
    assert not len(site.server.pump), "a stream that was closed still has its connection"


async def second_root(site: Site) -> None:
    """Behind our closing tag nothing is listened to, be it another stream."""
    peer = await site.peer(header=True)
    seen = await peer.condition(CLOSE + HEADER + b"<message/>")
    assert seen is None, f"{seen} behind the end"
    assert peer.received.count(b"<stream:stream") == 1, "a second stream was answered"


WRONG_PASSWORD = auth("PLAIN", b"\0honest\0wrong")


async def guessing(site: Site) -> None:
    """Passwords are not tried for ever."""
    peer = await site.peer(header=True)
    assert await peer.condition(WRONG_PASSWORD * 6) == "policy-violation"
    assert peer.received.count(b"<failure") == 5


async def clear_text_behind_starttls(site: Site) -> None:
    """What stands in the clear behind <starttls/> is not acted upon inside TLS: there is no TLS then."""
    peer = await site.peer(header=True)
    await peer.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + HEADER)
    secure = trio.SSLStream(peer.stream, site.running.tls, server_hostname=HOST)
    with trio.move_on_after(site.patience_s):
        try:
            while b"proceed" in peer.received or await peer.receive():
                if b"proceed" in peer.received:
                    await secure.do_handshake()
                    raise AssertionError("TLS went on")
        except trio.BrokenResourceError:
            return
        return
    raise AssertionError("the connection is still open")


async def leaves_nothing_behind(site: Site) -> None:
    """Connections that come and go are forgotten."""
    for _ in range(50):
        peer = await site.peer()
        await peer.send(HEADER)
        await trio.aclose_forcefully(peer.stream)
    with trio.move_on_after(site.patience_s):
        while site.server.sessions or len(site.server.pump):
            await trio.sleep(0.01)
    assert not site.server.sessions, f"{len(site.server.sessions)} sessions are left"
    assert not len(site.server.pump), f"{len(site.server.pump)} connections are left"
    assert not site.server._by_address, f"counted as connected: {site.server._by_address}"


async def sample(site: Site, jid: str, seconds: float, until: Callable[[], bool] = lambda: False) -> int:
    """The most bytes that were queued for `jid` (a full JID) during that time."""
    most = 0
    with trio.move_on_after(seconds):
        while not until():
            for connection in site.server.pump.connections():
                if str(connection.link.jid) == jid:
                    most = max(most, connection.link.queued_bytes)
            await trio.sleep(0.01)
    return most


async def read_all(peer: Peer) -> None:
    """Take what comes and forget it."""
    with suppress(AssertionError):
        while await peer.receive():
            peer.received = peer.received[-1000:]


async def stops_reading(site: Site) -> None:
    """One that takes nothing while others send to it: what waits for it is bounded, the others do not feel it, and it is closed."""
    deaf = await site.peer("deaf", receive_bytes=4096)
    flooder = await site.peer("mallory")
    ann, bob = await site.peer("ann"), await site.peer("bob")
    trips: list[float] = []
    queued = 0

    async def talk() -> None:
        while True:
            began = trio.current_time()
            await ann.send(message(b"%d" % len(trips), bob.jid))
            await bob.until(b"<body>%d</body>" % len(trips))
            bob.received = b""
            trips.append(trio.current_time() - began)
            await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        nursery.start_soon(read_all, flooder)
        nursery.start_soon(flooder.send, message(b"x" * 8000, deaf.jid) * 2000)
        queued = await sample(site, deaf.jid, 1.5)
        nursery.cancel_scope.cancel()
    most = 65_536 + 20_000
    assert queued < most, f"{queued} bytes are queued for one that does not read, more than {most}"
    trips.sort()
    assert len(trips) > 10, "others did not get through"
    assert trips[len(trips) // 2] < 0.1, f"a round trip of others takes {trips[len(trips) // 2]:.3f} s"


async def stops_reading_for_good(site: Site) -> None:
    """The same is not kept for ever."""
    deaf = await site.peer("deaf", receive_bytes=4096)
    flooder = await site.peer("mallory")

    def gone() -> bool:
        return all(str(connection.link.jid) != deaf.jid for connection in site.server.pump.connections())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all, flooder)
        nursery.start_soon(flooder.send, message(b"x" * 8000, deaf.jid) * 2000)
        await sample(site, deaf.jid, site.patience_s, gone)
        nursery.cancel_scope.cancel()
    assert gone(), "one that does not read is still connected"


async def asks_and_does_not_listen(site: Site) -> None:
    """The same with the server's own answers: from whoever does not take them, no further questions are taken."""
    before_login = await site.peer(header=True, receive_bytes=4096)
    before_login.jid = "None"
    ask = b"<iq id='%s' type='get'><query xmlns='jabber:iq:register'/></iq>" % (b"x" * 5000)
    await does_not_listen(site, before_login, ask * 3000)
    deaf = await site.peer("deaf", receive_bytes=4096)
    questions = (
        b"<iq id='%s' type='set'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>" % (b"x" * 2000)
        + b"<iq id='%s' type='get'><ping xmlns='urn:xmpp:ping'/></iq>" % (b"x" * 2000)
        + b"<iq id='%s' type='get'><query xmlns='jabber:iq:roster'/></iq>" % (b"x" * 2000)
        + b"<message to='nobody@localhost'><body>%s</body></message>" % (b"x" * 2000)
    )
    await does_not_listen(site, deaf, questions * 3000)


async def wants_acknowledgements(site: Site) -> None:
    """The same with requests of stream management, which the core answers."""
    deaf = await site.peer("deaf", receive_bytes=4096)
    await does_not_listen(site, deaf, b"<enable xmlns='urn:xmpp:sm:3'/>" + b"<r xmlns='urn:xmpp:sm:3'/>" * 100_000)


def connections_of(site: Site, peer: Peer) -> list[Connection]:
    """Those of the server that are bound to the address of `peer`."""
    return [connection for connection in site.server.pump.connections() if str(connection.link.jid) == peer.jid]


async def does_not_listen(site: Site, deaf: Peer, questions: bytes) -> None:
    """Send, take nothing, and look at what is queued for it."""
    queued = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deaf.send, questions)
        # The kernel takes some megabytes first, which lasts on a busy machine: until no more is read, or too much is queued.
        await sample(
            site,
            deaf.jid,
            10.0,
            lambda: any(c.choked or c.link.queued_bytes > 200_000 for c in connections_of(site, deaf)),
        )
        queued = await sample(site, deaf.jid, 0.3)
        nursery.cancel_scope.cancel()
    most = 65_536 + 20_000
    assert queued < most, f"{queued} bytes of answers are queued for one that does not read, more than {most}"


# ---- attacks on the login, and in the name of others ----


def failing(condition: str, *logins: bytes) -> Run:
    """Each of `logins` fails by `condition`, and the stream goes on."""

    async def run(site: Site) -> None:
        for login in logins:
            peer = await site.peer(header=True)
            peer.received = b""
            await peer.send(login)
            await peer.until(b">")
            if b"<failure" in peer.received:
                await peer.until(b"</failure>")
            assert f"<failure xmlns='{SASL}'><{condition}/>".encode() in peer.received, peer.received

    return run


async def without_required_tls(site: Site) -> None:
    """Neither profile of SASL lets anybody in, nor is an account made."""
    await failing("encryption-required", auth("PLAIN", b"\0mallory\0" + PASSWORD.encode()))(site)
    await failing("encryption-required", auth("SCRAM-SHA-1", b"n,,n=mallory,r=abc"))(site)
    await refused(
        "not-authorized",
        b"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>",
        b"<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>",
    )(site)


async def before_binding(site: Site) -> None:
    """Whoever has logged in and has no resource yet sends nothing."""
    peer = await site.peer()
    await peer.prove("mallory")
    await peer.open()
    assert await peer.condition(message(b"hello", "honest@localhost")) == "not-authorized"


async def another_after_login(site: Site) -> None:
    """Neither the domain nor the account changes when the stream is restarted."""
    for old, new, condition in (
        (b"to='localhost'", b"to='anon.localhost'", "not-authorized"),
        (b"to='localhost'", b"to='localhost' from='honest@localhost'", "invalid-from"),
    ):
        peer = await site.peer()
        await peer.prove("mallory")
        peer.received = b""
        assert await peer.condition(DECLARATION + HEADER.replace(old, new)) == condition


def believe(stream: ServerStream, header: Any) -> None:
    """What the header of a stream says, without a look at what was said before."""
    stream.host, stream._peer = header.to, None
    policy = stream._hosts(stream.host)
    assert policy is not None
    stream._policy = policy


async def challenge(site: Site, name: str) -> tuple[Peer, bytes, bytes]:
    """Who has begun to log in by SCRAM, the nonce that he got, and behind it the salt and what follows."""
    peer = await site.peer(header=True)
    peer.received = b""
    await peer.send(auth("SCRAM-SHA-256", f"n,,n={name},r=abc".encode()))
    await peer.until(b">")
    await peer.until(b"</")
    data = base64.b64decode(peer.received.partition(b">")[2].partition(b"<")[0])
    assert b",s=" in data, f"{name}: {peer.received!r}"
    nonce, _, rest = data.partition(b",")
    return peer, nonce, rest


async def who_is_there(site: Site) -> None:
    """By SCRAM and by PLAIN, one who is not there gets what one gets whose password is wrong: a salt, the same each time, then a refusal."""

    async def ask(name: str) -> tuple[bytes, bytes]:
        peer, nonce, rest = await challenge(site, name)
        peer.received = b""
        answer = base64.b64encode(b"c=biws," + nonce + b",p=" + base64.b64encode(bytes(32))).decode()
        await peer.send(f"<response xmlns='{SASL}'>{answer}</response>".encode())
        await peer.until(b"</failure>")
        return rest, peer.received

    (theirs, refusal), (salt, answer), (again, _) = await ask("honest"), await ask("nobody"), await ask("nobody")
    assert answer == refusal
    assert salt == again
    assert re.sub(rb"s=[^,]*", b"", salt) == re.sub(rb"s=[^,]*", b"", theirs)
    assert len(salt) == len(theirs)


async def knows_a_secret_of_another_server(site: Site) -> None:
    """A server makes its own secrets: the salt it gives to who is not there, is not that of another."""
    folder = site.running.config.parent / "another"
    folder.mkdir()
    async with serving(folder, starttls="optional") as running:
        other = Site(running, site.transport, site.patience_s)
        try:
            (_, _, here), (_, _, there) = await challenge(site, "nobody"), await challenge(other, "nobody")
        finally:
            await other.aclose()
    assert here.partition(b",")[0] != there.partition(b",")[0], "two servers with one secret"


CA = make(None, cn="clients", ca=True)


async def certificate_that_looks_right(site: Site) -> None:
    """Of all names in a certificate only an address of XMPP, whole and as it is, is an account."""
    own = f"honest@{HOST}"
    for names in (
        (),  # the common name alone
        (x509.RFC822Name(own),),
        (x509.UniformResourceIdentifier(f"xmpp:{own}"),),
        (xmpp_addr(f"{own}\0.evil.example"),),
        (xmpp_addr(f"*@{HOST}"),),
        (xmpp_addr(own, type="1.3.6.1.4.1.311.20.2.3"),),
    ):
        file = make(CA, *names, cn=own).write(site.running.config.parent / "mallory.pem")
        context = client_context(site.running.ca_file, certificate=file)
        peer = Peer(trio.SSLStream(await site.socket(), context, server_hostname=HOST), site.patience_s)
        await peer.open()
        await peer.send(auth("EXTERNAL", own.encode()))
        await peer.until(b"</failure>")


def any_name(der: bytes) -> list[JID]:
    """The account that the common name of a certificate looks like."""
    (name,) = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [JID(str(name.value))]


async def resource_too_long(site: Site) -> None:
    """It is refused, not cut off: cut off it would be that of somebody else."""
    for octets in (1024, 5000):
        peer = await site.peer()
        await peer.prove("mallory")
        await peer.open()
        wish = b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind>" % (b"x" * octets)
        await peer.send(b"<iq id='b' type='set'>%s</iq>" % wish)
        await peer.until(b"</iq>")
        assert b"<bad-request" in peer.received, f"{octets} octets: ...{peer.received[-60:]!r}"


def cut_off(stanza: Stanza, owner: JID) -> str | None:
    """As much of the resource as there is room for."""
    (request,) = stanza.element
    return owner.with_resource(request[0].text[:1023]).resource


FORGED = "a\r\n2026 [info] c2s bound jid=admin\x1b[2J\u202eb"


async def forges_the_log(site: Site) -> None:
    """What a peer says is no line of the log, and no command to a terminal, if ever it gets there: names that are none do not."""
    before = structlog.get_config()
    try:
        xiot.cli.serve.set_up_logs()
        chain = structlog.get_config()["processors"]
    finally:
        structlog.configure(**before)
    lines: list[Any] = []

    def write(logger: Any, method: str, event: Any) -> Any:
        line = event = dict(event)
        for processor in chain:
            line = processor(logger, method, line)
        lines.append(line)
        return event

    before["processors"].insert(0, write)  # loggers that are there have this very list
    try:
        site.server.log.info("%s: going on without", FORGED)
    finally:
        before["processors"].remove(write)
    assert lines
    assert all(line.isprintable() for line in lines), lines


def as_it_is(_: object, __: str, event: Any) -> Any:
    """A processor of the log that changes nothing."""
    return event


def refuse_at_once(*_: object) -> NoReturn:
    """What tells that an account is not there."""
    raise AuthError("not-authorized")


async def guessing_on_many_streams(site: Site) -> None:
    """The address that guesses is turned away, on other streams too, and for other accounts."""
    for _ in range(3):
        peer = await site.peer(header=True, source="127.0.0.2")
        await peer.send(WRONG_PASSWORD)
        await peer.until(b"</failure>")
    peer = await site.peer(header=True, source="127.0.0.2")
    assert await peer.condition(auth("PLAIN", b"\0ann\0" + PASSWORD.encode())) == "policy-violation"


async def guessing_fast(site: Site) -> None:
    """Between two guesses on a stream lies some time."""
    began = trio.current_time()
    peer = await site.peer(header=True)
    assert await peer.condition(WRONG_PASSWORD * 5) == "policy-violation"
    assert trio.current_time() - began > 4 * 0.25, "five guesses took no time"


async def another_sender(site: Site) -> None:
    """Nobody writes in the name of another account, or of another resource of his own."""
    forged = [b"honest@localhost", b"honest@localhost/x", b"mallory@localhost/other", b"localhost", b"@"]
    await refused("invalid-from", *(b"<message from='%s' to='ann@localhost'/>" % jid for jid in forged), start="login")(
        site
    )


async def somebody_elses_session(site: Site) -> None:
    """Who knows the name of a session, and not the password of its account, does not get it."""
    honest = await site.peer("honest")
    await honest.send(b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    await honest.until(b"<enabled")
    await honest.until(b"/>")
    enabled = honest.received[honest.received.index(b"<enabled") :]
    name = re.findall(rb" id='([^']*)'", enabled)[0]
    assert len(base64.urlsafe_b64decode(name + b"=" * (-len(name) % 4))) >= 16, "a name that can be guessed"
    peer = await site.peer()
    await peer.prove("mallory")
    await peer.open()
    await peer.send(b"<resume xmlns='urn:xmpp:sm:3' h='0' previd='%s'/>" % name)
    await peer.until(b"<failed")
    await peer.until(b"</failed>")
    assert b"item-not-found" in peer.received


async def acknowledges_too_much(site: Site) -> None:
    """More than was sent cannot have come."""
    peer = await site.peer("mallory")
    await peer.send(b"<enable xmlns='urn:xmpp:sm:3'/>")
    await peer.until(b"<enabled")
    assert await peer.condition(b"<a xmlns='urn:xmpp:sm:3' h='7'/>") == "undefined-condition"
    assert b"handled-count-too-high" in peer.received


def all_but_acknowledgements(stanza: Any, session: Any) -> None:
    """Stream management that believes every count."""
    if stanza.name != "a":
        ON_NONZA(stanza, session)


ON_NONZA = xiot.server.resumption.on_nonza


async def registers_without_end(site: Site) -> None:
    """Accounts are made in moderation."""
    peer = await site.peer(header=True)
    for n in range(4):
        peer.received = b""
        await peer.send(
            b"<iq type='set' id='r%d'><query xmlns='jabber:iq:register'><username>robot%d</username>"
            b"<password>x</password></query></iq>" % (n, n)
        )
        await peer.until(b"id='r%d'" % n)
        await peer.until(b"</iq>" if n == 3 else b">")
    assert b"<resource-constraint" in peer.received, peer.received


async def fills_the_storage(site: Site) -> None:
    """What waits for one who is not there is bounded; senders are told."""
    peer = await site.peer("mallory")
    flood = b"".join(
        b"<message id='m%d' type='chat' to='deaf@localhost'><body>x</body></message>" % n for n in range(30)
    )
    await peer.send(flood + b"<iq id='still' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
    await peer.until(b"still")
    assert peer.received.count(b"<message") >= 20, "thirty messages were kept, where ten may be"


async def too_many_resources(site: Site) -> None:
    """An account has so many sessions, and one more harms none of them."""
    first = await site.peer("mallory")
    for _ in range(2):
        await site.peer("mallory")
    with suppress(IndexError):  # no JID in the answer
        one_more = await site.peer("mallory")
        raise AssertionError(f"bound as {one_more.jid}")
    await first.send(b"<iq id='still' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
    await first.until(b"still")


async def too_many_connections(site: Site) -> None:
    """One address has so many connections; others have theirs."""
    peers = [await site.peer(header=True, source="127.0.0.2") for _ in range(5)]
    more = Peer(await site.socket(source="127.0.0.2"), site.patience_s)
    with trio.move_on_after(site.patience_s) as waiting, suppress(AssertionError):  # a reset is as good
        while await more.receive():
            pass
    assert not waiting.cancelled_caught, "a sixth connection stays"
    await site.peer(header=True, source="127.0.0.3")
    await peers[0].condition(CLOSE)


async def iqs_out_of_shape(site: Site) -> None:
    """Each gets its error, and the stream goes on."""
    peer = await site.peer("mallory")
    ping = b"<ping xmlns='urn:xmpp:ping'/>"
    for shape in (b"<iq type='get'>%s</iq>" % ping, b"<iq id='x'>%s</iq>" % ping, b"<iq type='put' id='x'>%s</iq>" % ping,
                  b"<iq type='get' id='x'/>", b"<iq type='set' id='x'>%s%s</iq>" % (ping, ping)):  # fmt: skip
        peer.received = b""
        await peer.send(shape)
        await peer.until(b"</iq>")
        assert b"<bad-request" in peer.received, f"{shape!r}: {peer.received!r}"


OP_ALLOW_CLIENT_RENEGOTIATION = ssl.Options(1 << 8)
"""Of OpenSSL 3, which refuses it by itself; Python has no name for it."""


async def renegotiates(site: Site) -> None:
    """A handshake costs the server more than the client, so within one connection there is one."""
    command = [program("openssl"), "s_client", "-connect", site.running.tls_address, "-tls1_2", "-servername", HOST]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    try:
        with trio.move_on_after(site.patience_s):
            while b"Extended master secret" not in said:
                said += await process.stdout.receive_some()
            await process.stdin.send_all(b"R\n")
            while b"verify return" not in said.partition(b"RENEGOTIATING")[2]:
                if b"no renegotiation" in said:
                    return
                said += await process.stdout.receive_some()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    raise AssertionError("a second handshake")


async def weak_ciphers(site: Site) -> None:
    """No old version of TLS, and nothing without forward secrecy or authenticated encryption."""
    for version, ciphers in (
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA"),
        (ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"),
        (ssl.TLSVersion.TLSv1_2, "aNULL:eNULL:@SECLEVEL=0"),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        stream = trio.SSLStream(await site.socket(), context)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            continue
        raise AssertionError(f"{version.name} with {stream.cipher()}")  # type: ignore[no-untyped-call]


SMALL_QUEUE = {"out_high_bytes": 65_536}
NO_NAMESPACE = HEADER.replace(b"etherx.jabber.org/streams", b"etherx.example/streams")
SERVER_CONTENT = HEADER.replace(b"jabber:client", b"jabber:server")
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + random.Random(1).randbytes(192)


async def sends_without_end(site: Site, login: str | None = "mallory") -> None:
    """What is over the rate stays with the sender: the server does not read on, and others are served."""
    peer = await site.peer(login, header=login is None)
    honest = await site.peer("honest") if login is not None else None
    spaces = b" " * 65536
    with trio.move_on_after(site.patience_s) as flood:
        while not site.server.watch.held:
            await peer.send(spaces)
    assert not flood.cancelled_caught, "nobody was made to wait"
    with trio.move_on_after(0.5) as more:
        for _ in range(1000):
            await peer.send(spaces)
    assert more.cancelled_caught, "it could go on sending"
    if honest is not None:
        await honest.send(b"<iq id='still' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
        await honest.until(b"still")


async def silent_for_good(site: Site) -> None:
    """It is asked first; one that answers stays (tests/server/test_watch.py)."""
    peer = await site.peer("mallory")
    assert await peer.condition() == "connection-timeout"
    assert b"urn:xmpp:ping" in peer.received


ATTACKS = (
    Attack("DTD before the stream", (1, 3), bit("dtd"), refused("restricted-xml", DECLARATION + LAUGHS + HEADER, start="connect"), statement=16),
    Attack(
        "DTD in the stream", (1, 3), bit("dtd"),
        both(refused("restricted-xml", LAUGHS), refused("restricted-xml", LAUGHS, b"<message>" + LAUGHS, start="login")), statement=16,
    ),
    Attack(
        "entity in an attribute", 2, bit("entity"),
        both(refused("restricted-xml", b"<auth a='&lol9;'/>"), refused("restricted-xml", b"<message id='&lol9;'/>", start="login")),
    ),
    Attack(
        "undefined entity", 1, bit("entity"),
        both(refused("restricted-xml", b"<auth>&nbsp;</auth>"), refused("restricted-xml", message(b"&lol9;"), start="login")), statement=16,
    ),
    Attack(
        "comment", 1, bit("comment"),
        both(refused("restricted-xml", b"<!-- -->"), refused("restricted-xml", message(b"<!-- -->"), start="login")), statement=16,
    ),
    Attack(
        "processing instruction", 1, bit("instruction"),
        both(refused("restricted-xml", b"<?php x?>"), refused("restricted-xml", message(b"<?php x?>"), start="login")), statement=16,
    ),
    Attack(
        "nesting before login", 5, limit("max_depth", 1000),
        refused("policy-violation", nested(65), b"<a>" * 1_000_000),
    ),
    Attack("nesting after login", 5, limit("max_depth", 1000), exactly(nested, 63, 100_000)),
    Attack(
        "attributes", 7, limit("max_attributes", 1000),
        both(exactly(attributes, 256, 100_000), refused("policy-violation", attributes(257))),
    ),
    Attack("namespace declarations", 7, core("max_namespaces", 1000), exactly(declarations, 256, 400)),
    Attack(
        "name full of colons", 8, bit("colons"),
        both(refused("not-well-formed", b"<" + b"a:" * 100_000), refused("not-well-formed", b"<a:b:c xmlns:a='u'/>", start="login")),
    ),
    Attack("tag without an end before login", (4, 6, 45), limit("pre_auth_stanza_bytes", 1 << 30), unfinished_tag),
    Attack(
        "tag without an end after login", (4, 6), core("max_tag_bytes", 1 << 30), unfinished_tag_after_login,
        limits={"max_stanza_bytes": 1 << 30},
    ),
    Attack("stanza too large before login", (6, 45), limit("pre_auth_stanza_bytes", 1 << 30), size_before_login, statement=(24, 61, 82)),
    Attack(
        "stanza too large after login", 6, limit("max_stanza_bytes", 1 << 30),
        exactly(lambda size: padded(b"<message><body>%s</body></message>", size), 10_000, 60_000), limits={"max_stanza_bytes": 10_000}, statement=(24, 82),
    ),
    Attack(
        "invalid UTF-8 before login", 11, bit("utf8"),
        refused("unsupported-encoding", *(b"<auth>" + octets + b"</auth>" for octets in INVALID_UTF8)),
    ),
    Attack(
        "invalid UTF-8 after login", (11, 13), bit("utf8"),
        refused("unsupported-encoding", *(message(octets) for octets in INVALID_UTF8), start="login"),
    ),
    Attack(
        "invalid UTF-8, octet by octet", 11, bit("utf8"),
        refused("unsupported-encoding", *(b"<auth>" + octets for octets in INVALID_UTF8), piece_bytes=1),
    ),
    Attack(
        "UTF-16", 11, bit("utf8"),
        refused("unsupported-encoding", (DECLARATION + HEADER).decode().encode("utf-16"), start="connect"), statement=14,
    ),
    Attack(
        "another encoding declared", 11, bit("encoding"),
        refused("unsupported-encoding", b"<?xml version='1.0' encoding='ISO-8859-1'?>" + HEADER, start="connect"), statement=14,
    ),
    Attack(
        "NUL and control characters", 13, bit("control"),
        both(
            refused("not-well-formed", b"<auth>\0</auth>", b"<auth>\1</auth>"),
            refused("not-well-formed", message(b"a\0b"), message(b"\x0b"), start="login"),
        ),
    ),
    Attack(
        "garbage", 3, bit("outside"),
        refused(
            GARBAGE, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"EHLO localhost\r\n", CLIENT_HELLO,
            *(random.Random(seed).randbytes(4000) for seed in range(5)), start="connect",
        ), statement=1,
    ),
    Attack(
        "text between stanzas", 13, bit("outside"),
        both(refused("bad-format", b"text"), refused("bad-format", b"<message/>text<message/>", start="login")),
    ),
    Attack("second stream behind the first", 13, code(ServerStream, "_on_close", lambda self: []), second_root, statement=(9, 10)),
    Attack(
        "wrong namespaces", 3, code(Stream, "_check_header", lambda self, header: None),
        refused("invalid-namespace", NO_NAMESPACE, SERVER_CONTENT, start="connect"), statement=(2, 3),
    ),
    Attack(
        "stanza before login", 45, code(ServerStream, "_may_ask_before_login", lambda self, stanza: True),
        refused("not-authorized", message(b"hello", "honest@localhost")), statement=19,
    ),
    Attack("password guessing", 43, limit("auth_failures_per_stream", 100), guessing, limits={"auth_failure_delay_s": 0}, statement=42),
    Attack("clear text behind <starttls/>", 24, bit("clear_text"), clear_text_behind_starttls, transports=("tcp",), statement=30),
    Attack("slow loris", 46, limit("pre_auth_s", 3600), slow_loris, limits={"pre_auth_s": 1}, statement=12),
    Attack("connection that says nothing", 46, limit("pre_auth_s", 3600), half_open, limits={"pre_auth_s": 0.5}),
    Attack("stream that says nothing", 46, limit("pre_auth_s", 3600), header_only, limits={"pre_auth_s": 0.5}),
    Attack(
        "one that stays after the end", 46, code(xiot.net.pump, "LINGER_S", 3600.0), stays_after_the_end, transports=("tcp",)
    ),
    Attack("connections that come and go", 44, code(Server, "disconnected", lambda self, connection: None), leaves_nothing_behind, transports=("tls",)),
    Attack("one that stops reading", 47, limit("out_high_bytes", 1 << 30), stops_reading, limits=SMALL_QUEUE),
    Attack(
        "one that stops reading for good", 47, limit("stall_s", 3600), stops_reading_for_good, limits=SMALL_QUEUE | {"stall_s": 0.5}
    ),
    Attack("one that sends without end", 47, limit("account_bytes_per_s", 0), sends_without_end, limits={"account_bytes_per_s": 100_000, "burst_s": 1}, statement=81),
    Attack(
        "one that sends without end, before login", 45, limit("address_bytes_per_s", 0), partial(sends_without_end, login=None),
        limits={"address_bytes_per_s": 1_000_000, "burst_s": 1}, statement=81,  # what is over the rate, honest ones of the address wait for, too
    ),
    Attack("one that is dead and keeps its session", 46, limit("idle_s", 3600), silent_for_good, limits={"idle_s": 0.8}, statement=(21, 83)),
    Attack("one that asks and does not listen", 47, limit("out_high_bytes", 1 << 30), asks_and_does_not_listen, limits=SMALL_QUEUE),
    Attack(
        "one that wants acknowledgements and does not listen", 47, limit("out_high_bytes", 1 << 30), wants_acknowledgements,
        limits=SMALL_QUEUE, statement=76,
    ),
    Attack("login without the TLS that is required", 26, code(SaslServer, "offered", property(lambda self: self._policy.offered(secure=True))),
        without_required_tls, transports=("tcp",), starttls="required", statement=(28, 29)),
    Attack("mechanism that is not offered", 41, code(SaslServer, "offered", property(lambda self: ["ANONYMOUS", "EXTERNAL", "PLAIN"])),
        failing("invalid-mechanism", *(auth(name, b"") for name in ("ANONYMOUS", "EXTERNAL", "DIGEST-MD5", "SCRAM-SHA-512"))), statement=37),
    Attack("login as somebody else", 34, code(SaslServer, "_authorize", lambda self, name, wish: JID(wish or f"{name}@{HOST}")),
        failing("invalid-authzid", auth("PLAIN", b"honest@localhost\0mallory\0" + PASSWORD.encode())), statement=41),
    Attack("stanza before binding", 53, code(ServerStream, "_on_binding", ServerStream._on_ready), before_binding, statement=49),
    Attack("another address after login", 27, code(ServerStream, "_check_addresses", believe), another_after_login),
    Attack("asking which accounts there are", 40, code(xiot.proto.scram, "fake_keys", refuse_at_once), who_is_there),
    Attack("password guessing on many streams", 43, limit("auth_failures_per_address", 0), guessing_on_many_streams,
        limits={"auth_failures_per_address": 3, "auth_failure_delay_s": 0}, transports=("tls",)),
    Attack("password guessing, fast", 43, limit("auth_failure_delay_s", 0), guessing_fast, limits={"auth_failure_delay_s": 0.25}),
    Attack("another sender", 53, code(xiot.proto.receiving, "_is_own", lambda address, jid: True), another_sender, statement=56),
    Attack("session of somebody else", 66, code(Resumptions, "find", lambda self, id, account: self._sessions.get(id)), somebody_elses_session),
    Attack("too much acknowledged", 66, code(xiot.server.resumption, "on_nonza", all_but_acknowledgements), acknowledges_too_much, statement=79),
    Attack("registering without end", 75, limit("registrations_per_address_per_hour", 0), registers_without_end,
        limits={"registrations_per_address_per_hour": 3}, transports=("tls",)),
    Attack("filling the storage of others", 76, limit("offline_messages_per_account", 1000), fills_the_storage,
        limits={"offline_messages_per_account": 10}),
    Attack("too many sessions", 45, limit("resources_per_account", 100), too_many_resources,
        limits={"resources_per_account": 3}, transports=("tls",), statement=(25, 51)),
    Attack("too many connections", 45, limit("connections_per_address", 0), too_many_connections,
        limits={"connections_per_address": 5}, transports=("tls",), statement=81),
    Attack("iq out of shape", 74, code(xiot.server.routing, "check_iq", lambda stanza: None), iqs_out_of_shape, statement=52),
    Attack("certificate that looks right", 34, code(xiot.server.certificates, "addresses", any_name), certificate_that_looks_right,
        host='client_ca = "clients.pem"', transports=("tls",)),
    Attack("resource too long", 65, code(bind, "parse_request", cut_off), resource_too_long, statement=60, transports=("tcp",)),
    Attack("forging the log", 72, code(xiot.cli.serve, "escape_controls", as_it_is), forges_the_log, transports=("tcp",)),
    Attack("secret of another server", 73, code(xiot.server.accounts, "_secret", lambda tx, name: b"example"),
        knows_a_secret_of_another_server, transports=("tcp",)),
    Attack("renegotiation", 28, code(ssl, "OP_NO_RENEGOTIATION", OP_ALLOW_CLIENT_RENEGOTIATION), renegotiates, transports=("tls",)),
    Attack("weak ciphers and versions", 29, code(xiot.server.certificates, "CIPHERS", "ALL:@SECLEVEL=0"), weak_ciphers, transports=("tls",), statement=34),
)  # fmt: skip


@asynccontextmanager
async def under_attack(attack: Attack, folder: Path, *, off: bool = False) -> AsyncIterator[Running]:
    """A server with the limits of `attack`, its defence on or `off`."""
    limits: dict[str, Any] = dict(attack.limits)
    if off and attack.switch.kind == "limit":
        limits[attack.switch.name] = attack.switch.value
    CA.write(folder / "clients.pem")
    async with serving(folder, starttls=attack.starttls, plain=True, host=attack.host, **limits) as running:
        await running.account("honest", "mallory", "deaf", "ann", "bob")
        yield running


async def carry_out(attack: Attack, running: Running, transport: Transport, patience_s: float = 5.0) -> None:
    """Do it. AssertionError unless the server holds out."""
    site = Site(running, transport, patience_s)
    try:
        await attack.run(site)
    finally:
        await site.aclose()


__all__ = ["ATTACKS", "BITS", "HEADER", "Attack", "Peer", "Site", "Switch", "carry_out", "rss_bytes", "under_attack"]
