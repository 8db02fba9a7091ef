# SPDX-License-Identifier: Apache-2.0
"""Stream management, as both ends write and read it (XEP-0198). What is counted and kept by whom is theirs.

``<r/>`` and ``<a/>`` of a server's links are dealt with in the core (`xiot.core.Link.enable_sm`).
"""

from __future__ import annotations

from dataclasses import dataclass

from xiot.core import Element
from xiot.stanzas import NS_ERRORS

NS = "urn:xmpp:sm:3"
NS_DURABLE = "urn:xiot:durable:0"
DURABLE = f"{{{NS_DURABLE}}}durable"
"""An attribute of ``<enable/>``, and of the ``<enabled/>`` that grants it: what is acknowledged is on disk, and the session survives a crash."""

COUNTS = 1 << 32
"""Counters start again at 0 behind this (section 4)."""

LONGEST_ID = 1024


@dataclass(frozen=True, slots=True)
class Enable:
    """``<enable/>``: the client wants stanzas acknowledged from now on (section 3)."""

    resume: bool = False
    max_s: int | None = None
    """How long it would like to be waited for."""
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Enabled:
    """``<enabled/>``, the server's answer."""

    id: str | None = None
    """What to resume by; None: the stream cannot be resumed."""
    max_s: int | None = None
    """How long it can be resumed after the connection is lost."""
    location: str | None = None
    """Where the server would like the client to come back: ``host:port``."""
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """``<resume/>`` and its answer ``<resumed/>`` (section 5)."""

    id: str
    h: int
    """Stanzas of the other end that were dealt with here."""


@dataclass(frozen=True, slots=True)
class Failed:
    """``<failed/>``: the answer to ``<enable/>`` or ``<resume/>``."""

    condition: str
    h: int | None = None
    """What the server had dealt with, if it still knows."""


def feature() -> Element:
    """Return what a server shows among its features after login."""
    return Element(f"{{{NS}}}sm")


def offered(features: Element) -> bool:
    """Return whether ``<stream:features/>`` shows it."""
    return features.find(f"{{{NS}}}sm") is not None


def render(nonza: Enable | Enabled | Resume | Failed, *, answer: bool = False) -> bytes:
    """Return `nonza` as octets; see `build`."""
    return build(nonza, answer=answer).tobytes()


def build(nonza: Enable | Enabled | Resume | Failed, *, answer: bool = False) -> Element:
    """Return `nonza` as an element; with `answer` a `Resume` is ``<resumed/>``."""
    match nonza:
        case Enable(resume, max_s, durable):
            attrib = {"resume": _written(resume), "max": max_s, DURABLE: _written(durable)}
            return _build("enable", attrib)
        case Enabled(id, max_s, location, durable):
            attrib = {"id": id, "resume": _written(id is not None), "max": max_s, "location": location}
            return _build("enabled", attrib | {DURABLE: _written(durable)})
        case Resume(id, h):
            return _build("resumed" if answer else "resume", {"previd": id, "h": h})
        case Failed(condition, h):
            return _build("failed", {"h": h}, Element(f"{{{NS_ERRORS}}}{condition}"))


def request() -> bytes:
    """Return ``<r/>``."""
    return f"<r xmlns='{NS}'/>".encode()


def acknowledgement(h: int) -> bytes:
    """Return ``<a/>`` for `h` stanzas dealt with."""
    return f"<a xmlns='{NS}' h='{h}'/>".encode()


def parse(element: Element) -> Enable | Enabled | Resume | Failed | None:
    """Read an element of this namespace; None if it is none of these. Raises ValueError if something in it is not as it must be."""
    match element.name:
        case "enable":
            resume, durable = (_boolean(element.get(name)) for name in ("resume", DURABLE))
            return Enable(resume, _number(element.get("max")), durable)
        case "enabled":
            resumable = _boolean(element.get("resume"))
            id = element.get("id") if resumable else None
            durable = _boolean(element.get(DURABLE)) and bool(id)
            return Enabled(id or None, _number(element.get("max")), element.get("location"), durable)
        case "resume" | "resumed":
            id, h = element.get("previd"), _number(element.get("h"))
            if not id or len(id) > LONGEST_ID or h is None:
                raise ValueError(f"<{element.name}/> needs previd and h")
            return Resume(id, h)
        case "failed":
            conditions = [child.name for child in element if child.ns == NS_ERRORS]
            return Failed(conditions[0] if conditions else "undefined-condition", _number(element.get("h")))
        case _:
            return None


def parse_count(element: Element) -> int:
    """Return `h` of ``<a/>``. Raises ValueError."""
    h = _number(element.get("h"))
    if h is None:
        raise ValueError("<a/> needs h")
    return h


def handled_count_too_high(h: int, sent: int) -> Element:
    """Return the condition to go with a stream error: `h` acknowledged of `sent` (section 4)."""
    return _build("handled-count-too-high", {"h": h, "send-count": sent})


def _build(name: str, attrib: dict[str, str | int | None], *children: Element) -> Element:
    written = {key: str(value) for key, value in attrib.items() if value is not None}
    return Element(f"{{{NS}}}{name}", written, None, *children)


def _written(value: bool) -> str | None:
    return "true" if value else None


def _boolean(text: str | None) -> bool:
    return text in ("true", "1")


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < COUNTS):
        raise ValueError("not a count")
    return int(text)
