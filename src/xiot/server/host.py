# SPDX-License-Identifier: Apache-2.0
"""What a server answers for: its hosts, their services, and the accounts that are online."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

from xiot.ext import Extension, Handler, Key, dispatch_table, find_service
from xiot.model.delivery import Available

if TYPE_CHECKING:
    from xiot.core import JID, Element, Stanza
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

    def become(self, other: Place) -> None:
        """Take over the settings of `other`, which was made from a newer configuration; what is online stays."""
        self.extensions, self.table, self._objects = other.extensions, other.table, other._objects

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
        self.online: dict[JID, tuple[ClientSession, ...]] = {}
        """Bare JID -> its bound sessions, oldest first. They are few, and most accounts have one: a dict would be large for that."""
        self.watchers: dict[JID, frozenset[str]] = {}
        """Bare JID -> bare JIDs that see its presence, for accounts with an available resource."""

    def become(self, other: Place) -> None:
        """Take over the settings of `other`; its sessions go on, and new streams get the new policy."""
        assert isinstance(other, LocalHost)
        super().become(other)
        self.config, self.policy = other.config, other.policy

    def sessions(self, bare: JID) -> tuple[ClientSession, ...]:
        """The bound sessions of an account, oldest first."""
        return self.online.get(bare, ())

    def named(self, bare: JID, resources: Iterable[str]) -> list[ClientSession]:
        """The sessions of an account that are bound to `resources`, in that order. Raises KeyError."""
        held = {session.jid.resource: session for session in self.sessions(bare)}
        return [held[resource] for resource in resources]

    def session(self, jid: JID) -> ClientSession | None:
        """The session bound to the full JID `jid`; None if there is none, or `jid` is bare."""
        if jid.resource is None:
            return None
        return next((session for session in self.sessions(jid.bare) if session.jid.resource == jid.resource), None)

    def available_sessions(self, bare: JID) -> list[ClientSession]:
        """The sessions of an account that have sent available presence, oldest first."""
        return [session for session in self.sessions(bare) if session.availability.presence is not None]

    def available(self, bare: JID) -> list[Available]:
        """The resources of an account that have sent available presence."""
        return [
            Available(session.jid.resource or "", session.availability.priority)
            for session in self.available_sessions(bare)
        ]

    def add(self, jid: JID, session: ClientSession) -> None:
        """A session was bound to `jid`, in place of whoever had it."""
        self.online[jid.bare] = (*(other for other in self.sessions(jid.bare) if other.jid != jid), session)

    def remove(self, jid: JID, session: ClientSession) -> None:
        """The session bound to `jid` has ended; nothing happens if it had been removed."""
        left = tuple(other for other in self.sessions(jid.bare) if other is not session)
        if left:
            self.online[jid.bare] = left
        else:
            self.online.pop(jid.bare, None)


class Availability:
    """What a session says of its presence (RFC 6121 section 4)."""

    __slots__ = ("_directed", "arriving", "presence", "priority", "status")

    def __init__(self) -> None:
        self.presence: Element | None = None
        """The last available presence, stamped; None while unavailable."""
        self.priority = 0
        self.status = ""
        """The last words: of the last presence of type unavailable (XEP-0012 section 3)."""
        self._directed: set[JID] | None = None  # until there is somebody: most have none, and an empty set is large
        self.arriving: Stanza | None = None
        """Initial presence of a session that has yet to get the messages that wait for it."""

    @property
    def directed(self) -> Collection[JID]:
        """Who got directed presence and is to be told when the session ends (section 4.6)."""
        return self._directed or ()

    def direct(self, jid: JID) -> None:
        """`jid` gets directed presence."""
        if self._directed is None:
            self._directed = set()
        self._directed.add(jid)

    def undirect(self, jid: JID) -> None:
        """`jid` need not be told any more."""
        if self._directed is not None:
            self._directed.discard(jid)

    def take_directed(self) -> Collection[JID]:
        """All who got directed presence; they are forgotten."""
        directed, self._directed = self._directed, None
        return directed or ()
