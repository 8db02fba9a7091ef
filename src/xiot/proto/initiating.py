# SPDX-License-Identifier: Apache-2.0
"""The initiating entity of a client-to-server stream: how a client gets from a connection to a bound resource."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from xiot.core import JID, Element, Stanza, StreamOpen
from xiot.errors import AuthError, LinkError, StanzaError, StreamError
from xiot.proto import bind, features, framing, sasl
from xiot.proto.events import Authenticated, Event, NonzaReceived, Ready, StanzaReceived, StartTls
from xiot.proto.stream import Phase, Stream


class ClientStream(Stream):
    """The client's end of one stream. Its header is queued from the start."""

    def __init__(
        self,
        account: JID,
        *,
        tls: features.Tls = "required",
        secure: bool = False,
        bindings: Mapping[str, bytes] | None = None,
        mechanisms: Sequence[str] = sasl.MECHANISMS,
        plain_without_tls: bool = False,
        lang: str = "en",
    ) -> None:
        """Log in to `account`, and ask for its resource if it has one. An account without localpart is ANONYMOUS.

        `tls` says whether STARTTLS must, may or shall not be used; `secure`: the stream began in TLS (XEP-0368), with
        `bindings` as in `tls_started`. `mechanisms` are those we accept, best first.
        """
        super().__init__(secure=secure, bindings=bindings)
        self.features: features.Features | None = None
        """What the server offered last."""
        self._account = account
        self._tls = tls
        self._mechanisms = mechanisms if account.local is not None else ("ANONYMOUS",)
        self._plain_without_tls = plain_without_tls
        self._lang = lang
        self._tls_asked = False
        self._sasl: sasl.SaslClient | None = None
        self._bind_id = ""
        self._open()

    def provide_password(self, password: str) -> list[Event]:
        """Answer `NeedPassword`. Raises ValueError on a password that RFC 8265 forbids."""
        return self._answer(lambda client: client.provide_password(password))

    def provide_salted_password(self, salted: bytes) -> list[Event]:
        """Answer `NeedSaltedPassword`."""
        return self._answer(lambda client: client.provide_salted_password(salted))

    def _answer(self, resume: Callable[[sasl.SaslClient], sasl.ClientStep]) -> list[Event]:
        if self._sasl is None:
            raise RuntimeError("nothing was asked")
        step = resume(self._sasl)
        return self._on_sasl_step(step) if self.phase is Phase.NEGOTIATING else []

    @property
    def _asking(self) -> bool:
        return self._sasl is not None and self._sasl.asking

    def _open(self) -> None:
        self._opened = True
        # Section 4.7.1: who we are is not for everybody on the way to read.
        sender = str(self._account.bare) if self.secure and self._account.local is not None else None
        self._out += framing.open_stream(self.content_ns, from_=sender, to=self._account.domain, lang=self._lang)

    def _restart(self) -> list[Event]:
        events = super()._restart()
        self._tls_asked = False
        self._open()
        return events

    def _on_open(self, header: StreamOpen) -> list[Event]:
        self._check_header(header)
        if not framing.supports_version(header.version):
            raise StreamError("unsupported-version")
        self.phase = Phase.NEGOTIATING if self.jid is None else Phase.BINDING
        return []

    def _on_nonza_or_stanza(self, stanza: Stanza) -> list[Event]:
        if self.phase is Phase.READY:
            return [StanzaReceived(stanza) if self._is_stanza(stanza) else NonzaReceived(stanza)]
        try:
            if (stanza.ns, stanza.name) == (framing.NS, "features"):
                return self._on_features(stanza.element)
            if self._tls_asked and stanza.ns == features.NS_TLS:
                return self._on_tls_answer(stanza)
            if self._sasl is not None and stanza.ns == sasl.NS:
                return self._on_sasl(self._sasl, stanza.element)
            if self._bind_id and self._is_stanza(stanza) and stanza.id == self._bind_id:
                return self._on_bound(stanza)
        except (AuthError, LinkError, StanzaError) as error:
            return self._end(error)
        raise StreamError("unsupported-stanza-type")

    def _on_features(self, element: Element) -> list[Event]:
        if self._tls_asked or self._sasl is not None or self._bind_id:
            raise StreamError("policy-violation", "features in the middle of a negotiation")
        offer = self.features = features.parse(element)
        if self.phase is Phase.BINDING:
            return self._ask_bind(offer)
        if not self.secure:
            if offer.starttls and self._tls != "off":
                self._tls_asked = True
                self._out += features.TLS_START
                return []
            if self._tls == "required":  # or somebody on the way cut the offer out (CVE-2016-10027)
                raise LinkError("TLS is required, but the server does not offer it")
            if offer.tls_required:
                raise LinkError("the server requires TLS")
        return self._ask_login(offer)

    def _ask_login(self, offer: features.Features) -> list[Event]:
        mechanism, binding = sasl.choose(
            offer.mechanisms,
            self._mechanisms,
            secure=self.secure,
            plain_without_tls=self._plain_without_tls,
            bindings=self._bindings,
            binding_types=offer.binding_types,
        )
        self._sasl = sasl.SaslClient(mechanism, self._account.local, binding=binding)
        return self._on_sasl_step(self._sasl.start())

    def _ask_bind(self, offer: features.Features) -> list[Event]:
        if not offer.bind:
            raise LinkError("the server does not offer resource binding")
        self._bind_id = secrets.token_urlsafe(12)
        self.send(bind.request(self._bind_id, self._account.resource))
        return []

    def _on_tls_answer(self, stanza: Stanza) -> list[Event]:
        if stanza.name != "proceed":
            raise LinkError("the server refuses TLS")
        self.phase = Phase.TLS
        return [StartTls(self._account.domain)]

    def _on_sasl(self, client: sasl.SaslClient, nonza: Element) -> list[Event]:
        if nonza.name == "failure":
            raise sasl.parse_failure(nonza)
        try:
            data = sasl.decode(nonza)
        except ValueError:
            raise AuthError("incorrect-encoding") from None
        if nonza.name == "challenge":
            return self._on_sasl_step(client.challenge(data or b""))
        if nonza.name != "success":
            raise StreamError("unsupported-stanza-type")
        client.success(data)
        self._sasl = None
        self.jid = self._account.bare
        return [Authenticated(self.jid, client.mechanism), *self._restart()]

    def _on_sasl_step(self, step: sasl.ClientStep) -> list[Event]:
        if not isinstance(step, sasl.Response):
            return [step]
        self._out += sasl.render_response(step)
        return []

    def _on_bound(self, stanza: Stanza) -> list[Event]:
        self.jid = bind.parse_result(stanza.element)
        self.phase = Phase.READY
        return [Ready(self.jid)]
