# SPDX-License-Identifier: Apache-2.0
"""The exceptions of xiot: the peer's fault apart from local misuse.

Local misuse raises the built-in exceptions (``ValueError``, ``TypeError``); everything here is something that a peer, a server or the
network did. `XmlError` and `JidError` come from the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _xmppcore import Element

# RFC 6120 section 8.3.3: the type that goes with each stanza error condition.
STANZA_ERROR_TYPES: dict[str, str] = {
    "bad-request": "modify",
    "conflict": "cancel",
    "feature-not-implemented": "cancel",
    "forbidden": "auth",
    "gone": "cancel",
    "internal-server-error": "cancel",
    "item-not-found": "cancel",
    "jid-malformed": "modify",
    "not-acceptable": "modify",
    "not-allowed": "cancel",
    "not-authorized": "auth",
    "payment-required": "auth",
    "policy-violation": "modify",
    "recipient-unavailable": "wait",
    "redirect": "modify",
    "registration-required": "auth",
    "remote-server-not-found": "cancel",
    "remote-server-timeout": "wait",
    "resource-constraint": "wait",
    "service-unavailable": "cancel",
    "subscription-required": "auth",
    "undefined-condition": "cancel",
    "unexpected-request": "wait",
}

# RFC 6120 section 4.9.3.
STREAM_ERRORS = frozenset(
    [
        "bad-format",
        "bad-namespace-prefix",
        "conflict",
        "connection-timeout",
        "host-gone",
        "host-unknown",
        "improper-addressing",
        "internal-server-error",
        "invalid-from",
        "invalid-namespace",
        "invalid-xml",
        "not-authorized",
        "not-well-formed",
        "policy-violation",
        "remote-connection-failed",
        "reset",
        "resource-constraint",
        "restricted-xml",
        "see-other-host",
        "system-shutdown",
        "undefined-condition",
        "unsupported-encoding",
        "unsupported-feature",
        "unsupported-stanza-type",
        "unsupported-version",
    ]
)


class XiotError(Exception):
    """Base of what xiot raises for faults that are not the caller's."""


class StreamError(XiotError):
    """The stream ended, or has to end, with `condition` (RFC 6120 section 4.9)."""

    def __init__(self, condition: str, text: str | None = None, app: Element | None = None) -> None:
        if condition not in STREAM_ERRORS:
            raise ValueError(f"not a stream error condition: {condition!r}")
        super().__init__(condition if text is None else f"{condition}: {text}")
        self.condition = condition
        self.text = text
        self.app = app


class StanzaError(XiotError):
    """A stanza was answered, or is to be answered, with an error (RFC 6120 section 8.3).

    `type` is auth, cancel, continue, modify or wait; if None, the one that section 8.3.3 gives for `condition`.
    """

    def __init__(
        self, condition: str, type: str | None = None, text: str | None = None, app: Element | None = None
    ) -> None:
        if condition not in STANZA_ERROR_TYPES:
            raise ValueError(f"not a stanza error condition: {condition!r}")
        super().__init__(condition if text is None else f"{condition}: {text}")
        self.condition = condition
        self.type = type or STANZA_ERROR_TYPES[condition]
        self.text = text
        self.app = app


class AuthError(XiotError):
    """Login failed; `condition` is one of RFC 6120 section 6.5, or what our own checks of the server found."""

    def __init__(self, condition: str, text: str | None = None) -> None:
        super().__init__(condition if text is None else f"{condition}: {text}")
        self.condition = condition
        self.text = text


class LinkError(XiotError):
    """The connection could not be made, was lost, or was closed by the peer."""
