# SPDX-License-Identifier: Apache-2.0
"""Stream features: what a server offers in each phase, and how a client reads it (RFC 6120 section 4.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from xiot.core import Element
from xiot.proto import bind, bind2, exi, fast, sasl, sasl2
from xiot.proto.sasl import SaslServer
from xiot.stanzas import NS_CLIENT

NS_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
NS_BINDING_TYPES = "urn:xmpp:sasl-cb:0"

TLS_START = f"<starttls xmlns='{NS_TLS}'/>".encode()
TLS_PROCEED = f"<proceed xmlns='{NS_TLS}'/>".encode()
TLS_FAILURE = f"<failure xmlns='{NS_TLS}'/></stream:stream>".encode()
"""Always the end of the stream (section 5.4.2.2)."""

Tls = Literal["required", "optional", "off"]


def _none(_authenticated: bool) -> tuple[Element, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What a server's streams offer to the clients of one host."""

    sasl: sasl.SaslPolicy
    starttls: Tls = "required"
    """``required`` also holds where STARTTLS is not asked for: nobody logs in without TLS. ``off``: not offered."""
    extra_features: Callable[[bool], Iterable[Element]] = _none
    """Called with whether the client has logged in; returns further features, such as roster versioning, always the same."""
    iq_before_login: frozenset[str] = frozenset()
    """Namespaces whose iqs go to the shell before login (XEP-0077); if TLS is required, not before TLS."""
    sasl2_offered: bool = True
    """Whether the second SASL profile is offered beside the first (XEP-0388)."""
    inline: tuple[sasl2.Inline, ...] = ()
    """What clients may ask for within their login, in the order in which it is done (XEP-0388); FAST and Bind 2 aside."""
    bind_inline: tuple[sasl2.Inline, ...] = ()
    """What clients may ask for within Bind 2, in the order in which it is done (XEP-0386)."""
    exi: bool = False
    """Whether a stream under TLS may go on in EXI after the login (XEP-0322)."""
    nonzas: frozenset[str] = frozenset()
    """Namespaces of first-level elements that are no stanzas and that the shell takes after login."""
    _written: dict[object, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def features_before_login(self, login: SaslServer, *, secure: bool) -> bytes:
        """``<stream:features/>`` for a peer that has not logged in; written once for all connections of its kind."""
        key = secure, tuple(login.offered), tuple(login.binding_types or ()), tuple(login.tokens)
        found = self._written.get(key)
        if found is None:
            found = self._written[key] = render(before_login(self, login, secure=secure))
        return found

    def features_after_login(self, *, bound: bool = False, compressible: bool = False) -> bytes:
        """Those for one that has; `bound`: it need not bind a resource; `compressible`: before that, it may change to EXI."""
        key = bound, compressible
        found = self._written.get(key)
        if found is None:
            found = self._written[key] = render(after_login(self, bound=bound, compressible=compressible))
        return found


@dataclass(frozen=True, slots=True)
class Features:
    """What a server offers on the stream that has just begun."""

    starttls: bool
    tls_required: bool
    mechanisms: tuple[str, ...]
    binding_types: tuple[str, ...] | None
    """Types of channel binding (XEP-0440); None if the server does not tell."""
    sasl2_offer: sasl2.Offer | None
    """The other profile; None if it is not offered."""
    bind: bool
    element: Element
    """All of ``<stream:features/>``."""


def render(children: Iterable[bytes]) -> bytes:
    """Return ``<stream:features/>``."""
    return b"<stream:features>" + b"".join(children) + b"</stream:features>"


def before_login(policy: HostPolicy, login: sasl.SaslServer, *, secure: bool) -> Iterable[bytes]:
    """Yield the features of a stream whose peer has not logged in."""
    mechanisms = login.offered
    required = policy.starttls == "required"
    if not secure and policy.starttls != "off":
        children = [Element(f"{{{NS_TLS}}}required")] if required else []
        yield Element(f"{{{NS_TLS}}}starttls", None, None, *children).tobytes()
    if not secure and required:
        return  # nothing else can be negotiated: section 5.3.1
    if mechanisms:
        listed = (Element(f"{{{sasl.NS}}}mechanism", None, name) for name in mechanisms)
        yield Element(f"{{{sasl.NS}}}mechanisms", None, None, *listed).tobytes()
    if mechanisms and secure and policy.sasl2_offered:  # XEP-0388 section 3: under TLS alone
        yield sasl2.offer(mechanisms, _inline(policy, login)).tobytes()
    if login.binding_types is not None:
        types = (Element(f"{{{NS_BINDING_TYPES}}}channel-binding", {"type": name}) for name in login.binding_types)
        yield Element(f"{{{NS_BINDING_TYPES}}}sasl-channel-binding", None, None, *types).tobytes()
    yield from (element.tobytes(NS_CLIENT) for element in policy.extra_features(False))


def _inline(policy: HostPolicy, login: sasl.SaslServer) -> Iterable[Element]:
    yield bind2.feature(str(feature.offer) for feature in policy.bind_inline)
    if login.tokens:
        yield fast.feature(login.tokens)
    yield from (feature.offer for feature in policy.inline if isinstance(feature.offer, Element))


def after_login(policy: HostPolicy, *, bound: bool = False, compressible: bool = False) -> Iterable[bytes]:
    """Yield the features of a stream whose peer has logged in and, unless `bound`, has to bind a resource.

    compressible: before that, it may change to EXI.
    """
    if not bound:
        if compressible and policy.exi:
            yield exi.feature().tobytes()
        yield bind.FEATURE
    yield from (element.tobytes(NS_CLIENT) for element in policy.extra_features(True))


def parse(element: Element) -> Features:
    """Read ``<stream:features/>``."""
    starttls = element.find(f"{{{NS_TLS}}}starttls")
    mechanisms = element.find(f"{{{sasl.NS}}}mechanisms")
    types = element.find(f"{{{NS_BINDING_TYPES}}}sasl-channel-binding")
    return Features(
        starttls=starttls is not None,
        tls_required=starttls is not None and starttls.find(f"{{{NS_TLS}}}required") is not None,
        mechanisms=() if mechanisms is None else tuple(child.text or "" for child in mechanisms),
        binding_types=None if types is None else tuple(child.get("type", "") for child in types),
        sasl2_offer=sasl2.parse_offer(element.find(f"{{{sasl2.NS}}}authentication")),
        bind=element.find(f"{{{bind.NS}}}bind") is not None,
        element=element,
    )
