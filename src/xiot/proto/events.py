# SPDX-License-Identifier: Apache-2.0
"""What the stream machines tell the shell that drives them.

Events named ``Need...`` and ``Check...`` are questions: the shell finds the answer (a look-up, PBKDF2, a free resource)
and gives it by the method named in the docstring; until then it feeds the machine nothing more. All others are news.

Those that each login has are not frozen, which would make them take five times as long; nobody changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xiot.core import JID, Element, Stanza
from xiot.errors import XiotError

if TYPE_CHECKING:
    from xiot.proto import fast, sasl2


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send what is queued, then upgrade the transport and call ``tls_started`` (RFC 6120 section 5.4.3.3).

    If anything came behind the element that led here (another event, pending octets, an error that the parser has yet
    to raise), call ``close`` instead: it would be taken for something from inside TLS. Likewise if the handshake fails.
    """

    domain: str
    """Of the server: to choose the certificate, or to verify it against."""


@dataclass(slots=True)
class RestartStream:
    """A new stream begins (RFC 6120 section 4.3.3): go on with a fresh parser."""


@dataclass(slots=True)
class NeedExi:
    """Server: the client negotiates EXI (XEP-0322); answer by ``exi_answered``."""

    request: Element


@dataclass(slots=True)
class StartExi:
    """Send what is queued, then go on in EXI as it was agreed on; a new stream begins. As with `StartTls`, nothing may be behind."""


@dataclass(slots=True)
class NeedKeys:
    """Server: look up the SCRAM keys of a user; answer by ``provide_keys(keys)``, None if there is no such account."""

    username: str
    """Prepared localpart."""
    mechanism: str
    """Such as ``SCRAM-SHA-256``; never with ``-PLUS``, whose keys are the same."""


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Server: compare a password (SASL PLAIN), by `scram.check_password`; answer by ``password_checked(ok)``.

    Where there is no such account, compare with `scram.fake_keys`, so that the answer takes as long.
    """

    username: str
    """Prepared localpart."""
    password: str = field(repr=False)
    """As sent, not prepared."""


@dataclass(frozen=True, slots=True)
class CheckAccount:
    """Server: a certificate names this account; answer by ``account_checked(exists)``."""

    username: str
    """Prepared localpart."""


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Server: check a FAST token in one transaction; answer by ``token_checked(reply)``, None if it is not good."""

    username: str
    """Prepared localpart."""
    mechanism: str
    client: str
    """Id of the user agent."""
    proof: bytes = field(repr=False)
    """`fast.initiator` of the token, if it is right."""
    binding: bytes
    how: fast.Request


@dataclass(frozen=True, slots=True)
class NeedSession:
    """Server: the login is proved; do what comes with it, then answer by ``established(jid)`` (XEP-0388 section 2.6.1).

    Before the answer nothing may be written to the client.
    """

    request: sasl2.Request
    mechanism: str


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """Server: ``<failure/>`` is queued; the shell may delay it. For the log, and for budgets of failures."""

    username: str | None
    """Prepared localpart; None if the exchange did not come that far."""
    condition: str
    text: str | None


@dataclass(frozen=True, slots=True)
class NeedPassword:
    """Client: answer by ``provide_password(password)``."""


@dataclass(frozen=True, slots=True)
class NeedSaltedPassword:
    """Client: run `scram.salted_password` off the loop; answer by ``provide_salted_password(result)``.

    The result may be kept for the next login: it stays the same while mechanism, salt and iterations do.
    """

    mechanism: str
    """Such as ``SCRAM-SHA-256``; never with ``-PLUS``."""
    salt: bytes
    iterations: int


@dataclass(slots=True)
class Authenticated:
    """The login succeeded. On the client's side the server has proved itself too, where the mechanism can."""

    jid: JID
    """Bare. On the client's side a guess until `Ready` (ANONYMOUS: the domain alone)."""
    mechanism: str


@dataclass(slots=True)
class NeedBind:
    """Server: find a resource; answer by ``bound(jid)`` or ``bind_refused(error)`` (RFC 6120 section 7)."""

    resource: str | None
    """Prepared; None if the client leaves the choice to the server."""


@dataclass(slots=True)
class Ready:
    """Stanzas may flow."""

    jid: JID
    """Full."""


@dataclass(slots=True)
class StanzaReceived:
    """A message, presence or iq. Server: of a bound client, or by ``HostPolicy.iq_before_login``."""

    stanza: Stanza


@dataclass(frozen=True, slots=True)
class Reply:
    """Server: send this stanza, the answer to one that the machine has dealt with by itself."""

    stanza: Element


@dataclass(frozen=True, slots=True)
class NonzaReceived:
    """A first-level element that is no stanza, after login (stream management, client state).

    Server: only of the namespaces in ``HostPolicy.nonzas``.
    """

    stanza: Stanza


@dataclass(slots=True)
class Closed:
    """The stream is over: send what is queued, then close the transport. The last event."""

    error: XiotError | None
    """None after an orderly close; StreamError (ours or the peer's), AuthError, or LinkError."""


Event = (
    StartTls
    | RestartStream
    | NeedExi
    | StartExi
    | NeedKeys
    | CheckPassword
    | CheckAccount
    | CheckToken
    | NeedSession
    | LoginFailed
    | NeedPassword
    | NeedSaltedPassword
    | Authenticated
    | NeedBind
    | Ready
    | StanzaReceived
    | NonzaReceived
    | Reply
    | Closed
)
