# SPDX-License-Identifier: Apache-2.0
"""The initiating entity of a client-to-server stream: how a client gets from a connection to a bound resource."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from xiot.core import JID, Element, Stanza, StreamOpen
from xiot.errors import AuthError, LinkError, StanzaError, StreamError
from xiot.proto import bind, bind2, exi, fast, features, framing, sasl, sasl2, scram, sm
from xiot.proto.events import Authenticated, Event, NonzaReceived, Ready, StanzaReceived, StartExi, StartTls
from xiot.proto.known import NOTHING, Known
from xiot.proto.stream import Phase, Stream

TAG = "xiot"
"""What a resource that the server chooses begins with (XEP-0386 section 3.2)."""

MOST_SETUPS = 6
"""Setups of EXI that are proposed on a stream: a server that always wants another one gets XML."""

Wishes = Callable[[sasl2.Offer], Iterable[Element]]
"""Returns what to ask for within the login, of what the server offers."""


def _nothing(_: sasl2.Offer) -> Iterable[Element]:
    return ()


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
        known: Known = NOTHING,
        external: Sequence[JID] | None = None,
        tokens: bool = False,
        wishes: Wishes = _nothing,
        bind_wishes: Wishes = _nothing,
        resume: tuple[JID, sm.Resume] | None = None,
        durable: bool = False,
        compress: Sequence[exi.Request] = (),
        uploads: Mapping[exi.Schema, bytes] = MappingProxyType({}),
        lang: str = "en",
    ) -> None:
        """Log in to `account`, and ask for its resource if it has one. An account without localpart is ANONYMOUS.

        `tls` says whether STARTTLS must, may or shall not be used; `secure`: the stream began in TLS (XEP-0368), with
        `bindings` as in `tls_started`. `mechanisms` are those we accept, best first. `known`: what earlier logins
        taught. `external`: the addresses in our side's certificate for TLS, None without one; EXTERNAL then comes first. `tokens`: ask for one for the
        next login (XEP-0484). `wishes` and `bind_wishes`: what else to ask for within SASL2 and within Bind 2.
        `resume`: the full JID of an earlier stream, and what to resume it by (XEP-0198); if that fails a resource is bound.
        `durable`: ask for a durable link, where stream management is asked for in the login. `compress`: go on in EXI before the
        binding, by the first of these setups that the server agrees to (XEP-0322). `uploads`: schemas to send if the server misses them.
        """
        super().__init__(secure=secure, bindings=bindings)
        self.features: features.Features | None = None
        """What the server offered last."""
        self.known = known
        """To be kept for the next login, even if this one fails."""
        self.resumed: int | None = None
        """How many of our stanzas the server has dealt with, if it goes on with the earlier stream."""
        self.managed = False
        """Stream management was asked for in the login, with what came of it in `outcome`."""
        self._resume = resume
        self._resuming = False
        self._durable = durable
        self.outcome: sasl2.Outcome | None = None
        """What came with the login, if that was by SASL2."""
        self._account = account
        self._tls = tls
        self._mechanisms = tuple(mechanisms) if account.local is not None else ("ANONYMOUS",)
        if external is not None and account.local is not None:
            self._mechanisms = ("EXTERNAL", *self._mechanisms)
        # XEP-0178 section 2, 10: only a certificate of several addresses needs to be told which is meant
        self._authzid = None if external == [account.bare] else str(account.bare)
        self._tokens = tokens
        self._wishes = wishes
        self._bind_wishes = bind_wishes
        self._asked: sasl2.Offer | None = None  # the login under way is by SASL2
        self._token_for: str | None = None  # the mechanism of the token that may come
        self._plain_without_tls = plain_without_tls
        self._lang = lang
        self._tls_asked = False
        self._sasl: sasl.SaslClient | None = None
        self._bind_id = ""
        self._compress = list(compress)
        self._uploads = uploads
        self._setups_left = MOST_SETUPS
        self._exi: exi.Request | None = None  # proposed, and not answered
        self.agreed: exi.Request | None = None
        self.agreed_id: str | None = None
        """How the server calls the configuration that was agreed on."""
        """The setup that the server has agreed to."""
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
        self.out += framing.open_stream(self.content_ns, from_=sender, to=self._account.domain, lang=self._lang)

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
        if (
            (stanza.ns, stanza.name) == (framing.NS, "features")
            and self.outcome is not None
            and not (self._bind_id or self._exi)
        ):
            return self._on_features_after_login(stanza.element)
        if self.phase is Phase.READY:
            return [StanzaReceived(stanza) if self._is_stanza(stanza) else NonzaReceived(stanza)]
        try:
            if (stanza.ns, stanza.name) == (framing.NS, "features"):
                return self._on_features(stanza.element)
            if self._tls_asked and stanza.ns == features.NS_TLS:
                return self._on_tls_answer(stanza)
            if self._sasl is not None and stanza.ns == (sasl.NS if self._asked is None else sasl2.NS):
                return self._on_sasl(self._sasl, stanza.element)
            if self._exi is not None and stanza.ns in (exi.NS, exi.NS_COMPRESS):
                return self._on_exi(self._exi, stanza.element)
            if self._resuming and stanza.ns == sm.NS:
                return self._on_resume_answer(stanza.element)
            if self._bind_id and self._is_stanza(stanza) and stanza.id == self._bind_id:
                return self._on_bound(stanza)
        except (AuthError, LinkError, StanzaError) as error:
            return self._end(error)
        raise StreamError("unsupported-stanza-type")

    def _on_features(self, element: Element) -> list[Event]:
        if self._tls_asked or self._sasl is not None or self._bind_id or self._exi:
            raise StreamError("policy-violation", "features in the middle of a negotiation")
        offer = self.features = features.parse(element)
        if self.phase is Phase.BINDING:
            return self._ask_bind(offer)
        if not self.secure:
            if offer.starttls and self._tls != "off":
                self._tls_asked = True
                self.out += features.TLS_START
                return []
            if self._tls == "required":  # or somebody on the way cut the offer out (CVE-2016-10027)
                raise LinkError("TLS is required, but the server does not offer it")
            if offer.tls_required:
                raise LinkError("the server requires TLS")
        return self._ask_login(offer)

    def _ask_login(self, offer: features.Features) -> list[Event]:
        self.known.check_tls(self.secure)
        self._asked = offer.sasl2_offer if self.secure else None
        if self._asked is not None and (token := self._usable_token(self._asked)) is not None:
            self._sasl = self._by_token(token)
        else:
            self._sasl = self._by_mechanism(offer, offer.mechanisms if self._asked is None else self._asked.mechanisms)
        return self._on_sasl_step(self._sasl.start())

    def _usable_token(self, offer: sasl2.Offer) -> fast.Token | None:
        token = self.known.token
        if token is None or self._account.local is None or token.count >= fast.MAX_COUNT:
            return None
        return token if token.mechanism in offer.tokens and token.mechanism in fast.usable(self._bindings) else None

    def _by_token(self, token: fast.Token) -> sasl.SaslClient:
        token = replace(token, count=token.count + 1)
        self.known = replace(self.known, token=token)
        binding = fast.BINDINGS[token.mechanism]
        bound = None if binding is None else (binding, self._bindings[binding])
        return sasl.SaslClient(token.mechanism, self._account.local, binding=bound, token=token)

    def _by_mechanism(self, offer: features.Features, offered: Sequence[str]) -> sasl.SaslClient:
        offers_plus = any(name.endswith("-PLUS") for name in offered)
        if self._asked is not None and self._bindings and offers_plus and not offer.binding_types:
            raise AuthError(
                "downgrade", "the server binds to the channel, but does not say how"
            )  # XEP-0440 section 3, 4
        mechanism, binding = sasl.choose(
            offered,
            self._mechanisms,
            secure=self.secure,
            plain_without_tls=self._plain_without_tls,
            bindings=self._bindings,
            binding_types=offer.binding_types,
        )
        self.known.check(mechanism, self._mechanisms)
        scrams = mechanism.removesuffix("-PLUS") in scram.HASHES
        return sasl.SaslClient(
            mechanism,
            self._account.local,
            binding=binding,
            offered=scram.offer_hash(mechanism, offered, offer.binding_types) if scrams else None,
            must_prove=offers_plus and bool(self._bindings and offer.binding_types) and not mechanism.endswith("-PLUS"),
            authzid=self._authzid,
        )

    def _ask_exi(self) -> list[Event]:
        self._exi = self._compress.pop(0)
        self._setups_left -= 1
        self.out += exi.build_request(self._exi).tobytes()
        return []

    def _on_exi(self, request: exi.Request, answer: Element) -> list[Event]:
        assert self.features is not None
        if answer.tag == f"{{{exi.NS_COMPRESS}}}compressed" and self.agreed is not None:
            self._exi = None
            return [StartExi(), *self._restart()]
        self._exi = None
        if answer.tag == f"{{{exi.NS}}}setupResponse" and self.agreed is None:
            try:
                told = exi.parse_answer(answer)
            except ValueError:
                raise StreamError("bad-format", "this is no answer to <setup/>") from None
            if told.agreement:
                self._exi, self.agreed, self.agreed_id = request, request, told.request.configuration
                self.out += exi.COMPRESS
                return []
            wanted = [self._uploads[schema] for schema in told.missing if schema in self._uploads]
            if wanted:  # once: if they are still missing then, it is as well without
                self._uploads = {}
                self.out += b"".join(map(exi.build_upload, wanted))
                self._compress.insert(0, request)
            else:
                self._compress[:0] = exi.next_requests(request, told)
        else:  # a failure: it is as well without
            self._compress.clear()
            self.agreed = None
        return self._ask_bind(self.features)

    def _ask_bind(self, offer: features.Features) -> list[Event]:
        if self._compress and self._setups_left and self.agreed is None and self.secure and exi.offered(offer.element):
            return self._ask_exi()
        if self._resume is not None and sm.offered(offer.element):
            self._resuming = True
            self.out += sm.render(self._resume[1])
            return []
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
        if self._asked is not None:
            return self._on_sasl2(client, nonza)
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
        self._proved(client)
        self.jid = self._account.bare
        return [Authenticated(self.jid, client.mechanism), *self._restart()]

    def _proved(self, client: sasl.SaslClient) -> None:
        self._sasl = None
        self.known = self.known.after(client.mechanism, secure=self.secure)

    def _on_sasl2(self, client: sasl.SaslClient, nonza: Element) -> list[Event]:
        if nonza.name == "failure":
            return self._on_sasl2_failure(client, sasl2.parse_failure(nonza))
        if nonza.name == "continue":
            raise sasl2.parse_continue(nonza)
        if nonza.name == "challenge":
            return self._on_sasl_step(client.challenge(sasl2.decode(nonza)))
        if nonza.name != "success":
            raise StreamError("unsupported-stanza-type")
        self.outcome = outcome = sasl2.parse_success(nonza)
        client.success(outcome.data)
        self._proved(client)
        self._keep_token(nonza)
        self.jid = outcome.jid
        authenticated = Authenticated(outcome.jid.bare, client.mechanism)
        answer = next((element for element in outcome.results if element.ns == sm.NS), None)
        if answer is not None and self._resume is not None:
            self._read_resume_answer(answer)
            if self.resumed is not None:
                self.phase = Phase.READY
                self.jid = self._resume[0]
                return [authenticated, Ready(self.jid)]
        if outcome.jid.is_bare:
            self.phase = Phase.BINDING
            return [authenticated]
        self.phase = Phase.READY
        return [authenticated, Ready(outcome.jid)]

    def _on_resume_answer(self, element: Element) -> list[Event]:
        self._resuming = False
        self._read_resume_answer(element)
        if self.resumed is None or self._resume is None:
            self._resume = None
            assert self.features is not None
            return self._ask_bind(self.features)
        self.jid = self._resume[0]
        self.phase = Phase.READY
        return [Ready(self.jid)]

    def _read_resume_answer(self, element: Element) -> None:
        try:
            answer = sm.parse(element)
        except ValueError:
            raise StreamError("bad-format", "this is no answer to <resume/>") from None
        if isinstance(answer, sm.Resume):
            self.resumed = answer.h

    def _on_sasl2_failure(self, client: sasl.SaslClient, error: AuthError) -> list[Event]:
        by_token = client.mechanism in fast.BINDINGS
        if not by_token or error.condition == "temporary-auth-failure":
            raise error
        assert self.features is not None
        self.known = replace(self.known, token=None)  # XEP-0484 section 4.1: and then as if there had been none
        return self._ask_login(self.features)

    def _keep_token(self, success: Element) -> None:
        element = success.find(f"{{{fast.NS}}}token")
        token = None
        if element is not None and self._token_for is not None:
            token = fast.parse_token(element, self._token_for)
        if token is not None:
            self.known = replace(self.known, token=token)

    def _on_features_after_login(self, element: Element) -> list[Event]:
        """They follow a success of SASL2; there is something to do if no resource was bound within it."""
        self.features = features.parse(element)
        if self.phase is not Phase.BINDING:
            return []
        try:
            return self._ask_bind(self.features)
        except LinkError as error:
            return self._end(error)

    def _on_sasl_step(self, step: sasl.ClientStep) -> list[Event]:
        if not isinstance(step, sasl.Response):
            return [step]
        if self._asked is None:
            self.out += sasl.render_response(step)
        elif step.mechanism is None:
            self.out += sasl2.render_response(step)
        else:
            self.out += self._authenticate(step, self._asked)
        return []

    def _authenticate(self, step: sasl.Response, offer: sasl2.Offer) -> bytes:
        wishes = []
        self._token_for = None
        if (
            offer.bind is not None and self._account.resource is None and not self._compress
        ):  # else we want to choose it ourselves
            self.managed = sm.NS in offer.bind
            managed = [sm.build(sm.Enable(resume=True, durable=self._durable))] if self.managed else []
            wishes.append(bind2.render_request(TAG, [*managed, *self._bind_wishes(offer)]))
        token = self.known.token
        if token is not None and token.mechanism == step.mechanism:
            wishes.append(fast.render_request(token))
            self._token_for = token.mechanism
        elif (
            self._tokens
            and self.known.client
            and (mechanism := next((m for m in fast.usable(self._bindings) if m in offer.tokens), None))
        ):
            wishes.append(fast.render_wish(mechanism))
            self._token_for = mechanism
        if self._resume is not None and sm.NS in offer.inline and not self._compress:
            wishes.append(sm.build(self._resume[1]))
        agent = sasl2.UserAgent(self.known.client or None, TAG)
        return sasl2.render_request(step, agent, [*wishes, *self._wishes(offer)])

    def _on_bound(self, stanza: Stanza) -> list[Event]:
        self.jid = bind.parse_result(stanza.element)
        self.phase = Phase.READY
        return [Ready(self.jid)]
