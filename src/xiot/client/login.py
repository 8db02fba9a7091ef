# SPDX-License-Identifier: Apache-2.0
"""From nothing to a bound resource: finding the server, connecting, TLS, SASL, binding. Each stream of a client begins in `establish`."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import anyio
import anyio.to_thread
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from xiot.client.exi import ExiTransport, Proposals, SchemaSet
from xiot.client.memory import Memory
from xiot.core import JID, Stanza, StreamClose, StreamOpen, StreamParser, XmlError
from xiot.errors import AuthError, LinkError, StreamError, XiotError
from xiot.exi import ExiError
from xiot.exi.configurations import ExiStream, Kind
from xiot.net.dial import abandon, bindings, parse_address, reach, secure
from xiot.net.dns import CLIENT_PORT, CLIENT_TLS_PORT, Dns, Resolver, Target, discover, discover_exi
from xiot.net.tls import make_client_context, own_addresses, verifies
from xiot.proto import scram, sm
from xiot.proto.events import (
    Authenticated,
    Closed,
    Event,
    NeedPassword,
    NeedSaltedPassword,
    Ready,
    RestartStream,
    StartExi,
    StartTls,
)
from xiot.proto.initiating import ClientStream
from xiot.proto.known import Known

if TYPE_CHECKING:
    from xiot.proto.features import Tls

log = logging.getLogger(__name__)

Encoding = Literal["xml", "exi", "exi-session"]

RECEIVE_BYTES = 16384
MAX_STANZA_BYTES = 16 * 2**20  # what a server lets through must not end our stream: far more than servers take
REDIRECTS = 4  # that are followed, one after the other

LOST = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
)  # what a broken transport raises


@dataclass(kw_only=True)
class Login:
    """Whom to log in, and how; see `xiot.connect`."""

    account: JID
    password: str | None = field(default=None, repr=False)
    address: str | None = None
    ca_file: str | Path | None = None
    ssl_context: ssl.SSLContext | None = None
    """Made from `ca_file` when first needed."""
    tls: Tls | Literal["direct"] = "required"
    plain_without_tls: bool = False
    max_stanza_bytes: int = MAX_STANZA_BYTES
    resolver: Resolver = field(default_factory=Dns)
    pins: Collection[str] = ()
    certificate: str | Path | None = None
    key: str | Path | None = None
    memory: Memory = field(default_factory=Memory)
    durable: bool = False
    encoding: Encoding = "xml"
    exi_address: str | None = None
    exi_schemas: SchemaSet = "xiot"
    exi_upload: bool = False
    proposals: Proposals | None = field(default=None, init=False)
    """Made when first needed; None if the stream stays XML."""
    addresses: list[JID] | None = field(default=None, init=False)
    """Of the certificate; read when first needed: the file may change later, what the context has loaded does not."""

    async def prepare(self) -> None:
        """Read the files. Raises LinkError, OSError, ValueError, ImportError (schemas, but no lxml)."""
        if self.encoding != "xml" and self.proposals is None:
            # What is decoded has the limits of the parser.
            limits = {"max_stanza_bytes": self.max_stanza_bytes, "max_depth": 1000, "max_attributes": 1024}
            wanted: dict[str, Any] = {
                "keep": self.encoding == "exi-session",
                "upload": self.exi_upload,
                "limits": limits,
            }
            self.proposals = await anyio.to_thread.run_sync(partial(Proposals, self.exi_schemas, **wanted))
        if self.ssl_context is None and self.tls != "off":
            options: dict[str, Any] = {"pins": self.pins, "certificate": self.certificate, "key": self.key}
            self.ssl_context = await make_client_context(self.ca_file, **options)
        if self.addresses is None and self.certificate is not None:
            self.addresses = await anyio.to_thread.run_sync(own_addresses, self.certificate)

    def redirected(self, error: XiotError | None, machine: ClientStream) -> str | None:
        """The address that the server of a stream that ended with `error` sends us to, if it has proved who it is."""
        if isinstance(error, StreamError) and error.condition == "see-other-host" and self.proved(machine):
            return error.text
        return None

    def proved(self, machine: ClientStream) -> bool:
        """Whether the server of a stream has proved by TLS who it is: only then may it send us elsewhere."""
        return machine.secure and self.ssl_context is not None and verifies(self.ssl_context)


class Wire:
    """A connection, and the stream on it."""

    def __init__(self, transport: ByteStream, machine: ClientStream, max_stanza_bytes: int) -> None:
        self.transport = transport
        self.machine = machine
        self._parser = StreamParser(
            text_between=False,
            max_stanza_bytes=max_stanza_bytes,
            max_tag_bytes=max_stanza_bytes,
            max_depth=1000,
            max_attributes=1024,
            max_namespaces=1024,
        )
        self.early: list[Event] = []
        """What came in one read with the end of the login."""

    @property
    def jid(self) -> JID:
        """The full JID that the server has bound."""
        assert self.machine.jid is not None
        return self.machine.jid

    async def receive(self) -> list[Event]:
        """What the shell has to do after the next read, in order. Raises as the transport.

        Raises LinkError if the server has sent something behind an element after which a new stream, or TLS, begins.
        """
        parser = self._parser
        events: list[Event] = []
        parsed: list[StreamOpen | Stanza | StreamClose | XmlError | ExiError] = []
        try:
            parsed += parser.feed(await self.transport.receive(RECEIVE_BYTES))
            parser.feed(b"")  # an error that came behind the events
        except (XmlError, ExiError) as error:
            parsed.append(error)
        for index, event in enumerate(parsed):
            news = self.machine.receive(event)
            events += news
            more = index + 1 < len(parsed) or parser.pending_bytes or (self.exi is not None and self.exi.pending)
            if more and any(isinstance(e, (StartTls, StartExi, RestartStream)) for e in news):
                raise LinkError("the server sent more than it may at this point")
        return events

    async def flush(self) -> None:
        """Send what the machine has queued. Raises as the transport."""
        if data := self.machine.data_to_send():
            await self.transport.send(data)

    def restart(self) -> None:
        """A new stream begins on the connection."""
        self._parser.reset()
        if self.exi is not None:
            self.exi.restart()

    @property
    def exi(self) -> ExiStream | None:
        """The stream as EXI; None if it is XML."""
        return self.transport.stream if isinstance(self.transport, ExiTransport) else None

    async def secure(self, domain: str, context: ssl.SSLContext) -> TLSStream:
        """Go on under TLS, which is returned. Raises LinkError."""
        if isinstance(self.transport, ExiTransport):
            over_tls = await secure(self.transport.below, domain, context)
            self.transport = ExiTransport(over_tls, self.transport.stream)
        else:
            self.transport = over_tls = await secure(self.transport, domain, context)
        return over_tls


async def establish(
    login: Login,
    *,
    resource: str | None = None,
    address: str | None = None,
    resume: tuple[JID, sm.Resume] | None = None,
) -> Wire:
    """A new stream, logged in and bound; the one place where streams of clients begin.

    `resource`: to ask for. `address`: where a server has sent us, instead of where `login` says; the certificate must be that of
    the JID's domain all the same. `resume`: what stream to go on with, if the server still can (XEP-0198). Raises LinkError, AuthError, StreamError, StanzaError (no resource).
    """
    await login.prepare()
    account = login.account if resource is None else login.account.bare.with_resource(resource)
    quick, redirects = True, 0
    while redirects <= REDIRECTS:
        transport, target = await reach(
            await _targets(login, address), account.domain, login.ssl_context, login.resolver
        )
        known = await anyio.to_thread.run_sync(login.memory.get, account.bare)
        machine = _machine(login, account, transport, target, known, resume)
        if target.exi:
            assert login.proposals is not None
            setup = login.proposals.quick if quick else None
            quick = setup is not None
            setup = setup or login.proposals.default()
            stream = ExiStream(Kind.INITIATING, setup, max_bytes=login.max_stanza_bytes)
            transport = ExiTransport(transport, stream)
        wire = Wire(transport, machine, login.max_stanza_bytes)
        try:
            try:
                await _negotiate(wire, login)
            finally:  # a token that was refused is not tried again, and one that was used is counted
                if machine.known != known:
                    await _remember(login, account, machine.known)
        except BaseException as error:
            await abandon(wire.transport)
            if not isinstance(error, XiotError):
                raise
            if (
                quick and wire.exi is not None and wire.exi.refused
            ):  # it does not know our schemas, but the default ones
                quick = False
                continue
            address = login.redirected(error, wire.machine)
            if address is None:
                raise
            redirects += 1
        else:
            return wire
    raise LinkError("the server sends us from one place to another")


async def _targets(login: Login, address: str | None) -> list[Target]:
    direct = login.tls == "direct"
    exi = login.encoding != "xml" and login.exi_address is not None and address is None
    address = address or (login.exi_address if exi else login.address)
    if address is None:
        domain, resolver = login.account.domain, login.resolver
        first = await discover_exi(domain, resolver) if login.encoding != "xml" and not direct else []
        return first + await discover(domain, resolver, starttls=not direct, direct_tls=login.tls != "off")
    try:
        host, port = parse_address(address, CLIENT_TLS_PORT if direct else CLIENT_PORT)
    except ValueError as error:
        raise LinkError(str(error)) from error  # the server's fault: `connect` has looked at its own
    return [Target(host, port, direct, exi=exi)]


async def _remember(login: Login, account: JID, known: Known) -> None:
    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(login.memory.put, account.bare, known)
        except OSError as error:  # a full disk keeps no device from its server
            log.warning("what the login of %s taught cannot be kept: %s", account.bare, error)


def _machine(
    login: Login,
    account: JID,
    transport: ByteStream,
    target: Target,
    known: Known,
    resume: tuple[JID, sm.Resume] | None,
) -> ClientStream:
    found: Mapping[str, bytes] = bindings(transport) if isinstance(transport, TLSStream) else {}
    return ClientStream(
        account,
        tls="required" if login.tls == "direct" else login.tls,
        secure=target.direct_tls,
        bindings=found,
        plain_without_tls=login.plain_without_tls,
        known=known if known.client else replace(known, client=str(uuid4())),
        external=login.addresses,
        tokens=True,
        resume=resume,
        durable=login.durable,
        compress=() if target.exi or login.proposals is None else login.proposals.requests,
        uploads={} if login.proposals is None else login.proposals.uploads,
    )


async def _negotiate(wire: Wire, login: Login) -> None:
    machine = wire.machine
    events: list[Event] = []
    while True:
        if not events:
            try:
                await wire.flush()
                events = await wire.receive()
            except LOST:
                raise LinkError("the server closed the connection during login") from None
            continue
        match events.pop(0):
            case StartTls(domain):
                assert login.ssl_context is not None
                events += machine.tls_started(bindings(await wire.secure(domain, login.ssl_context)))
            case StartExi():
                assert machine.agreed is not None
                assert login.proposals is not None
                making = partial(login.proposals.setup, machine.agreed, machine.agreed_id)
                try:
                    setup = await anyio.to_thread.run_sync(making)
                except (ValueError, ImportError) as error:
                    raise LinkError(f"the server agreed to schemas that do not compile: {error}") from None
                stream = ExiStream(Kind.BOUND, setup, max_bytes=login.max_stanza_bytes)
                wire.transport = ExiTransport(wire.transport, stream)
            case RestartStream():
                wire.restart()
            case NeedPassword():
                events += machine.provide_password(_needed(login.password))
            case NeedSaltedPassword(mechanism, salt, iterations):
                salted = await anyio.to_thread.run_sync(
                    scram.salted_password, mechanism, _needed(login.password), salt, iterations
                )
                events += machine.provide_salted_password(salted)
            case Ready():
                wire.early = events
                return
            case Closed(error):
                with suppress(*LOST):  # why it ended says more than that it is gone
                    await wire.flush()
                raise error if error is not None else LinkError("the server closed the stream during login")
            case Authenticated():
                pass


def _needed(password: str | None) -> str:
    if password is None:
        raise AuthError("not-authorized", "a password is needed")
    return password
