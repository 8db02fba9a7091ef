# SPDX-License-Identifier: Apache-2.0
"""Who of an account gets a message, and what becomes of it if nobody does. Sections cited are those of RFC 6121."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Show = Literal["away", "chat", "dnd", "xa"]
MessageType = Literal["chat", "error", "groupchat", "headline", "normal"]


@dataclass(frozen=True, slots=True)
class Available:
    """A resource that sent available presence to nobody in particular (section 4.2)."""

    resource: str
    priority: int = 0
    """-128 to 127; below 0 it gets no messages for the bare JID (section 4.7.2.3)."""
    show: Show | None = None

    def __post_init__(self) -> None:
        if not -128 <= self.priority <= 127:
            raise ValueError(f"priority {self.priority} is not within -128 to 127")


@dataclass(frozen=True, slots=True)
class Route:
    """Which resources get a message, and what becomes of it if there are none."""

    resources: tuple[str, ...]
    otherwise: Literal["store", "bounce", "drop"]
    """Keep it until somebody comes (XEP-0160), or answer ``service-unavailable``, or do nothing at all."""


def reachable(available: Iterable[Available]) -> list[Available]:
    """Return those that take what is sent to the bare JID, the highest priority first."""
    return sorted((a for a in available if a.priority >= 0), key=lambda a: (-a.priority, a.resource))


def most_available(available: Iterable[Available]) -> list[Available]:
    """Return those of the highest priority, if that is not negative."""
    found = reachable(available)
    return [a for a in found if a.priority == found[0].priority]


def route_message(type: MessageType, available: Iterable[Available], *, to_resource: bool = False) -> Route:
    """Say who gets a message to the bare JID of an account (section 8.5.2).

    `to_resource`: it was sent to a full JID at which nobody is connected (section 8.5.3.2.1).
    """
    if type == "error":
        return Route((), "drop")
    if type == "groupchat":
        return Route((), "bounce")
    if to_resource and type != "chat":
        return Route((), "drop" if type == "headline" else "bounce")
    if type == "headline":
        return Route(tuple(a.resource for a in reachable(available)), "drop")
    return Route(tuple(a.resource for a in most_available(available)), "store")
