# SPDX-License-Identifier: Apache-2.0
"""Attacks on a client: by a server, by somebody on the way to it, and by other clients; each with the switch of the defence against it.

An attack is a coroutine that is given a folder, does its worst to a client of ours, and raises AssertionError unless the client did as
it must. As those on a server (tests/server/attacks.py), it has to pass with its defence on, and to fail with its defence off.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import trio
from cryptography import x509

import xiot
import xiot.client.login
import xiot.proto.scram
from tests.certificates import CLIENT, DAY, Pair, make
from tests.server.attacks import Numbers, Peer, Switch, code
from tests.server.serving import HOST, PASSWORD, Running, serving
from xiot.client.handlers import Request
from xiot.client.memory import Memory
from xiot.client.requests import Requests
from xiot.core import JID, Element, XmlError
from xiot.net.tls import client_context
from xiot.proto.initiating import ClientStream
from xiot.proto.known import Known
from xiot.proto.sasl import SaslClient
from xiot.proto.scram import ScramServer
from xiot.server.certificates import development_certificate
from xiot.xep import caps, carbons, correction, disco, roster
from xiot.xep.ping import Ping

Run: TypeAlias = Callable[[Path], Awaitable[None]]
PATIENCE_S = 10.0
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    b" from='localhost' id='1' version='1.0'>"
)
FEATURES = b"<stream:features>%s</stream:features>"
MECHANISMS = FEATURES % b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>%s</mechanism></mechanisms>"
STARTTLS = FEATURES % b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
SASL = b"urn:ietf:params:xml:ns:xmpp-sasl"


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


class Liar:
    """A server that says what it likes, one thing after each that it hears, hears one more, and hangs up."""

    def __init__(self) -> None:
        self.heard = b""
        self.address = ""


@asynccontextmanager
async def lying(*answers: bytes | Callable[[bytes], bytes], tls: ssl.SSLContext | None = None) -> AsyncIterator[Liar]:
    """A server that gives these answers, or what they make of what it has heard; by direct TLS if there is a context."""
    liar = Liar()

    async def serve(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            for answer in answers:
                liar.heard += (latest := bytes(await stream.receive_some()))
                await stream.send_all(answer if isinstance(answer, bytes) else answer(latest))
            liar.heard += await stream.receive_some()

    async with accepting(serve, tls) as liar.address:
        yield liar


@asynccontextmanager
async def accepting(serve: Callable[..., Awaitable[None]], tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address where `serve` gets the connections."""
    async with trio.open_nursery() as nursery:
        start = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        if tls is not None:
            start = partial(trio.serve_ssl_over_tcp, serve, 0, tls, host="127.0.0.1")
        listener = (await nursery.start(start))[0]
        sock = (listener if tls is None else listener.transport_listener).socket
        yield f"127.0.0.1:{sock.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def connecting(address: str, **options: Any) -> xiot.XiotError | None:
    """What comes of connecting there: why it failed, or None if it did not, or not within some seconds."""
    try:
        with trio.move_on_after(1):
            async with xiot.connect(f"romeo@{HOST}", PASSWORD, address=address, reconnect=False, **options):
                pass
    except xiot.XiotError as error:
        return error
    return None


# ---- a server that lies, or whoever answers in its place ----


async def cuts_out_tls(_: Path) -> None:
    """No STARTTLS in the offer: no login."""
    async with lying(HEADER + MECHANISMS % b"SCRAM-SHA-256") as liar:
        await connecting(liar.address)
    assert b"<auth" not in liar.heard, liar.heard


async def forgets_tls(folder: Path) -> None:
    """Whoever has seen TLS once, does not do without, though his program allows it."""
    memory = Memory()
    async with serving(folder, host='mechanisms = ["SCRAM-SHA-256"]') as running:
        await running.account("romeo")
        assert await connecting(running.address, ca_file=running.ca_file, memory=memory) is None
    async with lying(HEADER + MECHANISMS % b"SCRAM-SHA-256") as liar:
        await connecting(liar.address, tls="optional", memory=memory)
    assert b"<auth" not in liar.heard, liar.heard


async def speaks_behind_proceed(_: Path) -> None:
    """What came in the clear behind <proceed/> is no word from inside TLS: so there is no TLS."""
    for injected in (b"<stream:features/>", HEADER, b"x"):
        async with lying(HEADER + STARTTLS, PROCEED + injected) as liar:
            await connecting(liar.address)
        assert b"\x16\x03" not in liar.heard, "a handshake"


async def take_everything(wire: Any) -> list[Any]:
    """A read that does not mind what comes behind the end of a stream."""
    events: list[Any] = []
    with suppress(XmlError):
        for event in wire._parser.feed(await wire.transport.receive(65536)):
            events += wire.machine.receive(event)
    return events


NAME = x509.DNSName(HOST)
WRONG: tuple[Callable[[Pair], Pair], ...] = (
    lambda ca: make(ca, x509.DNSName("elsewhere.example")),
    lambda ca: make(ca, cn=HOST),
    lambda ca: make(None, NAME),
    lambda ca: make(make(None, cn="other", ca=True), NAME),
    lambda ca: make(ca, NAME, begins=-3 * DAY, ends=-DAY),
    lambda ca: make(ca, NAME, begins=DAY, ends=3 * DAY),
    lambda ca: make(ca, NAME, usage=[CLIENT]),
    lambda ca: make(make(ca, x509.DNSName("x.example")), NAME),  # by who is no CA
)


async def shows_a_wrong_certificate(folder: Path) -> None:
    """By none of them a server gets a word of the login."""
    ca = make(None, cn="root", ca=True)
    ca_file = ca.write(folder / "ca.pem")
    for build in WRONG:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(build(ca).write(folder / "server.pem"))
        async with lying(HEADER + MECHANISMS % b"PLAIN", tls=tls) as liar:
            await connecting(liar.address, ca_file=ca_file, tls="direct")
        assert b"<stream:stream" not in liar.heard, liar.heard


async def unverified(*_: object, **__: object) -> ssl.SSLContext:
    """TLS with whomever."""
    context = client_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def intercepts(folder: Path, edit: Callable[[bytes], bytes] = bytes) -> None:
    """Between client and server, with a certificate that a CA has signed for that very name: SCRAM is bound to the right one."""
    async with serving(folder) as running:
        await running.account("romeo")
        (folder / "tls/localhost.pem").unlink()
        _, certificate, key = development_certificate(folder / "tls", HOST)  # another one
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        async with accepting(partial(relay, running, edit), tls) as address:
            error = await connecting(address, tls="direct", ca_file=running.ca_file)
    assert isinstance(error, (xiot.AuthError, xiot.StreamError)), f"logged in through an interceptor: {error}"


async def relay(running: Running, edit: Callable[[bytes], bytes], client: trio.abc.Stream) -> None:
    """Say to either what the other says, to the client with changes."""
    server = trio.SSLStream(await running.raw_tls(), running.tls, server_hostname=HOST)

    async def pass_on(a: trio.abc.Stream, b: trio.abc.Stream, change: Callable[[bytes], bytes]) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := bytes(await a.receive_some()):
                await b.send_all(change(data))
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, client, server, bytes)
            nursery.start_soon(pass_on, server, client, edit)
    finally:
        await trio.aclose_forcefully(server)


def without_binding(data: bytes) -> bytes:
    """An offer that knows no channel binding, and only the first profile of SASL."""
    data = re.sub(rb"<authentication .*?</authentication>", b"", data, flags=re.DOTALL)
    data = re.sub(rb"<mechanism>[A-Z0-9-]*-PLUS</mechanism>", b"", data)
    return re.sub(rb"<sasl-channel-binding .*?</sasl-channel-binding>", b"", data, flags=re.DOTALL)


def careless(mechanism: str, **options: Any) -> ScramServer:
    """A server that does not mind what its client saw of its offer."""
    return ScramServer(mechanism, **(options | {"offers_plus": False, "offered": None}))


async def asks_for_odd_work(_: Path) -> None:
    """Of too few iterations the password could be guessed, and too many never end."""
    for iterations in (b"1", b"4095", b"1000001", b"2147483648"):

        def challenge(said: bytes, iterations: bytes = iterations) -> bytes:
            first = base64.b64decode(said.partition(b">")[2].partition(b"<")[0])
            nonce = first.rpartition(b"r=")[2]
            text = b"r=%sx,s=%s,i=%s" % (nonce, base64.b64encode(bytes(16)), iterations)
            return b"<challenge xmlns='%s'>%s</challenge>" % (SASL, base64.b64encode(text))

        async with lying(HEADER + MECHANISMS % b"SCRAM-SHA-256", challenge) as liar:
            await connecting(liar.address, tls="off")
        assert b"<auth" in liar.heard
        assert b"<response" not in liar.heard, f"{iterations!r} iterations"


async def proves_nothing(_: Path) -> None:
    """Who says success and cannot sign, does not know us."""
    for data in (b"", base64.b64encode(b"v=AAAA")):
        success = b"<success xmlns='%s'>%s</success>" % (SASL, data)
        async with lying(HEADER + MECHANISMS % b"SCRAM-SHA-256", success, b"") as liar:
            await connecting(liar.address, tls="off")
        assert liar.heard.count(b"<stream:stream") == 1, "the client goes on"


def believe_in_success(exchange: SaslClient, data: bytes | None) -> None:
    """Success is success."""


async def sends_us_elsewhere(_: Path) -> None:
    """Who has not proved who he is, sends nobody anywhere."""
    async with lying(HEADER) as elsewhere:
        host = b"<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>%s</see-other-host>"
        goodbye = b"<stream:error>%s</stream:error></stream:stream>" % (host % elsewhere.address.encode())
        async with lying(HEADER + goodbye) as liar:
            await connecting(liar.address)
        await trio.sleep(0.05)
    assert not elsewhere.heard, elsewhere.heard


# ---- other clients of an honest server ----


@asynccontextmanager
async def together(folder: Path) -> AsyncIterator[tuple[xiot.client.Client, Peer]]:
    """Romeo, a client of ours, and Mallory, who writes what he likes."""
    async with serving(folder, starttls="optional", plain=True) as running:
        await running.account("romeo", "mallory")
        async with running.connect("romeo") as romeo:
            mallory = Peer(await running.raw(), PATIENCE_S)
            try:
                await mallory.login("mallory")
                await roster.fetch(romeo, romeo.roster)
                yield romeo, mallory
            finally:
                await trio.aclose_forcefully(mallory.stream)


async def answers_for_another(folder: Path) -> None:
    """An answer counts only if it is of who was asked, whoever knows the id."""
    async with together(folder) as (romeo, mallory):
        romeo._requests._send = forgetful(romeo._requests._send)  # nobody else answers
        taken = False

        async def forge() -> None:
            while not romeo._requests.waiting:
                await trio.lowlevel.checkpoint()
            id = next(iter(romeo._requests._waiting))
            await mallory.send(f"<iq type='result' id='{id}' to='{romeo.jid}'/>".encode())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forge)
            with suppress(TimeoutError):
                await romeo.request("get", Ping(), to=f"nobody@{HOST}/x", timeout=0.5)
                taken = True
        assert not taken, "the answer of somebody else"


def forgetful(send: Callable[..., Awaitable[None]]) -> Any:
    """Send anything but pings."""

    async def some(stanza: Any, **options: Any) -> Any:
        return None if stanza.find("{urn:xmpp:ping}ping") is not None else await send(stanza, **options)

    return some


async def pushes_a_contact(folder: Path) -> None:
    """A roster is changed by one's own server alone."""
    async with together(folder) as (romeo, mallory):
        item = "<query xmlns='jabber:iq:roster'><item jid='mallory@localhost' subscription='both'/></query>"
        await mallory.send(f"<iq type='set' id='push' to='{romeo.jid}'>{item}</iq>".encode())
        await mallory.until(b"id='push'")
        assert not romeo.roster.items, romeo.roster.items


async def copies_what_nobody_said(folder: Path) -> None:
    """A carbon is of one's own account, or it is none."""
    async with together(folder) as (romeo, mallory):
        said = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='juliet@localhost/x'><body>trust Mallory</body></message></forwarded>"
        for way in ("received", "sent"):
            await mallory.send(
                f"<message to='{romeo.jid}'><{way} xmlns='urn:xmpp:carbons:2'>{said}</{way}></message>".encode()
            )
        await mallory.send(f"<message to='{romeo.jid}' type='chat'><body>last</body></message>".encode())
        with trio.fail_after(PATIENCE_S):
            first = await anext(romeo.messages())
        assert first.body == "last", first


async def corrects_what_another_said(folder: Path) -> None:
    """A message is corrected by its author."""
    original = Element.fromstring(
        "<message xmlns='jabber:client' from='juliet@localhost/x' id='j' type='chat'><body>no</body></message>"
    )
    async with together(folder) as (romeo, mallory):
        replace = "<body>yes</body><replace xmlns='urn:xmpp:message-correct:0' id='j'/>"
        await mallory.send(f"<message to='{romeo.jid}' type='chat' id='m'>{replace}</message>".encode())
        with trio.fail_after(PATIENCE_S):
            got = await anext(romeo.messages())
    assert not correction.corrects(got.element, original), f"{got.sender} corrects juliet"


async def poisons_capabilities(folder: Path) -> None:
    """What somebody says of himself under the hash of others is not believed of them."""
    others = disco.Info(features=(disco.Feature(var="urn:xmpp:ping"),))
    c, cache = caps.C(hash="sha-1", node="urn:others", ver=caps.verification_string(others)), caps.Cache()
    async with together(folder) as (romeo, mallory):

        async def lie() -> None:
            await mallory.until(b"#" + c.ver.encode())
            (id,) = re.findall(rb"<iq[^>]* id='([^']*)'", mallory.received[mallory.received.rindex(b"<iq") :])
            info = f"<query xmlns='{disco.NS_INFO}' node='{c.full_node}'><feature var='urn:evil'/></query>"
            await mallory.send(f"<iq type='result' id='{id.decode()}' to='{romeo.jid}'>{info}</iq>".encode())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lie)
            await caps.capabilities(romeo, JID(mallory.jid), c, cache)
    assert cache.get(c) is None, f"kept: {cache.get(c)}"


def believe_in_capabilities(cache: caps.Cache, c: caps.C, info: disco.Info) -> bool:
    """Whatever is told has the hash."""
    cache._known[c.hash or "", c.ver] = info
    return True


def trustful(request: Any, owner: Any, stanza: Any, sender: JID) -> None:
    """Whatever comes is from our own server."""
    REQUEST(request, owner, stanza, owner.jid.bare)


REQUEST = Request.__init__


def take_any(requests: Requests, stanza: Any, sender: JID | None, own: JID) -> None:
    """An answer is known by its id."""
    requests._waiting[stanza.id].settle(stanza)


def optional_tls(account: JID, *, tls: str, **options: Any) -> ClientStream:
    """A login that does without TLS if it is not offered."""
    return ClientStream(account, tls="optional" if tls == "required" else tls, **options)  # type: ignore[arg-type]


ATTACKS = (
    Attack("TLS cut out of the offer", 25, code(xiot.client.login, "ClientStream", optional_tls), cuts_out_tls),
    Attack("TLS cut out of a later offer", 25, code(Known, "check_tls", lambda known, secure: None), forgets_tls, statement=35),
    Attack("words behind <proceed/>", 24, code(xiot.client.login.Wire, "receive", take_everything), speaks_behind_proceed, statement=30),
    Attack("wrong certificates", (31, 32), code(xiot.client.login, "make_client_context", unverified), shows_a_wrong_certificate),
    Attack("interceptor with a right certificate", 35, code(xiot.proto.scram, "secrets_equal", lambda a, b: True), intercepts),
    Attack("interceptor who cuts out the binding", 37, code(xiot.proto.scram, "ScramServer", careless),
        partial(intercepts, edit=without_binding), statement=46),
    Attack("odd numbers of iterations", 39, code(xiot.proto.scram, "MIN_ITERATIONS", 1), asks_for_odd_work),
    Attack("success without proof", 35, code(SaslClient, "success", believe_in_success), proves_nothing, statement=43),
    Attack("being sent elsewhere", 25, code(xiot.client.login.Login, "redirected", lambda login, error, machine: error.text), sends_us_elsewhere,
        statement=23),
    Attack("answer of somebody else", 54, code(Requests, "answer", take_any), answers_for_another),
    Attack("roster push of somebody else", 55, code(Request, "__init__", trustful), pushes_a_contact),
    Attack("carbon of somebody else", 56, code(carbons, "unwrap", lambda stanza, account: stanza), copies_what_nobody_said),
    Attack("correction by somebody else", 58, code(correction, "JID", lambda text: JID("anybody@localhost")), corrects_what_another_said),
    Attack("capabilities of others", 61, code(caps.Cache, "add", believe_in_capabilities), poisons_capabilities),
)  # fmt: skip
