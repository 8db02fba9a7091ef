# SPDX-License-Identifier: Apache-2.0
"""Stream features: what a server offers in each phase, and how a client reads it (RFC 6120 section 4.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from xiot.core import Element
from xiot.proto import bind, sasl
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
    """Called with whether the client has logged in; returns further features, such as roster versioning."""
    iq_before_login: frozenset[str] = frozenset()
    """Namespaces whose iqs go to the shell before login (XEP-0077); if TLS is required, not before TLS."""
    nonzas: frozenset[str] = frozenset()
    """Namespaces of first-level elements that are no stanzas and that the shell takes after login."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a server offers on the stream that has just begun."""

    starttls: bool
    tls_required: bool
    mechanisms: tuple[str, ...]
    binding_types: tuple[str, ...] | None
    """Types of channel binding (XEP-0440); None if the server does not tell."""
    bind: bool
    element: Element
    """All of ``<stream:features/>``."""


def render(children: Iterable[bytes]) -> bytes:
    """Return ``<stream:features/>``."""
    return b"<stream:features>" + b"".join(children) + b"</stream:features>"


def before_login(
    policy: HostPolicy, mechanisms: Sequence[str], *, secure: bool, binding_types: Iterable[str]
) -> Iterable[bytes]:
    """Yield the features of a stream whose peer has not logged in."""
    required = policy.starttls == "required"
    if not secure and policy.starttls != "off":
        children = [Element(f"{{{NS_TLS}}}required")] if required else []
        yield Element(f"{{{NS_TLS}}}starttls", None, None, *children).tobytes()
    if not secure and required:
        return  # nothing else can be negotiated: section 5.3.1
    if mechanisms:
        listed = (Element(f"{{{sasl.NS}}}mechanism", None, name) for name in mechanisms)
        yield Element(f"{{{sasl.NS}}}mechanisms", None, None, *listed).tobytes()
    if any(name.endswith("-PLUS") for name in mechanisms):
        types = (Element(f"{{{NS_BINDING_TYPES}}}channel-binding", {"type": name}) for name in binding_types)
        yield Element(f"{{{NS_BINDING_TYPES}}}sasl-channel-binding", None, None, *types).tobytes()
    yield from (element.tobytes(NS_CLIENT) for element in policy.extra_features(False))


def after_login(policy: HostPolicy) -> Iterable[bytes]:
    """Yield the features of a stream whose peer has to bind a resource."""
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
        bind=element.find(f"{{{bind.NS}}}bind") is not None,
        element=element,
    )
