# SPDX-License-Identifier: Apache-2.0
"""The server: everything put together from one configuration."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import structlog
import trio

from xiot.core import JID, Element, Router, Stanza
from xiot.errors import StanzaError, StreamError, XiotError
from xiot.ext import HOST, third_party
from xiot.model import nodes
from xiot.model.documents import Quota
from xiot.model.effects import Tx, apply
from xiot.model.logout import Logout, end_of_last_session
from xiot.net.listen import accept, listen
from xiot.net.pump import Connection, Pump
from xiot.proto import sasl, sm
from xiot.proto.features import HostPolicy
from xiot.server.accounts import Accounts
from xiot.server.certificates import Certificates
from xiot.server.config import Address, Config, Host
from xiot.server.delivery import Delivery
from xiot.server.hooks import Hooks
from xiot.server.host import LocalHost, Place
from xiot.server.presence import Presences
from xiot.server.resumption import Resumptions
from xiot.server.routing import Routing, check_iq
from xiot.server.session import ClientSession
from xiot.store import Store
from xiot.xep import caps, contact, csi, disco, pubsub, register, standard
from xiot.xep.entitytime import Clock
from xiot.xep.last import Activity
from xiot.xep.limits import Limits
from xiot.xep.version import Version

DRAIN_S = 5.0  # at the end, for the last bytes of all sessions
HOUR_S = 3600.0
SHARED = frozenset(["datetimes", "delay", "disco", "entitytime", "forms", "last", "ping", "roster", "rsm", "version"])
"""The extensions that a service of a host has, too."""


class Server:
    """A server of the hosts of one configuration. `run` opens it, serves, and closes it."""

    def __init__(self, config: Config) -> None:
        """Read the certificates and open the ports. Raises ConfigError, OSError."""
        limits = config.limits
        self.config = config
        self.log: Any = structlog.get_logger("xiot.server")
        self.certificates = Certificates(config)
        self.router = Router(
            max_stanza_bytes=limits.max_stanza_bytes,
            early_stanza_bytes=limits.pre_auth_stanza_bytes,
            max_depth=limits.max_depth,
            max_attributes=limits.max_attributes,
            high_bytes=limits.out_high_bytes,
        )
        self.pump = Pump(
            self.router,
            low_bytes=limits.out_high_bytes // 4,
            stall_close_s=limits.stall_s,
        )
        self.routing = Routing(self)
        self.hooks = Hooks(self)
        self.delivery = Delivery(self)
        self.presences = Presences(self)
        self.hosts: dict[str, LocalHost] = {}
        self.places: dict[str, Place] = {}
        self.store: Store
        self.accounts: Accounts
        self.nursery: trio.Nursery
        self.storing: trio.Nursery
        """For what must be stored even while the server stops."""
        self.stanzas = 0
        """Dealt with here; `Router.routed` counts those the core dealt with."""
        self.addresses: list[tuple[Address, bool]] = []
        """Where it listens, with the real ports, and whether TLS begins at once."""
        self._listeners: list[tuple[socket.socket, bool]] = []
        self._sessions: set[ClientSession] = set()
        self._empty = trio.Event()
        self.stopping = False
        """No session waits for its client any more."""
        self.resumptions = Resumptions(limits.resume_s)
        self._stopped = False
        self._started = Activity()
        self._by_address: dict[str, int] = {}
        self._registered: dict[str, list[float]] = {}
        try:
            for addresses, tls in ((config.c2s.listen, False), (config.c2s.listen_tls, True)):
                for address in addresses:
                    self._listen(address, tls)
        except BaseException:
            self.close()
            raise

    def _listen(self, address: Address, tls: bool) -> None:
        try:
            sock = listen(address.host, address.port)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
        self._listeners.append((sock, tls))
        port = sock.getsockname()[1]
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.addresses.append((Address(f"{host}:{port}"), tls))

    def close(self) -> None:
        """Close the listening sockets."""
        for sock, _ in self._listeners:
            sock.close()
        self._listeners.clear()

    async def run(
        self, *, signals: bool = False, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled, or until SIGTERM or SIGINT if `signals`: then every stream ends with ``system-shutdown``."""
        try:
            async with Store.open(self.config.database) as self.store, trio.open_nursery() as self.storing:
                self.accounts = await Accounts.open(self.store, self.config)
                self.accounts.subscriptions = self.presences
                for host in self.config.hosts:
                    self._add_host(host)
                    # what a crash left behind: nobody of now has those resources
                    await self.store.run(partial(end_resource_subscriptions, domain=host.name))
                self.storing.start_soon(self.pump.run)
                try:
                    async with trio.open_nursery() as self.nursery:
                        self.nursery.start_soon(self.resumptions.run)
                        for sock, tls in self._listeners:
                            self.nursery.start_soon(accept, sock, self._serve_tls if tls else self._serve_plain)
                        self._log_start()
                        task_status.started()
                        if signals:
                            await self._wait_for_signal()
                        else:
                            await trio.sleep_forever()
                        self.close()
                        await self._drain()
                        self.nursery.cancel_scope.cancel()
                finally:
                    self._stopped = True
                    with trio.CancelScope(shield=True):
                        await self._drain()
                        self.storing.cancel_scope.cancel()
        finally:
            self.close()
            self.log.info("stopped")

    def _log_start(self) -> None:
        if self.certificates.development_ca is not None:
            self.log.warning(
                "no certificate configured: a development one is used", ca=str(self.certificates.development_ca)
            )
        for address, tls in self.addresses:
            self.log.info("listening", address=str(address), tls="direct" if tls else self.config.c2s.starttls)

    async def _wait_for_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async for number in received:
                self.log.info("stopping", signal=signal.Signals(number).name)
                return

    async def _drain(self) -> None:
        self.stopping = True
        for session in list(self._sessions):
            session.end(StreamError("system-shutdown"))
        self.pump.flush()
        if self._sessions:
            self._empty = trio.Event()
            with trio.move_on_after(DRAIN_S):
                await self._empty.wait()

    # ---- hosts ----

    def _add_host(self, config: Host) -> None:
        everything = {extension.name: extension for extension in standard()}
        nodes_ext = everything.pop("pubsub")
        service = f"pubsub.{config.name}"
        shared_objects = [Version(name="xiot", version=version()), self._started, Clock()]
        if config.registration == "off":
            del everything["register"]
        mine = [*everything.values(), *third_party()]
        contacts = contact.form(msgspec.structs.asdict(config.contact))
        directory = disco.Directory(
            mine,
            identities=[disco.Identity(category="server", type="im", name="xiot")],
            items=[disco.Item(jid=JID(service), name="Publish-Subscribe")],
            forms=[] if contacts is None else [contacts],
        )
        host = LocalHost(
            config,
            self._policy(config, caps.announce(directory, HOST)),
            mine,
            [
                *shared_objects,
                directory,
                self.accounts.registrar(self),
                self.presences,
                self.hooks,
                Quota(self.config.limits.stored_bytes_per_account),
            ],
        )
        shared = [extension for extension in mine if extension.name in SHARED]
        place = Place(
            service,
            config.name,
            [*shared, nodes_ext],
            [
                *shared_objects,
                pubsub.directory([*shared, nodes_ext]),
                nodes.Service(jid=service, creators=frozenset([config.name])),
            ],
        )
        self.hosts[host.domain] = self.places[host.domain] = host
        self.places[service] = place

    def _policy(self, config: Host, capabilities: caps.C) -> HostPolicy:
        c2s, limits = self.config.c2s, self.config.limits
        open_ = config.registration == "open"

        def extra(logged_in: bool) -> Iterable[Element]:
            if not logged_in:
                early = Limits(max_bytes=limits.pre_auth_stanza_bytes).to_element()
                return [early, register.StreamFeature().to_element()] if open_ else [early]
            return [
                Element("{urn:xmpp:features:rosterver}ver"),  # RFC 6121 section 2.6
                Element("{urn:xmpp:features:pre-approval}sub"),  # section 3.4
                sm.feature(),
                Limits(max_bytes=limits.max_stanza_bytes).to_element(),
                csi.Feature().to_element(),
                capabilities.to_element(),
            ]

        return HostPolicy(
            sasl=sasl.SaslPolicy(
                fake_salt_secret=self.accounts.fake_salt_secret,
                mechanisms=config.mechanisms,
                plain_without_tls=c2s.plain_without_tls,
                iterations=self.config.accounts.scram_iterations,
                max_failures=limits.auth_failures_per_stream,
            ),
            starttls=c2s.starttls,
            extra_features=extra,
            iq_before_login=frozenset([register.NS]) if open_ else frozenset(),
            nonzas=frozenset([csi.NS, sm.NS]),
        )

    def policy(self, domain: str) -> HostPolicy | None:
        """What is offered to clients of `domain`; None if it is not ours."""
        host = self.hosts.get(domain)
        return None if host is None else host.policy

    # ---- connections ----

    def _serve_plain(self, sock: socket.socket, peer: str) -> None:
        self._serve(sock, peer, None)

    def _serve_tls(self, sock: socket.socket, peer: str) -> None:
        self._serve(sock, peer, self.certificates.any_host)

    def _serve(self, sock: socket.socket, peer: str, context: ssl.SSLContext | None) -> None:
        address = peer.rpartition(":")[0]
        most = self.config.limits.connections_per_address
        if most and self._by_address.get(address, 0) >= most:
            self.log.info("refused: too many connections of this address", peer=peer)
            sock.close()
            return
        self._by_address[address] = self._by_address.get(address, 0) + 1
        connection = self.pump.add(sock, peer, context)
        connection.owner = session = ClientSession(self, connection, direct_tls=context is not None)
        self._sessions.add(session)

    def forget(self, session: ClientSession) -> None:
        """The session has ended, or goes on as another."""
        self._sessions.discard(session)
        if not self._sessions:
            self._empty.set()

    def disconnected(self, connection: Connection) -> None:
        """The connection is gone."""
        address = connection.peer.rpartition(":")[0]
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def resource_gone(self, jid: JID) -> None:
        """End the subscriptions of a full JID whose session has ended."""

        async def end() -> None:
            try:
                await self.store.run(lambda tx: apply(nodes.resource_gone(nodes.load_resource(tx.nodes, jid)), tx))
            except XiotError:
                self.log.exception("subscriptions could not be ended", jid=str(jid))

        if not self._stopped:
            self.nursery.start_soon(end)

    def logged_out(self, jid: JID, status: str) -> None:
        """Note that the last session of an account has ended (XEP-0012)."""
        logout = Logout(str(jid), datetime.now(UTC), status)

        async def note() -> None:
            try:
                await self.store.run(lambda tx: apply(end_of_last_session(logout, tx), tx))
            except XiotError:
                self.log.exception("logout could not be noted", jid=str(jid))

        if not self._stopped:
            self.nursery.start_soon(note)

    def sessions_of(self, jid: JID) -> list[ClientSession]:
        """All sessions of an account: bound ones, and those that log in."""
        return [session for session in self._sessions if session.account == jid.bare]

    # ---- registration before login ----

    async def register(self, stanza: Stanza, host: str, peer: str) -> Element:
        """Answer a registration iq of a stream that has not logged in (XEP-0077 section 3.1). Raises StanzaError."""
        check_iq(stanza)
        if stanza.type not in ("get", "set"):
            raise StanzaError("bad-request")
        if stanza.type == "set":
            self._count_registration(peer.rpartition(":")[0])
        return await register.before_login(stanza, host, self.hosts[host].service(register.Registrar))

    def _count_registration(self, address: str) -> None:
        most = self.config.limits.registrations_per_address_per_hour
        if not most:
            return
        now = trio.current_time()
        for old in [a for a, times in self._registered.items() if times[-1] <= now - HOUR_S]:
            del self._registered[old]
        times = [t for t in self._registered.get(address, []) if t > now - HOUR_S]
        if len(times) >= most:
            raise StanzaError("resource-constraint", text="too many registrations from this address")
        self._registered[address] = [*times, now]


def end_resource_subscriptions(tx: Tx, domain: str) -> None:
    """End the subscriptions of all full JIDs of a domain."""
    tx.nodes.delete_resource_subscriptions(domain)


def version() -> str:
    """The version of this package."""
    from importlib.metadata import version as installed

    return installed("xiot")
