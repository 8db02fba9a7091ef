# SPDX-License-Identifier: Apache-2.0
"""The receiving entity of a client-to-server stream: what a server lets a client do, and when."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from xiot.core import JID, Element, JidError, Stanza, StreamOpen
from xiot.errors import AuthError, LinkError, StanzaError, StreamError
from xiot.proto import bind, exi, features, framing, sasl, sasl2
from xiot.proto.events import (
    Authenticated,
    Event,
    LoginFailed,
    NeedBind,
    NeedExi,
    NeedSession,
    NonzaReceived,
    Ready,
    Reply,
    StanzaReceived,
    StartExi,
    StartTls,
)
from xiot.proto.scram import ScramKeys
from xiot.proto.stream import BINDING, NEGOTIATING, OPENING, READY, TLS, Stream
from xiot.stanzas import error_to, reply_to, same_jid


class ServerStream(Stream):
    """The server's end of one stream."""

    __slots__ = (  # a server has as many of them as clients
        "_bind_request",
        "_exi_agreed",
        "_exi_asked",
        "_failures",
        "_hosts",
        "_lang",
        "_peer",
        "_policy",
        "_proved",
        "_request",
        "_sasl",
        "certified",
        "host",
        "over_exi",
    )

    def __init__(
        self,
        hosts: Callable[[str], features.HostPolicy | None],
        *,
        secure: bool = False,
        bindings: Mapping[str, bytes] | None = None,
        certified: Sequence[JID] = (),
        lang: str = "en",
    ) -> None:
        """`hosts` returns the policy of a prepared domain, None if it is not ours.

        `secure`: the stream began in TLS (XEP-0368); `bindings` as in `tls_started`, `certified` as the attribute.
        """
        super().__init__(secure=secure, bindings=bindings)
        self.certified = certified
        """The accounts that the client's certificate, which was verified, names; to be set before ``tls_started``."""
        self.host = ""
        """The prepared domain that the client asked for; once known, it never changes."""
        self._hosts = hosts
        self._policy: features.HostPolicy  # of the host; there as soon as a header was accepted
        self._sasl: sasl.SaslServer | None = None
        self._request: sasl2.Request | None = None  # of the login under way, if that is by SASL2
        self._proved: sasl.Success | None = None  # a login by SASL2 to which `established` is to come
        self._failures = 0
        self._lang = lang
        self._peer: JID | None = None  # the bare JID in the client's header
        self._bind_request: Stanza | None = None
        self.over_exi = False
        """Whether the stream is in EXI; to be set before its header is given."""
        self._exi_asked = False
        self._exi_agreed = False

    @property
    def lang(self) -> str:
        """The language of the client's stream."""
        return self._lang

    @property
    def tokens(self) -> list[str]:
        """Mechanisms for which a client may get a FAST token."""
        return [] if self._sasl is None else self._sasl.tokens

    def provide_keys(self, keys: ScramKeys | None) -> list[Event]:
        """Answer `NeedKeys`; None if there is no such account: the login then fails as with a wrong password."""
        if self._sasl is None or not self._sasl.asking:
            raise RuntimeError("nothing was asked")
        step = self._sasl.provide_keys(keys)
        return self._on_sasl_step(step) if self.phase is NEGOTIATING else []

    def password_checked(self, ok: bool) -> list[Event]:
        """Answer `CheckPassword`."""
        return self._answer(lambda server: server.password_checked(ok))

    def account_checked(self, exists: bool) -> list[Event]:
        """Answer `CheckAccount`."""
        return self._answer(lambda server: server.account_checked(exists))

    def token_checked(self, reply: bytes | None, condition: str = "not-authorized") -> list[Event]:
        """Answer `CheckToken` by `fast.responder`, or by None and a condition of RFC 6120 section 6.5."""
        return self._answer(lambda server: server.token_checked(reply, condition))

    def established(self, jid: JID, results: Iterable[Element] = (), *, resumed: bool = False) -> list[Event]:
        """Answer `NeedSession`: `jid` is full if a resource was bound; `results` go into ``<success/>``.

        `resumed`: an earlier session goes on, so no features follow.
        """
        if self._proved is None:
            raise RuntimeError("NeedSession was not asked")
        proved, self._proved, self._request, self._sasl = self._proved, None, None, None
        if self.phase is not NEGOTIATING:
            return []
        self.out += sasl2.render_success(proved.data, jid, results)
        if not resumed:
            self.out += self._policy.features_after_login(bound=not jid.is_bare, compressible=self._compressible)
        self.jid = jid
        authenticated = Authenticated(jid.bare, proved.mechanism)
        if jid.is_bare:
            self.phase = BINDING
            return [authenticated]
        self.phase = READY
        return [authenticated, Ready(jid)]

    def exi_answered(self, answer: Element | None, *, agreed: bool = False) -> list[Event]:
        """Answer `NeedExi`, by nothing if there is nothing to say; `agreed`: from now on ``<compress/>``, or within EXI a new header, makes the stream go on as agreed."""
        if not self._exi_asked:
            raise RuntimeError("NeedExi was not asked")
        self._exi_asked = False
        if self.phase is BINDING:
            self._exi_agreed = agreed
            self.out += b"" if answer is None else answer.tobytes(self.content_ns)
        return []

    def refuse_login(self, condition: str, text: str | None = None) -> list[Event]:
        """Answer any question of a login by a condition of RFC 6120 section 6.5, such as ``temporary-auth-failure``."""
        if self._proved is not None and self._sasl is not None:
            self._proved = self.jid = None
            step = self._sasl.fail(condition, text)
            return self._on_sasl_step(step) if self.phase is NEGOTIATING else []
        return self._answer(lambda server: server.fail(condition, text))

    def bound(self, jid: JID) -> list[Event]:
        """Answer `NeedBind` by the full JID that the client gets."""
        request = self._take_bind_request()
        if request is None:
            return []
        self.jid = jid
        self.phase = READY
        self.send(bind.result(request, jid))
        return [Ready(jid)]

    def bind_refused(self, error: StanzaError) -> list[Event]:
        """Answer `NeedBind` by an error (RFC 6120 section 7.6.2); the client may ask again."""
        request = self._take_bind_request()
        if request is not None:
            self._send_error(request, error)
        return []

    def resumed(self, jid: JID) -> None:
        """Go on as the stream of the full JID `jid`, which the client has resumed instead of binding (XEP-0198 section 5)."""
        if self.phase is not BINDING:
            raise RuntimeError("no stream that could be another's")
        self.jid = jid
        self.phase = READY

    def _answer(self, resume: Callable[[sasl.SaslServer], sasl.ServerStep]) -> list[Event]:
        if self._sasl is None or not self._sasl.asking:
            raise RuntimeError("nothing was asked")
        step = resume(self._sasl)
        return self._on_sasl_step(step) if self.phase is NEGOTIATING else []

    def _take_bind_request(self) -> Stanza | None:
        """Return the request to answer; None if the stream was closed meanwhile."""
        if self._bind_request is None:
            raise RuntimeError("NeedBind was not asked")
        request, self._bind_request = self._bind_request, None
        return request if self.phase is BINDING else None

    def _send_error(self, stanza: Stanza, error: StanzaError) -> None:
        answer = error_to(stanza, error)
        if answer is not None:
            self.send(answer)

    @property
    def _asking(self) -> bool:
        if self._bind_request is not None or self._proved is not None or self._exi_asked:
            return True
        return self._sasl is not None and self._sasl.asking

    def _open(self) -> None:
        self._opened = True
        to = None if self._peer is None else str(self._peer)
        # Section 4.9.1.2: "from" is empty as long as no host of ours was asked for.
        self.out += framing.open_stream(
            self.content_ns, id=os.urandom(16).hex(), from_=self.host, to=to, lang=self._lang
        )

    @property
    def _compressible(self) -> bool:
        return self.secure and not self.over_exi

    def _on_open(self, header: StreamOpen) -> list[Event]:
        if self._exi_agreed and self.over_exi and self.phase is BINDING:  # XEP-0322 section 3.4: now in another setup
            self.phase, self._exi_agreed = OPENING, False
        self._check_header(header)
        self._lang = framing.language(header.lang, self._lang)
        self._check_addresses(header)
        if not framing.supports_version(header.version):
            raise StreamError("unsupported-version")
        self._open()
        if self.jid is not None:
            self.phase = BINDING
            self.out += self._policy.features_after_login(compressible=self._compressible)
            return []
        self.phase = NEGOTIATING
        required = self._policy.starttls == "required"
        self._sasl = sasl.SaslServer(
            self._policy.sasl,
            self.host,
            secure=self.secure,
            tls_required=required,
            bindings=self._bindings,
            certified=self.certified,
        )
        self._request = None
        self.out += self._policy.features_before_login(self._sasl, secure=self.secure)
        return []

    def _check_addresses(self, header: StreamOpen) -> None:
        """Sections 4.7.1 and 4.7.2; and what was said before a restart still holds after it (CVE-2018-10847)."""
        if not header.to:
            raise StreamError("improper-addressing", "the header has no 'to'")
        try:
            to = JID(header.to)
            peer = None if header.from_ is None else JID(header.from_).bare
        except JidError:
            raise StreamError("improper-addressing") from None
        if to.local is not None or to.resource is not None:
            raise StreamError("improper-addressing", "'to' is not a domain")
        policy = self._hosts(to.domain)
        if policy is None:
            raise StreamError("host-unknown")
        if not self.host:
            self.host, self._policy = sys.intern(to.domain), policy  # one string for all streams of a host
        elif to.domain != self.host:
            raise StreamError("not-authorized", "the stream began with another host")
        if self.jid is not None and peer not in (None, self.jid):
            raise StreamError("invalid-from")
        self._peer = peer

    def _on_nonza_or_stanza(self, stanza: Stanza) -> list[Event]:
        if self.phase is NEGOTIATING:
            return self._on_negotiating(stanza)
        if stanza.ns in self._policy.nonzas:
            return [NonzaReceived(stanza)]
        assert self.jid is not None  # from login on
        return self._on_binding(stanza, self.jid) if self.phase is BINDING else self._on_ready(stanza, self.jid)

    def _on_negotiating(self, stanza: Stanza) -> list[Event]:
        assert self._sasl is not None
        if self._request is not None and self._sasl.busy:
            return self._on_sasl2_response(self._sasl, stanza)
        if (stanza.ns, stanza.name) == (features.NS_TLS, "starttls"):
            return self._on_starttls()
        if stanza.ns == sasl.NS:
            return self._on_sasl_step(sasl.receive(self._sasl, stanza.element))
        if (stanza.ns, stanza.name) == (sasl2.NS, "authenticate"):
            return self._on_sasl2_request(self._sasl, stanza.element)
        if self._may_ask_before_login(stanza):
            return [StanzaReceived(stanza)]
        raise StreamError("not-authorized")

    def _may_ask_before_login(self, stanza: Stanza) -> bool:
        if not self.secure and self._policy.starttls == "required":
            return False
        return (
            self._is_stanza(stanza)
            and stanza.name == "iq"
            and stanza.payload is not None
            and stanza.payload[0] in self._policy.iq_before_login
        )

    def _on_starttls(self) -> list[Event]:
        if self.secure or self._policy.starttls == "off":
            return self._end(LinkError("the peer asked for TLS that was not offered"), features.TLS_FAILURE)
        self.out += features.TLS_PROCEED
        self.phase = TLS
        return [StartTls(self.host)]

    def _on_sasl2_request(self, login: sasl.SaslServer, element: Element) -> list[Event]:
        if not (self.secure and self._policy.sasl2_offered) or login.busy:
            raise StreamError("not-authorized")
        self._request = sasl2.Request(sasl2.UserAgent(None))
        try:
            self._request = sasl2.parse_request(element)
        except AuthError as error:
            return self._on_sasl_step(login.fail(error.condition, error.text))
        return self._on_sasl_step(sasl2.start(login, element, self._request))

    def _on_sasl2_response(self, login: sasl.SaslServer, stanza: Stanza) -> list[Event]:
        """XEP-0388 section 2.4: nothing else may come in between."""
        if (stanza.ns, stanza.name) not in ((sasl2.NS, "response"), (sasl2.NS, "abort")):
            raise StreamError("policy-violation", "a login is under way")
        return self._on_sasl_step(sasl2.receive(login, stanza.element))

    def _on_sasl_step(self, step: sasl.ServerStep) -> list[Event]:
        if isinstance(step, sasl.Success) and self._request is not None:
            if self._peer in (None, step.jid):
                self.jid, self._proved = step.jid, step
                return [NeedSession(self._request, step.mechanism)]
            step = LoginFailed(step.jid.local, "invalid-authzid", "the stream began with another address")
        self.out += sasl.render(step) if self._request is None else sasl2.render(step)
        if isinstance(step, sasl.Success):
            self.jid = step.jid
            self._sasl = None
            return [Authenticated(step.jid, step.mechanism), *self._restart()]
        if isinstance(step, LoginFailed):
            self._request = None
            self._failures += 1
            if self._failures < self._policy.sasl.max_failures:
                return [step]
            return [step, *self.close(StreamError("policy-violation", "too many failed logins"))]
        return [] if isinstance(step, sasl.Challenge) else [step]

    def _on_exi(self, stanza: Stanza) -> list[Event]:
        if stanza.ns == exi.NS:
            self._exi_asked = True
            return [NeedExi(stanza.element)]
        if stanza.name != "compress":
            raise StreamError("unsupported-stanza-type")
        if not any(method.text == exi.METHOD for method in stanza.element):
            self.out += exi.refusal("unsupported-method")
            return []
        if not self._exi_agreed or self.over_exi:  # section 3.2.1
            self.out += exi.refusal("setup-failed")
            return []
        self._exi_agreed = False
        self.out += exi.COMPRESSED
        return [StartExi(), *self._restart()]

    def _on_binding(self, stanza: Stanza, jid: JID) -> list[Event]:
        if stanza.ns in (exi.NS, exi.NS_COMPRESS) and self._policy.exi and (self.secure or self.over_exi):
            return self._on_exi(stanza)
        if not (self._is_stanza(stanza) and bind.is_request(stanza)):
            raise StreamError("not-authorized")
        try:
            resource = bind.parse_request(stanza, jid)
        except StanzaError as error:
            self._send_error(stanza, error)
            return []
        self._bind_request = stanza
        return [NeedBind(resource)]

    def _on_ready(self, stanza: Stanza, jid: JID) -> list[Event]:
        if not self._is_stanza(stanza):
            raise StreamError("unsupported-stanza-type")
        if stanza.from_ is not None and not _is_own(stanza.from_, jid):
            raise StreamError("invalid-from")
        if bind.is_session_request(stanza) and (stanza.to is None or same_jid(stanza.to, JID(self.host))):
            return [Reply(reply_to(stanza))]
        if bind.is_request(stanza):
            answer = error_to(stanza, StanzaError("not-allowed", text="this stream has its resource"))
            return [] if answer is None else [Reply(answer)]
        return [StanzaReceived(stanza)]


def _is_own(address: str, jid: JID) -> bool:
    """Section 8.1.2.1: a client sends as itself, by its full or its bare JID."""
    return address == str(jid) or same_jid(address, jid) or same_jid(address, jid.bare)
