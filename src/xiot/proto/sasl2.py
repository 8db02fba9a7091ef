# SPDX-License-Identifier: Apache-2.0
"""The second SASL profile, both ends: its elements, and features that are negotiated within it (XEP-0388).

The mechanisms are those of `sasl`. What a client wants besides its login travels in ``<authenticate/>`` and is done, in
this order, once the login is proved and before ``<success/>`` says so: the `Inline` features (a resumption comes first,
and makes all else needless), then the resource, with the `Inline` features that belong to it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xiot.core import JID, Element, JidError
from xiot.errors import AuthError
from xiot.proto import bind2, fast, sasl, scram
from xiot.proto.events import LoginFailed

NS = "urn:xmpp:sasl:2"

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class UserAgent:
    """One installation of a client (section 2.3); told to the server alone."""

    id: str | None
    """A UUID, random and stable."""
    software: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """``<authenticate/>``, without what is for the mechanism."""

    user_agent: UserAgent
    bind: bind2.Request | None = None
    fast: fast.Request | None = None
    token_for: str | None = None
    """The mechanism for which a FAST token is wished."""
    inline: tuple[Element, ...] = ()
    """All else."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What an `Inline` feature returns that brought an earlier session back: no resource is bound any more."""

    jid: JID
    """Full, of that session."""
    element: Element
    """To be sent within ``<success/>``."""
    then: Callable[[], None] | None = None
    """To be called when ``<success/>`` is queued: only now may anything else be sent."""


Answer = Element | Resumed | None


@dataclass(frozen=True, slots=True)
class Inline:
    """A feature that clients may ask for within their login, or within Bind 2.

    In `HostPolicy.inline`, `offer` is the element to be listed; in `HostPolicy.bind_inline` it is the name of the
    feature. `answer` is called with the shell's session and the client's element once the login is proved (in Bind 2:
    once the resource is bound), and returns what is to be sent within ``<success/>`` (or ``<bound/>``). It may be a
    coroutine function, but not in Bind 2, where all is done at once.
    """

    ns: str
    """Of the client's element."""
    offer: Element | str
    answer: Callable[[Any, Element], Answer | Awaitable[Answer]]


def answers(
    features: Iterable[Inline], session: Any, wishes: Sequence[Element]
) -> Iterator[Answer | Awaitable[Answer]]:
    """Yield what `features` answer to the `wishes` of a client, in the order of the features."""
    for feature in features:
        for wish in wishes:
            if wish.ns == feature.ns:
                yield feature.answer(session, wish)


# The server's side.


def offer(mechanisms: Iterable[str], inline: Iterable[Element]) -> Element:
    """Return the stream feature (section 2.1)."""
    return Element(
        f"{{{NS}}}authentication",
        None,
        None,
        *(Element(f"{{{NS}}}mechanism", None, name) for name in mechanisms),
        Element(f"{{{NS}}}inline", None, None, *inline),
    )


def parse_request(element: Element) -> Request:
    """Read ``<authenticate/>``. Raises AuthError (``malformed-request``)."""
    agent, tokens = UserAgent(None), element.find(f"{{{fast.NS}}}request-token")
    if (child := element.find(f"{{{NS}}}user-agent")) is not None:
        id = child.get("id")
        if id is not None and not _ID.fullmatch(id.lower()):
            raise AuthError("malformed-request", "the id of a user agent is a UUID")
        texts = (child.findtext(f"{{{NS}}}{name}") for name in ("software", "device"))
        agent = UserAgent(None if id is None else id.lower(), *texts)
    by_token, bind = element.find(f"{{{fast.NS}}}fast"), element.find(f"{{{bind2.NS}}}bind")
    return Request(
        agent,
        None if bind is None else bind2.parse_request(bind),
        None if by_token is None else fast.parse_request(by_token),
        None if tokens is None else tokens.get("mechanism", ""),
        tuple(child for child in element if child.ns not in (NS, fast.NS, bind2.NS)),
    )


def start(server: sasl.SaslServer, element: Element, request: Request) -> sasl.ServerStep:
    """Begin the login that ``<authenticate/>`` asks for."""
    mechanism, initial = element.get("mechanism", ""), element.find(f"{{{NS}}}initial-response")
    try:
        data = None if initial is None else _decode(initial)
    except ValueError:
        return server.fail("incorrect-encoding")
    if request.fast is None:
        return server.start(mechanism, data)
    return server.start_by_token(mechanism, data, request.user_agent.id, request.fast)


def receive(server: sasl.SaslServer, element: Element) -> sasl.ServerStep:
    """Feed ``<response/>`` or ``<abort/>`` to `server`."""
    if element.name == "abort":
        return server.fail("aborted")
    try:
        return server.respond(_decode(element))
    except ValueError:
        return server.fail("incorrect-encoding")


def render(step: sasl.ServerStep) -> bytes:
    """Return the element for a challenge or a failure; b"" for all else: success waits for what comes inline."""
    if isinstance(step, sasl.Challenge):
        return Element(f"{{{NS}}}challenge", None, _encode(step.data)).tobytes()
    if isinstance(step, LoginFailed):
        failure = Element(f"{{{NS}}}failure", None, None, Element(f"{{{sasl.NS}}}{step.condition}"))
        if step.text is not None:
            failure.append(Element(f"{{{NS}}}text", None, step.text))
        return failure.tobytes()
    return b""


def render_success(data: bytes | None, jid: JID, results: Iterable[Element]) -> bytes:
    """Return ``<success/>`` (section 2.6.1)."""
    extra = [] if data is None else [Element(f"{{{NS}}}additional-data", None, _encode(data))]
    name = Element(f"{{{NS}}}authorization-identifier", None, str(jid))
    return Element(f"{{{NS}}}success", None, None, *extra, name, *results).tobytes()


# The client's side.


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers."""

    mechanisms: tuple[str, ...]
    tokens: tuple[str, ...]
    """Mechanisms of FAST."""
    bind: tuple[str, ...] | None
    """Features of Bind 2; None without Bind 2."""
    inline: frozenset[str]
    """Namespaces of all that can be asked for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``<success/>`` says."""

    jid: JID
    """Bare, or full if a resource is bound."""
    data: bytes | None
    bound: tuple[Element, ...] | None
    """What is in ``<bound/>``; None if nothing was bound."""
    results: tuple[Element, ...]
    """What other features answered."""


def parse_offer(element: Element | None) -> Offer | None:
    """Read the stream feature."""
    if element is None:
        return None
    inline = element.find(f"{{{NS}}}inline")
    return Offer(
        tuple(child.text or "" for child in element if child.name == "mechanism" and child.ns == NS),
        tuple(fast.parse_feature(inline)),
        bind2.parse_feature(inline),
        frozenset() if inline is None else frozenset(child.ns for child in inline),
    )


def render_request(step: sasl.Response, agent: UserAgent, wishes: Iterable[Element]) -> bytes:
    """Return ``<authenticate/>``."""
    texts = {"software": agent.software, "device": agent.device}
    about = (Element(f"{{{NS}}}{name}", None, text) for name, text in texts.items() if text)
    return Element(
        f"{{{NS}}}authenticate",
        {"mechanism": step.mechanism or ""},
        None,
        Element(f"{{{NS}}}initial-response", None, _encode(step.data)),
        Element(f"{{{NS}}}user-agent", None if agent.id is None else {"id": agent.id}, None, *about),
        *wishes,
    ).tobytes()


def render_response(step: sasl.Response) -> bytes:
    """Return ``<response/>``."""
    return Element(f"{{{NS}}}response", None, _encode(step.data)).tobytes()


def decode(element: Element) -> bytes:
    """Return the octets of a challenge. Raises AuthError."""
    try:
        return _decode(element)
    except ValueError:
        raise AuthError("incorrect-encoding") from None


def parse_success(element: Element) -> Outcome:
    """Read ``<success/>``. Raises AuthError if it makes no sense."""
    data = element.find(f"{{{NS}}}additional-data")
    bound = element.find(f"{{{bind2.NS}}}bound")
    try:
        jid = JID(element.findtext(f"{{{NS}}}authorization-identifier", ""))
    except JidError:
        raise AuthError("malformed-request", "the server does not say who we are") from None
    return Outcome(
        jid,
        None if data is None else decode(data),
        None if bound is None else tuple(bound),
        tuple(child for child in element if child.ns not in (NS, bind2.NS)),
    )


def parse_failure(element: Element) -> AuthError:
    """Return the error that ``<failure/>`` tells of (section 2.6.2)."""
    error = sasl.parse_failure(element)
    return AuthError(error.condition, element.findtext(f"{{{NS}}}text"))


def parse_continue(element: Element) -> AuthError:
    """Return the error that ``<continue/>`` is for us, who know no tasks (section 2.6.3)."""
    tasks = element.find(f"{{{NS}}}tasks")
    names = [] if tasks is None else [child.text or "" for child in tasks]
    return AuthError("aborted", f"the server wants more than the login: {', '.join(names)}")


def _encode(data: bytes) -> str | None:
    return b64encode(data).decode() or None


def _decode(element: Element) -> bytes:
    if len(element):
        raise ValueError("elements where base64 should be")
    return scram.decode_base64(element.text or "")
