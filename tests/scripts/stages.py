# SPDX-License-Identifier: Apache-2.0
"""Where transcripts are played: our server in memory and over TCP with TLS, Prosody and ejabberd; and the client that plays them.

The client shares no code with xiot: sockets of trio, TLS of the standard library, expat.
"""

from __future__ import annotations

import base64
import importlib.util
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree.ElementTree import Element, XMLPullParser

import trio

from tests.server.serving import PASSWORD, Running, serving
from tests.shared import ROOT
from xiot.xep import standard

from .transcript import NS_STREAM

HOST = "localhost"
HERE = Path(__file__).parent
HEADER = (
    f"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{NS_STREAM}' to='{HOST}' version='1.0'>"
)
NS_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
NS_BIND = "urn:ietf:params:xml:ns:xmpp-bind"
NS_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
ANSWER_S = 10.0  # for a server to answer, on a busy machine
Dial = Callable[[], Awaitable[trio.abc.Stream]]


class Gone(Exception):
    """The server has closed the stream or the connection."""


class Client:
    """A stream to a server: elements in, elements out."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reset()

    def _reset(self) -> None:
        self._parser = XMLPullParser(["start", "end"])
        self._depth = 0

    async def send(self, xml: str) -> None:
        """Send `xml` as it stands. A connection that is gone takes nothing."""
        try:
            await self._stream.send_all(xml.encode())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Gone from None

    async def next(self) -> Element:
        """The next element of the stream. Raises Gone."""
        while True:
            for event, element in self._parser.read_events():
                if event == "start":
                    self._depth += 1
                    continue
                self._depth -= 1
                if self._depth == 1:
                    return element
                if self._depth == 0:
                    raise Gone
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise Gone
            self._parser.feed(data)

    async def open(self) -> Element:
        """Begin a stream; returns its features."""
        self._reset()
        await self.send(HEADER)
        return await self.next()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Upgrade to TLS (RFC 6120 section 5.4)."""
        await self.send(f"<starttls xmlns='{NS_TLS}'/>")
        answer = await self.next()
        assert answer.tag == f"{{{NS_TLS}}}proceed", answer.tag
        secure = trio.SSLStream(self._stream, context, server_hostname=HOST, https_compatible=True)
        await secure.do_handshake()
        self._stream = secure

    async def log_in(self, local: str) -> Element:
        """SASL PLAIN; returns the features of the stream after it."""
        secret = base64.b64encode(f"\0{local}\0{PASSWORD}".encode()).decode()
        await self.send(f"<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{secret}</auth>")
        answer = await self.next()
        assert answer.tag == f"{{{NS_SASL}}}success", answer.tag
        return await self.open()

    async def bind(self, resource: str) -> None:
        """Bind the resource (RFC 6120 section 7.7)."""
        await self.send(f"<iq type='set' id='bind'><bind xmlns='{NS_BIND}'><resource>{resource}</resource></bind></iq>")
        answer = await self.next()
        assert answer.get("type") == "result", answer.attrib

    async def register(self, local: str) -> None:
        """Make the account, before login (XEP-0077 section 3.1)."""
        fields = f"<username>{local}</username><password>{PASSWORD}</password>"
        await self.send(f"<iq type='set' id='reg'><query xmlns='jabber:iq:register'>{fields}</query></iq>")
        answer = await self.next()
        assert answer.get("type") == "result", f"{local} was not registered"

    async def close(self) -> None:
        """Close the connection, not the stream."""
        await trio.aclose_forcefully(self._stream)


@dataclass(frozen=True)
class Stage:
    """A server that runs, and how to reach it."""

    server: str
    """xiot, prosody or ejabberd."""
    dial: Dial
    tls: ssl.SSLContext | None
    """For STARTTLS; None: there is no TLS."""
    has: Callable[[str], bool] = lambda need: True
    """Whether it has what a transcript needs: a specification (XEP-0199) or an extension (ping)."""
    pause_s: float = 0.0
    """How long stanzas may be on their way inside the server after it has answered the one that set them off."""
    address: str = ""
    """Host and port, for other clients; empty in memory."""
    ca_file: Path | None = None
    """Whose certificates are to be trusted there."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        """A client whose stream is open and secure, before login."""
        client = Client(await self.dial())
        try:
            with trio.fail_after(ANSWER_S):
                await client.open()
                if self.tls is not None:
                    await client.start_tls(self.tls)
                    await client.open()
            yield client
        finally:
            await client.close()

    async def register(self, local: str) -> None:
        """Make an account."""
        async with self.connect() as client:
            with trio.fail_after(ANSWER_S):
                await client.register(local)


def we_have(need: str) -> bool:
    """Returns whether our server has the specification or extension `need`."""
    return any(need in (extension.spec, extension.name) for extension in standard())


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Stage]:
    """Our server, over pairs of sockets."""
    async with serving(folder, starttls="off", plain=True, **_LIMITS) as running:
        yield Stage("xiot", lambda: _pair(running), None, we_have)


async def _pair(running: Running) -> trio.abc.Stream:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    running.server._serve(theirs, "127.0.0.1:0", tls=False, exi=False)
    ours.setblocking(False)
    return _PairStream(trio.socket.from_stdlib_socket(ours))


class _PairStream(trio.abc.Stream):
    """A socket of a pair; `trio.SocketStream` sets options that only TCP has."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[await self._sock.send(rest) :]
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._sock.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._sock.recv(max_bytes or 65536)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def aclose(self) -> None:
        self._sock.close()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def tcp(folder: Path, epoll: bool | None = None) -> AsyncIterator[Stage]:
    """Our server, over TCP and STARTTLS."""
    async with serving(folder, epoll=epoll, **_LIMITS) as running:
        yield Stage("xiot", running.raw, running.tls, we_have, address=running.address, ca_file=running.ca_file)


_LIMITS: dict[str, float] = {"registrations_per_address_per_hour": 0, "connections_per_address": 0}


def _load_harness() -> ModuleType:
    """benches/load/harness.py, which starts real servers."""
    if "load_harness" not in sys.modules:
        spec = importlib.util.spec_from_file_location("load_harness", ROOT / "benches/load/harness.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["load_harness"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["load_harness"]


def absent(name: str) -> str | None:
    """What is not installed of the server `name`; None if all is there."""
    return None if name in OURS else _load_harness().KINDS[name].missing()


@asynccontextmanager
async def _peer(name: str, folder: Path) -> AsyncIterator[Stage]:
    harness: Any = _load_harness()
    config = {"prosody": "prosody.cfg.lua", "ejabberd": "ejabberd.yml"}[name]
    kind = replace(harness.KINDS[name], config=str(HERE / "servers" / config))
    place = harness.make_place(kind, folder, None)
    context = ssl.create_default_context(cafile=str(place.certificate))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a self-signed one without key identifiers
    starting = harness.running(kind, place)
    await trio.to_thread.run_sync(starting.__enter__)
    try:
        yield Stage(
            name,
            partial(trio.open_tcp_stream, "127.0.0.1", place.port),
            context,
            pause_s=0.05 if name == "ejabberd" else 0,
            address=f"127.0.0.1:{place.port}",
            ca_file=place.certificate,
        )
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(starting.__exit__, None, None, None)


@asynccontextmanager
async def open_stage(name: str, folder: Path) -> AsyncIterator[Stage]:
    """The stage `name` of `STAGES`, with its files in `folder`."""
    async with AsyncExitStack() as stack:
        made = OURS.get(name)
        yield await stack.enter_async_context(made(folder) if made else _peer(name, folder))


OURS: dict[str, Callable[[Path], AbstractAsyncContextManager[Stage]]] = {
    "memory": memory,
    "tcp": tcp,
    "tasks": partial(tcp, epoll=False),  # as on machines without epoll
}
STAGES = (*OURS, "prosody", "ejabberd")
