# SPDX-License-Identifier: Apache-2.0
"""SASL for streams, both ends: SCRAM, PLAIN, ANONYMOUS, EXTERNAL, HT (RFC 5802, RFC 4616, RFC 4505, RFC 4422).

Theory of operation: a mechanism is a generator. It yields what has to happen next (octets to send, a question to the
shell), is resumed with the answer, returns when the login is proved, and raises `AuthError` when it is not.
`SaslServer` and `SaslClient` drive one and know no XML; the functions at the end put their steps into the elements of
RFC 6120 section 6; those of the other profile, SASL2, are in `sasl2`.
"""

from __future__ import annotations

import secrets
from binascii import b2a_base64
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xiot.core import JID, Element, JidError
from xiot.errors import AuthError
from xiot.proto import fast, framing, scram
from xiot.proto.events import (
    CheckAccount,
    CheckPassword,
    CheckToken,
    LoginFailed,
    NeedKeys,
    NeedPassword,
    NeedSaltedPassword,
)

NS = "urn:ietf:params:xml:ns:xmpp-sasl"

MECHANISMS = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
"""Default of both ends, best first."""

CONDITIONS = frozenset(
    """aborted account-disabled credentials-expired encryption-required incorrect-encoding invalid-authzid
    invalid-mechanism malformed-request mechanism-too-weak not-authorized temporary-auth-failure""".split()  # noqa: SIM905
)
"""RFC 6120 section 6.5."""

MAX_TRACE_CHARS = 255
"""RFC 4505 section 2."""


class Offer:
    """What one kind of connection can use: worked out once, since each client is told."""

    __slots__ = ("_hashes", "binding_types", "mechanisms", "tokens")

    def __init__(self, mechanisms: list[str], bindings: Iterable[str], tokens: list[str]) -> None:
        self.mechanisms = mechanisms
        """Best first."""
        self.binding_types = list(bindings) if any(name.endswith("-PLUS") for name in mechanisms) else None
        """Types of channel binding to be told (XEP-0440); None if no mechanism uses one."""
        self.tokens = tokens
        """Mechanisms that take a FAST token, best first."""
        self._hashes: dict[str, str] = {}

    def hash(self, mechanism: str) -> str:
        """The hash of it that a login by `mechanism` proves (`scram.offer_hash`)."""
        found = self._hashes.get(mechanism)
        if found is None:
            found = self._hashes[mechanism] = scram.offer_hash(mechanism, self.mechanisms, self.binding_types)
        return found


NOTHING = Offer([], (), [])
"""What can be used before the TLS that is required."""


@dataclass(frozen=True, slots=True)
class SaslPolicy:
    """How one host of a server lets its users in."""

    fake_salt_secret: bytes = field(repr=False)
    """Makes the salts of users that do not exist; to be kept over restarts (`scram.fake_keys`)."""
    mechanisms: tuple[str, ...] = MECHANISMS
    plain_without_tls: bool = False
    iterations: int = 10_000
    """PBKDF2 rounds that new accounts get."""
    tokens: bool = False
    """Whether clients may log in by FAST tokens (XEP-0484)."""
    max_failures: int = 5
    """On one stream, then it is closed (RFC 6120 section 6.4.5 recommends 2 to 5)."""
    _offers: dict[tuple[bool, bool, tuple[str, ...]], Offer] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def offer(self, *, secure: bool, bindings: Iterable[str], external: bool) -> Offer:
        """Return what works on such a connection (see `offered`), the same object each time."""
        key = secure, external, tuple(bindings)
        found = self._offers.get(key)
        if found is None:
            mechanisms = self.offered(secure=secure, bindings=key[2], external=external)
            tokens = fast.usable(key[2]) if self.tokens and secure else []
            found = self._offers[key] = Offer(mechanisms, key[2], tokens)
        return found

    def offered(self, *, secure: bool, bindings: Collection[str] = (), external: bool = False) -> list[str]:
        """Return the mechanisms that work on a connection with TLS (`secure`) or without, and these bindings.

        `external`: the client showed a certificate that names an account of ours.
        """
        return [
            name
            for name in self.mechanisms
            if name in _SERVER_EXCHANGES
            and (bindings or not name.endswith("-PLUS"))
            and (secure or self.plain_without_tls or name != "PLAIN")
            and (external or name != "EXTERNAL")
        ]


@dataclass(slots=True)
class Challenge:
    """Server: send this and wait for the response."""

    data: bytes


@dataclass(slots=True)
class Success:
    """Server: the login is proved."""

    jid: JID
    """Bare."""
    mechanism: str
    data: bytes | None
    """Additional data with success (RFC 6120 section 6.3.10)."""


@dataclass(frozen=True, slots=True)
class Response:
    """Client: send this."""

    data: bytes
    mechanism: str | None = None
    """Set in the initial response, which begins the login."""


Question = NeedKeys | CheckPassword | CheckAccount | CheckToken
"""What a server's mechanism may ask the shell."""
ServerStep = Challenge | Question | Success | LoginFailed
ClientStep = Response | NeedPassword | NeedSaltedPassword
_ServerExchange = Generator[Challenge | Question, Any, tuple[JID, bytes | None]]
_ClientExchange = Generator[ClientStep, Any, None]


class SaslServer:
    """The server's side of the logins tried on one connection, one after the other."""

    def __init__(
        self,
        policy: SaslPolicy,
        domain: str,
        *,
        secure: bool,
        tls_required: bool,
        bindings: Mapping[str, bytes],
        certified: Sequence[JID] = (),
    ) -> None:
        """`secure` tells whether TLS is on; `bindings` maps types of channel binding to their data.

        `certified` are the accounts that the client's certificate, which was verified, names.
        """
        self._policy = policy
        self._domain = domain
        self._secure = secure
        self._bindings = bindings
        self._certified = [jid for jid in certified if jid.domain == domain] if certified else []
        self._offer = NOTHING
        if secure or not tls_required:
            self._offer = policy.offer(secure=secure, bindings=bindings, external=secure and bool(self._certified))
        self._exchange: _ServerExchange | None = None
        self._awaited: type | None = None
        self._mechanism = ""
        self._username: str | None = None

    @property
    def offered(self) -> list[str]:
        """Names of the mechanisms that can be used now, best first."""
        return self._offer.mechanisms

    @property
    def binding_types(self) -> list[str] | None:
        """Types of channel binding to be told (XEP-0440); None if no mechanism uses one."""
        return self._offer.binding_types

    @property
    def tokens(self) -> list[str]:
        """Names of the mechanisms that take a FAST token, best first."""
        return self._offer.tokens

    @property
    def busy(self) -> bool:
        """Whether a login is under way."""
        return self._exchange is not None

    @property
    def asking(self) -> bool:
        """Whether the last step was a question to the shell."""
        return self._awaited not in (None, Challenge)

    def start_by_token(
        self, mechanism: str, initial: bytes | None, client: str | None, how: fast.Request
    ) -> ServerStep:
        """Begin a login by a FAST token of the user agent whose id is `client` (XEP-0484 section 3.4)."""
        self._reset()
        if mechanism not in self.tokens:
            return self._failed("invalid-mechanism")
        if client is None or not initial:
            return self._failed("malformed-request")
        self._mechanism = mechanism
        self._exchange = self._token(initial, client, how)
        return self._resume(None)

    def start(self, mechanism: str, initial: bytes | None) -> ServerStep:
        """Begin a login; `initial` is the initial response, None if there was none (b"" is an empty one)."""
        self._reset()
        if mechanism not in self.offered:
            only_tls_lacks = not self._secure and mechanism in self._policy.offered(secure=True)
            return self._failed("encryption-required" if only_tls_lacks else "invalid-mechanism")
        self._mechanism = mechanism
        self._exchange = _SERVER_EXCHANGES[mechanism](self, initial)
        return self._resume(None)

    def respond(self, data: bytes) -> ServerStep:
        """Take the client's response to a challenge."""
        return self._resume(data) if self._awaited is Challenge else self.fail("malformed-request")

    def provide_keys(self, keys: scram.ScramKeys | None) -> ServerStep:
        """Answer `NeedKeys`; None if there is no such user."""
        return self._answer(NeedKeys, keys)

    def password_checked(self, ok: bool) -> ServerStep:
        """Answer `CheckPassword`."""
        return self._answer(CheckPassword, ok)

    def account_checked(self, exists: bool) -> ServerStep:
        """Answer `CheckAccount`."""
        return self._answer(CheckAccount, exists)

    def token_checked(self, reply: bytes | None, condition: str = "not-authorized") -> ServerStep:
        """Answer `CheckToken`: our proof, or None and why not."""
        return self._answer(CheckToken, (reply, condition))

    def fail(self, condition: str, text: str | None = None) -> LoginFailed:
        """End the login that is under way, by one of `CONDITIONS`: the client or the shell gives it up."""
        failed = self._failed(condition, text)
        self._reset()
        return failed

    def _answer(self, question: type, answer: object) -> ServerStep:
        if self._awaited is not question:
            raise RuntimeError(f"{question.__name__} was not asked")
        return self._resume(answer)

    def _resume(self, answer: object) -> ServerStep:
        assert self._exchange is not None
        try:
            step = self._exchange.send(answer)
        except StopIteration as done:
            jid, data = done.value
            self._reset()
            return Success(jid, self._mechanism, data)
        except AuthError as error:
            return self.fail(error.condition, error.text)
        self._awaited = type(step)
        return step

    def _failed(self, condition: str, text: str | None = None) -> LoginFailed:
        if condition not in CONDITIONS:
            raise ValueError(f"not a SASL error condition: {condition!r}")
        return LoginFailed(self._username, condition, text)

    def _reset(self) -> None:
        self._exchange = self._awaited = self._username = None

    def _scram(self, data: bytes | None) -> _ServerExchange:
        server = scram.ScramServer(
            self._mechanism,
            bindings=self._bindings,
            offers_plus=self._offer.binding_types is not None,
            offered=self._offer.hash(self._mechanism),
        )
        if data is None:
            data = yield Challenge(b"")
        jid = self._prepare(server.first(data or b""))
        username, mechanism = jid.local or "", self._mechanism.removesuffix("-PLUS")
        keys: scram.ScramKeys | None = yield NeedKeys(username, mechanism)
        if keys is None:  # nobody may learn that by another answer than to a wrong password
            keys = scram.fake_keys(mechanism, username, self._policy.fake_salt_secret, self._policy.iterations)
        final: bytes = yield Challenge(server.challenge(keys))
        signature = server.final(final)
        if server.authzid is None:
            return jid, signature
        return self._authorize(username, server.authzid), signature

    def _plain(self, data: bytes | None) -> _ServerExchange:
        if data is None:
            data = yield Challenge(b"")
        try:
            authzid, username, password = (data or b"").decode().split("\0")
        except ValueError:  # not UTF-8, or not three parts
            raise AuthError("malformed-request") from None
        if not username or not password:
            raise AuthError("malformed-request")
        username = self._prepare(username).local or ""
        ok: bool = yield CheckPassword(username, password)
        if not ok:
            raise AuthError("not-authorized")
        return self._authorize(username, authzid or None), None

    def _anonymous(self, data: bytes | None) -> _ServerExchange:
        # The trace is optional: clients leave it out without the "=" of an empty one, and wait for no challenge.
        yield from ()
        try:
            trace = (data or b"").decode()
        except UnicodeDecodeError:
            raise AuthError("malformed-request") from None
        if len(trace) > MAX_TRACE_CHARS:
            raise AuthError("malformed-request")
        return JID.of(secrets.token_hex(16), self._domain), None

    def _external(self, data: bytes | None) -> _ServerExchange:
        """RFC 4422 appendix A, with the names of a certificate (XEP-0178 section 2)."""
        if data is None:
            data = yield Challenge(b"")
        try:
            wanted = JID((data or b"").decode()) if data else None
        except ValueError:  # a JidError, or not UTF-8
            raise AuthError("invalid-authzid") from None
        if wanted is None and len(self._certified) > 1:
            raise AuthError("invalid-authzid", "the certificate has several addresses: say which")
        jid = self._certified[0] if wanted is None else wanted
        if jid not in self._certified:
            raise AuthError("invalid-authzid")
        assert jid.local is not None
        self._username = jid.local
        exists: bool = yield CheckAccount(jid.local)
        if not exists:
            raise AuthError("not-authorized")
        return jid, None

    def _token(self, data: bytes, client: str, how: fast.Request) -> _ServerExchange:
        name, zero, proof = data.partition(b"\0")
        try:
            username = self._prepare(name.decode()).local or ""
        except UnicodeDecodeError:
            raise AuthError("malformed-request") from None
        if not zero:
            raise AuthError("malformed-request")
        binding = fast.binding_data(self._mechanism, self._bindings)
        reply, condition = yield CheckToken(username, self._mechanism, client, proof, binding, how)
        if reply is None:
            raise AuthError(condition)
        return JID.of(username, self._domain), reply

    def _prepare(self, username: str) -> JID:
        try:
            jid = JID.of(username, self._domain)
        except JidError:
            raise AuthError("not-authorized") from None  # nobody can have that name
        self._username = jid.local
        return jid

    def _authorize(self, username: str, authzid: str | None) -> JID:
        """RFC 6120 section 6.3.8: users act for themselves alone."""
        jid = JID.of(username, self._domain)
        try:
            allowed = authzid is None or JID(authzid) == jid
        except JidError:
            allowed = False
        if not allowed:
            raise AuthError("invalid-authzid")
        return jid


_SERVER_EXCHANGES = {
    **dict.fromkeys((f"{name}{plus}" for name in scram.HASHES for plus in ("", "-PLUS")), SaslServer._scram),
    "PLAIN": SaslServer._plain,
    "ANONYMOUS": SaslServer._anonymous,
    "EXTERNAL": SaslServer._external,
}


class SaslClient:
    """The client's side of one login."""

    def __init__(
        self,
        mechanism: str,
        username: str | None,
        *,
        binding: tuple[str, bytes] | None = None,
        offered: str | None = None,
        must_prove: bool = False,
        authzid: str | None = None,
        token: fast.Token | None = None,
    ) -> None:
        """`username` may be None for ANONYMOUS alone; `binding`, `offered`, `must_prove` as in `scram.ScramClient`.

        `authzid`: for EXTERNAL, which of the certificate's addresses is meant, None if it has only one. `token`: for
        the mechanisms of FAST.
        """
        self.mechanism = mechanism
        self._awaited: type | None = None
        self._begun = False
        self._proved = False
        if mechanism == "ANONYMOUS":
            self._exchange = _client_says(b"")
        elif username is None:
            raise ValueError(f"{mechanism} needs a user name")
        elif mechanism == "PLAIN":
            self._exchange = _client_plain(username)
        elif mechanism == "EXTERNAL":
            self._exchange = _client_says((authzid or "").encode())
        elif token is not None:
            self._exchange = _client_token(token, username, b"" if binding is None else binding[1])
        else:
            client = scram.ScramClient(mechanism, username, binding=binding, offered=offered, must_prove=must_prove)
            self._exchange = _client_scram(client, mechanism)

    @property
    def asking(self) -> bool:
        """Whether the last step was a question to the shell."""
        return self._awaited in (NeedPassword, NeedSaltedPassword)

    def start(self) -> ClientStep:
        """Begin: returns the initial response, or a question."""
        return self._resume(None)

    def challenge(self, data: bytes) -> ClientStep:
        """Take the server's challenge. Raises AuthError."""
        if self._proved:
            raise AuthError("malformed-challenge", "a challenge too many")
        return self._resume(data)

    def success(self, data: bytes | None) -> None:
        """Take the server's success. Raises AuthError unless the server proved itself, where the mechanism can."""
        if not self._proved:
            self._resume(data or b"")
        if not self._proved:
            raise AuthError("bad-server-signature", "the server says success without proof")

    def provide_password(self, password: str) -> ClientStep:
        """Answer `NeedPassword`. Raises ValueError on a password that RFC 8265 forbids."""
        return self._answer(NeedPassword, scram.prepare_password(password))

    def provide_salted_password(self, salted: bytes) -> ClientStep:
        """Answer `NeedSaltedPassword`."""
        return self._answer(NeedSaltedPassword, salted)

    def _answer(self, question: type, answer: object) -> ClientStep:
        if self._awaited is not question:
            raise RuntimeError(f"{question.__name__} was not asked")
        return self._resume(answer)

    def _resume(self, answer: object) -> ClientStep:
        try:
            step = self._exchange.send(answer)
        except StopIteration:
            self._proved = True
            step = Response(b"")  # if the last message came as a challenge: RFC 4422 section 3.6
        self._awaited = type(step)
        if isinstance(step, Response) and not self._begun:
            self._begun = True
            return Response(step.data, self.mechanism)
        return step


def _client_scram(client: scram.ScramClient, mechanism: str) -> _ClientExchange:
    first: bytes = yield Response(client.first())
    salt, iterations = client.challenge(first)
    salted: bytes = yield NeedSaltedPassword(mechanism.removesuffix("-PLUS"), salt, iterations)
    final: bytes = yield Response(client.final(salted))
    client.verify(final)


def _client_plain(username: str) -> _ClientExchange:
    password: str = yield NeedPassword()
    yield Response(f"\0{username}\0{password}".encode())


def _client_says(data: bytes) -> _ClientExchange:
    yield Response(data)


def _client_token(token: fast.Token, username: str, binding: bytes) -> _ClientExchange:
    final: bytes = yield Response(f"{username}\0".encode() + fast.initiator(token.token, binding))
    if not scram.secrets_equal(final, fast.responder(token.token, binding)):
        raise AuthError("bad-server-signature", "the server does not know our token")


UNTOLD = ("tls-unique", "tls-exporter")
"""What a server that offers -PLUS and does not tell its types can be bound to (RFC 5802 section 6, RFC 9266 section 3).

ejabberd 23.01 is one; it refuses ``tls-server-end-point``.
"""


def choose(
    offered: Collection[str],
    acceptable: Sequence[str],
    *,
    secure: bool,
    plain_without_tls: bool = False,
    bindings: Mapping[str, bytes] | None = None,
    binding_types: Collection[str] | None = None,
) -> tuple[str, tuple[str, bytes] | None]:
    """Return the first of `acceptable` that the server offers and this connection allows, and what to bind it to.

    `bindings` maps our types of channel binding to their data; `binding_types` are the server's (XEP-0440), None if it
    does not tell: then they are taken for those that TLS itself has (`UNTOLD`). Raises AuthError: ``encryption-required`` if all
    that is left is PLAIN without TLS, ``invalid-mechanism`` if nothing is, ``downgrade`` if somebody has cut something out.
    """
    ours = list((bindings or {}).items())
    shared = [item for item in ours if item[0] in (UNTOLD if binding_types is None else binding_types)]
    offers_plus = any(name.endswith("-PLUS") for name in offered)
    if ours and binding_types and not offers_plus:  # XEP-0440 section 3, 5
        raise AuthError("downgrade", "the server tells how to bind to the channel, but offers no mechanism that does")
    too_open = False
    for name in acceptable:
        if name not in offered or (name.endswith("-PLUS") and not shared):
            continue
        if name == "PLAIN" and not secure and not plain_without_tls:
            too_open = True
            continue
        if name.endswith("-PLUS"):
            return name, shared[0]
        return name, ours[0] if ours and not offers_plus else None
    if too_open:
        raise AuthError("encryption-required", "the server wants the password in the clear")
    raise AuthError("invalid-mechanism", "the server offers no mechanism that we accept")


# The elements of RFC 6120 section 6.4.


def receive(server: SaslServer, nonza: Element) -> ServerStep:
    """Feed ``<auth/>``, ``<response/>`` or ``<abort/>`` to `server`."""
    if nonza.name == "abort":
        return server.fail("aborted")
    try:
        data = decode(nonza)
    except ValueError:
        return server.fail("incorrect-encoding")
    if nonza.name == "auth":
        return server.start(nonza.get("mechanism", ""), data)
    if nonza.name == "response":
        return server.respond(data or b"")
    return server.fail("malformed-request")


def render(step: ServerStep) -> bytes:
    """Return the element for a step of the server; b"" for a question to the shell."""
    if isinstance(step, Challenge):
        return _element("challenge", step.data or None)
    if isinstance(step, Success):
        return _element("success", step.data)
    if isinstance(step, LoginFailed):
        failure = Element(f"{{{NS}}}failure", None, None, Element(f"{{{NS}}}{step.condition}"))
        if step.text is not None:
            failure.append(Element(f"{{{NS}}}text", {framing.XML_LANG: "en"}, step.text))
        return failure.tobytes()
    return b""


def render_response(step: Response) -> bytes:
    """Return ``<auth/>`` or ``<response/>``."""
    if step.mechanism is None:
        return _element("response", step.data or None)
    return _element("auth", step.data, f" mechanism='{step.mechanism}'")


def decode(nonza: Element) -> bytes | None:
    """Return the octets in `nonza`: None if empty, b"" if ``=`` (RFC 6120 section 6.4.2). Raises ValueError."""
    if len(nonza):
        raise ValueError("elements where base64 should be")
    if not nonza.text:
        return None
    return b"" if nonza.text == "=" else scram.decode_base64(nonza.text)


def parse_failure(failure: Element) -> AuthError:
    """Return the error that ``<failure/>`` tells of (RFC 6120 section 6.5)."""
    conditions = [child.name for child in failure if child.ns == NS and child.name in CONDITIONS]
    return AuthError(conditions[0] if conditions else "not-authorized", failure.findtext(f"{{{NS}}}text"))


def _element(name: str, data: bytes | None, attributes: str = "") -> bytes:
    if data is None:
        return f"<{name} xmlns='{NS}'{attributes}/>".encode()
    return f"<{name} xmlns='{NS}'{attributes}>{(b2a_base64(data, newline=False) or b'=').decode()}</{name}>".encode()
