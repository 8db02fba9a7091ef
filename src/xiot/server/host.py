# SPDX-License-Identifier: Apache-2.0
"""What a server answers for: its hosts, their services, and the accounts that are online."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from xiot.ext import Extension, Handler, Key, dispatch_table, find_service
from xiot.model.presence import Available

if TYPE_CHECKING:
    from xiot.core import JID, Element
    from xiot.proto.features import HostPolicy
    from xiot.server.config import Host
    from xiot.server.session import ClientSession

T = TypeVar("T")


class Place:
    """A domain with handlers: a host, or a service of one such as ``pubsub.plant.example``."""

    def __init__(self, domain: str, host: str, extensions: Iterable[Extension], objects: Iterable[object]) -> None:
        self.domain = domain
        self.host = host
        self.extensions = tuple(extensions)
        self.table: dict[Key, tuple[Handler, ...]] = dispatch_table(self.extensions)
        self._objects = tuple(objects)

    def service(self, kind: type[T]) -> T:
        """The object of class `kind` that the place was built with. Raises LookupError."""
        return find_service(self._objects, kind)


class LocalHost(Place):
    """A domain with accounts."""

    def __init__(
        self,
        config: Host,
        policy: HostPolicy,
        extensions: Iterable[Extension],
        objects: Iterable[object],
    ) -> None:
        super().__init__(config.name, config.name, extensions, objects)
        self.config = config
        self.policy = policy
        self.online: dict[JID, dict[str, ClientSession]] = {}
        """Bare JID -> resource -> session, for bound sessions."""

    def sessions(self, bare: JID) -> list[ClientSession]:
        """The bound sessions of an account, oldest first."""
        return list(self.online.get(bare, {}).values())

    def available(self, bare: JID) -> list[Available]:
        """The resources of an account that have sent available presence."""
        return [
            Available(resource, session.availability.priority)
            for resource, session in self.online.get(bare, {}).items()
            if session.availability.presence is not None
        ]

    def add(self, jid: JID, session: ClientSession) -> None:
        """A session was bound to `jid`."""
        assert jid.resource is not None
        self.online.setdefault(jid.bare, {})[jid.resource] = session

    def remove(self, jid: JID, session: ClientSession) -> None:
        """The session bound to `jid` has ended; nothing happens if another one has its resource."""
        assert jid.resource is not None
        sessions = self.online.get(jid.bare, {})
        if sessions.get(jid.resource) is session:
            del sessions[jid.resource]
            if not sessions:
                del self.online[jid.bare]


class Availability:
    """What a session says of its presence (RFC 6121 section 4)."""

    __slots__ = ("directed", "presence", "priority")

    def __init__(self) -> None:
        self.presence: Element | None = None
        """The last available presence, stamped; None while unavailable."""
        self.priority = 0
        self.directed: set[JID] = set()
        """Who got directed presence and is to be told when the session ends (section 4.6)."""
