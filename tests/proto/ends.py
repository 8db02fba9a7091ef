# SPDX-License-Identifier: Apache-2.0
"""The two machines behind the real parser, driven as a shell drives them, but with bytes handed over in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xiot.core import JID, StreamParser, XmlError
from xiot.proto import ClientStream, HostPolicy, SaslPolicy, ServerStream, bind2
from xiot.proto.events import (
    CheckPassword,
    Closed,
    Event,
    NeedBind,
    NeedKeys,
    NeedPassword,
    NeedSaltedPassword,
    NeedSession,
    Reply,
    RestartStream,
    StartTls,
)
from xiot.proto.scram import check_password, derive_keys, salted_password

HEADER = (
    "<?xml version='1.0'?><stream:stream to='plant.example' version='1.0' xml:lang='en' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
PLAIN_LOGIN = f"<auth xmlns='{SASL}' mechanism='PLAIN'>AGJvaWxlcgBwZW5jaWw=</auth>"  # boiler, pencil
BIND = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"

KEYS = {name: derive_keys(name, "pencil", b"0123456789abcdef", 4096) for name in ("SCRAM-SHA-1", "SCRAM-SHA-256")}
BINDINGS = {"tls-server-end-point": b"\0digest of the certificate\xff"}


Answer = Callable[[Any, Any], list[Event]]
"""Takes the stream and its question."""

SERVER_ANSWERS: dict[type, Answer] = {
    StartTls: lambda stream, event: stream.tls_started(),
    NeedKeys: lambda stream, event: stream.provide_keys(KEYS[event.mechanism] if event.username == "boiler" else None),
    CheckPassword: lambda stream, event: stream.password_checked(
        event.username == "boiler" and check_password("SCRAM-SHA-1", event.password, KEYS["SCRAM-SHA-1"])
    ),
    Reply: lambda stream, event: stream.send(event.stanza) or [],
    NeedSession: lambda stream, event: stream.established(
        stream.jid if event.request.bind is None else stream.jid.with_resource("chosen"),
        [] if event.request.bind is None else [bind2.bound([])],
    ),
    NeedBind: lambda stream, event: stream.bound(stream.jid.with_resource(event.resource or "chosen")),
}


def policy(*, starttls: Any = "required", extra: dict[str, Any] | None = None, **sasl: Any) -> HostPolicy:
    """The policy of plant.example; without SASL2 unless `extra` says so."""
    return HostPolicy(
        SaslPolicy(b"server secret", iterations=4096, **sasl), starttls, **{"sasl2_offered": False, **(extra or {})}
    )


class End:
    """A stream, its parser, and the answers to its questions; `chunk` octets are parsed at a time, 0 is all."""

    def __init__(self, stream: ServerStream | ClientStream, answers: dict[type, Answer], chunk: int = 0) -> None:
        self.stream = stream
        self.parser = StreamParser()
        self.events: list[Event] = []
        self._answers = answers
        self._chunk = chunk

    def feed(self, data: str | bytes) -> bytes:
        """Parse `data` and let the stream have it; return what it sends."""
        data = data.encode() if isinstance(data, str) else data
        step = self._chunk or len(data) or 1
        for start in range(0, len(data), step):
            self._parse(data[start : start + step])
        self._parse(b"")  # an error is raised by the call after the one that found it
        return self.stream.data_to_send()

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        events, self.events = self.events, []
        return events

    def handle(self, events: list[Event], more: bool = False) -> None:
        """Note `events`, answer the questions among them; `more`: octets came behind what led to them."""
        for event in events:
            self.events.append(event)
            if isinstance(event, RestartStream):
                self.parser.reset()
            if isinstance(event, StartTls) and more:
                self.handle(self.stream.close())
            elif type(event) in self._answers:
                self.handle(self._answers[type(event)](self.stream, event))

    @property
    def error(self) -> Exception | None:
        """What the stream ended with."""
        closed = self.events[-1]
        assert isinstance(closed, Closed)
        return closed.error

    def _holds_octets(self) -> bool:
        try:
            return self.parser.feed(b"") != [] or self.parser.pending_bytes > 0
        except XmlError:
            return True

    def _parse(self, data: bytes) -> None:
        try:
            parsed = self.parser.feed(data)
        except XmlError as error:
            self.handle(self.stream.receive(error))
        else:
            for number, event in enumerate(parsed, 1):
                self.handle(self.stream.receive(event), more=number < len(parsed) or self._holds_octets())


def server_end(
    host: HostPolicy | None = None, *, chunk: int = 0, answers: dict[type, Answer] | None = None, **options: Any
) -> End:
    """The server of plant.example (and of other.example), where boiler's password is "pencil"; TLS is on."""
    host = host or policy()
    known = ("plant.example", "other.example")
    stream = ServerStream(lambda name: host if name in known else None, **{"secure": True, **options})
    return End(stream, SERVER_ANSWERS | (answers or {}), chunk)


def client_end(
    account: str = "boiler@plant.example",
    *,
    password: str = "pencil",
    chunk: int = 0,
    answers: dict[type, Answer] | None = None,
    **options: Any,
) -> End:
    """The client of boiler, or of `account`."""
    defaults: dict[type, Answer] = {
        StartTls: lambda stream, event: stream.tls_started(),
        NeedPassword: lambda stream, event: stream.provide_password(password),
        NeedSaltedPassword: lambda stream, event: stream.provide_salted_password(
            salted_password(event.mechanism, password, event.salt, event.iterations)
        ),
    }
    return End(ClientStream(JID(account), **options), defaults | (answers or {}), chunk)


def talk(client: End, server: End) -> bytes:
    """Carry octets to and fro until both are silent; return all that the client sent."""
    sent, to_server = b"", client.stream.data_to_send()
    while to_server:
        sent += to_server
        to_server = client.feed(server.feed(to_server))
    return sent
