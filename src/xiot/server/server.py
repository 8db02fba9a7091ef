# SPDX-License-Identifier: Apache-2.0
"""The server: everything put together from one configuration."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
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
from xiot.model.logout import Logout
from xiot.net.listen import accept, listen, source_of
from xiot.net.pump import Connection, Pump
from xiot.proto import sasl, sasl2, sm
from xiot.proto.features import HostPolicy
from xiot.server import control
from xiot.server.accounts import Accounts
from xiot.server.budgets import Budgets
from xiot.server.certificates import Certificates
from xiot.server.config import Address, Config, ConfigError, Host, takeable
from xiot.server.control import Control
from xiot.server.delivery import Delivery
from xiot.server.exi import ExiService
from xiot.server.exi import aliases as exi_aliases
from xiot.server.hooks import Hooks
from xiot.server.host import LocalHost, Place
from xiot.server.http import HttpServer
from xiot.server.journal import Journal
from xiot.server.metrics import Metrics
from xiot.server.notify import Notifier
from xiot.server.presence import Presences
from xiot.server.restore import restore
from xiot.server.resumption import Resumptions, enable_within_bind, resume_within_login
from xiot.server.routing import Routing, check_iq
from xiot.server.session import ClientSession
from xiot.server.watch import Watch
from xiot.store import Store
from xiot.xep import caps, carbons, contact, csi, disco, pubsub, register, standard
from xiot.xep.entitytime import Clock
from xiot.xep.last import Activity
from xiot.xep.limits import Limits
from xiot.xep.version import Version

DRAIN_S = 5.0  # at the end, for the last bytes of all sessions
HOUR_S = 3600.0
AUTH_WINDOW_S = 600.0
SHARED = frozenset(["datetimes", "delay", "disco", "entitytime", "forms", "last", "ping", "roster", "rsm", "version"])
"""The extensions that a service of a host has, too."""


class Server:
    """A server of the hosts of one configuration. `run` opens it, serves, and closes it."""

    def __init__(self, config: Config, *, read: Callable[[], Config] | None = None, epoll: bool | None = None) -> None:
        """Read the certificates and open the ports. Raises ConfigError, OSError.

        read: reads the configuration anew, for `reload`. epoll: False has a task for each connection, as where there is no epoll.
        """
        limits = config.limits
        self.config = config
        self._read = read
        self._reloading = trio.Lock()
        self.on_reload: Callable[[Config], None] = lambda config: None
        """Called with each configuration that `reload` has put in force."""
        self.log: Any = structlog.get_logger("xiot.server").bind()  # else each line would look its configuration up
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
            epoll=epoll,
        )
        self.budgets = Budgets(limits.auth_failures_per_address, limits.auth_failures_per_account, AUTH_WINDOW_S)
        self.routing = Routing(self)
        self.hooks = Hooks(self)
        self.delivery = Delivery(self)
        self.journal = Journal(self)
        self.presences = Presences(self)
        self.watch = Watch(self)
        self.hosts: dict[str, LocalHost] = {}
        self.places: dict[str, Place] = {}
        self.store: Store
        self.accounts: Accounts
        self.nursery: trio.Nursery
        self.storing: trio.Nursery
        """For what must be stored even while the server stops."""
        self.version = version()
        self.started_at = self.loaded_at = datetime.now(UTC)
        """When the server began, and when it last took over a configuration."""
        self.reload_error: str | None = None
        """Why the last reload changed nothing, if so."""
        self.waiting: list[str] = []
        """What of the file waits for a restart."""
        self.metrics = Metrics(self)
        self.control = Control(self)
        self.addresses: list[tuple[Address, bool]] = []
        """Where it listens, with the real ports, and whether TLS begins at once."""
        self.http_addresses: list[Address] = []
        """Where it answers for monitoring, with the real ports."""
        self.exi = ExiService(self, config)
        self.exi_addresses: list[tuple[Address, bool]] = []
        """Where it speaks EXI, likewise."""
        self._listeners: list[tuple[socket.socket, Callable[[socket.socket, str], None]]] = []
        self._http: list[socket.socket] = []
        self.sessions: set[ClientSession] = set()
        self.policies = self.policy  # bound once, for all streams
        """All, logged in or not."""
        self._empty = trio.Event()
        self.stopping = False
        """No session waits for its client any more."""
        self.resumptions = Resumptions(limits.resume_s)
        self._started = Activity()
        self._by_address: dict[str, int] = {}
        self._registered: dict[str, list[float]] = {}
        try:
            for opened, addresses, tls, exi in (
                (self.addresses, config.c2s.listen, False, False),
                (self.addresses, config.c2s.listen_tls, True, False),
                (self.exi_addresses, config.exi.listen, False, True),
                (self.exi_addresses, config.exi.listen_tls, True, True),
            ):
                for address in addresses:
                    sock, real = _listen(address)
                    self._listeners.append((sock, partial(self._serve, tls=tls, exi=exi)))
                    opened.append((real, tls))
            for address in config.http.listen:
                sock, real = _listen(address)
                self._http.append(sock)
                self.http_addresses.append(real)
        except BaseException:
            self._close_all()
            raise

    def close(self) -> None:
        """Close the sockets that clients come by."""
        for sock, _ in self._listeners:
            sock.close()
        self._listeners.clear()

    def _close_all(self) -> None:
        self.close()
        for sock in self._http:
            sock.close()

    async def run(
        self, *, signals: bool = False, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled, or until SIGTERM or SIGINT if `signals`: then every stream ends with ``system-shutdown``."""
        try:
            opened = Store.open(self.config.database, self.metrics.committed)
            async with opened as self.store, trio.open_nursery() as self.storing:
                self._http.append(await trio.to_thread.run_sync(control.listen, self.config.data_dir))
                self.accounts = await Accounts.open(self.store, self.config)
                self.accounts.subscriptions = self.presences
                for host in self.config.hosts:
                    self._set_up_host(host)
                    # what a crash left behind: nobody of now has those resources
                    await self.store.run(partial(end_resource_subscriptions, domain=host.name))
                self.storing.start_soon(self.pump.run)
                self.storing.start_soon(self.journal.run)
                try:
                    async with trio.open_nursery() as self.nursery:
                        await restore(self)
                        self.nursery.start_soon(self.exi.restore)
                        self.nursery.start_soon(self.journal.sweep)
                        self.nursery.start_soon(self.resumptions.run)
                        for sock, serve in self._listeners:
                            self.nursery.start_soon(accept, sock, serve)
                        for sock in self._http[:-1]:
                            self.nursery.start_soon(HttpServer(self.control.figures).serve, sock)
                        self.nursery.start_soon(HttpServer(self.control.orders).serve, self._http[-1])
                        notifier = Notifier()
                        self.nursery.start_soon(notifier.watchdog)
                        self.nursery.start_soon(self.watch.run)
                        # Before anybody knows that we are there: a signal that nobody takes would end us without a word.
                        with self._signals() if signals else nullcontext() as received:
                            self._log_start()
                            notifier.ready()
                            task_status.started()
                            if received is None:
                                await trio.sleep_forever()
                            else:
                                await self._wait_for_signal(received, notifier)
                        notifier.stopping()
                        self.close()
                        await self._drain()
                        self.nursery.cancel_scope.cancel()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._drain()
                        with trio.move_on_after(DRAIN_S):
                            await self.journal.flush()
                        self.storing.cancel_scope.cancel()
        finally:
            self._close_all()
            self.log.info("stopped")

    def _log_start(self) -> None:
        if self.certificates.development_ca is not None:
            self.log.warning(
                "no certificate configured: a development one is used", ca=str(self.certificates.development_ca)
            )
        for address, tls in self.addresses:
            self.log.info("listening", address=str(address), tls="direct" if tls else self.config.c2s.starttls)
        for address, tls in self.exi_addresses:
            self.log.info("listening for EXI", address=str(address), tls="direct" if tls else self.config.c2s.starttls)
        for address in self.http_addresses:
            self.log.info("metrics at", address=str(address))
            if not ip_address(address.host).is_loopback:
                self.log.warning("everybody who reaches this address may read the metrics", address=str(address))

    def _signals(self) -> AbstractContextManager[AsyncIterator[int]]:
        return trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    async def _wait_for_signal(self, received: AsyncIterator[int], notifier: Notifier) -> None:
        async for number in received:
            if number != signal.SIGHUP:
                self.log.info("stopping", signal=signal.Signals(number).name)
                return
            notifier.reloading()
            with suppress(XiotError):
                await self.reload()
            notifier.ready()

    async def _drain(self) -> None:
        self.stopping = True
        for session in list(self.sessions):
            session.end(StreamError("system-shutdown"))
        self.pump.flush()
        if self.sessions:
            self._empty = trio.Event()
            with trio.move_on_after(DRAIN_S):
                await self._empty.wait()

    # ---- reload ----

    async def reload(self) -> list[str]:
        """Read the configuration and the certificates anew, for all streams that begin from now on; no session ends.

        Returns what of the new configuration has to wait for a restart. Raises XiotError if it cannot be used: then nothing changes.
        """
        async with self._reloading:
            try:
                waiting = await self._reload()
            except Exception as error:  # whatever it is, it is no reason to end the sessions
                self.reload_error = str(error)
                self.log.error("configuration not reloaded: the former one stays in force", error=str(error))
                raise error if isinstance(error, XiotError) else XiotError(str(error)) from error
        self.loaded_at, self.reload_error, self.waiting = datetime.now(UTC), None, waiting
        for what in waiting:
            self.log.warning("waits for a restart", what=what)
        self.log.info("configuration reloaded", hosts=len(self.hosts))
        return waiting

    async def _reload(self) -> list[str]:
        if self._read is None:
            raise ConfigError("there is no file to read it from")
        config, waiting = takeable(self.config, await trio.to_thread.run_sync(self._read))
        certificates = await trio.to_thread.run_sync(Certificates, config)
        aliases = await trio.to_thread.run_sync(exi_aliases, config.exi)
        # From here on nobody else runs, so nobody sees one half of it.
        wanted = {host.name for host in config.hosts}
        used = {session.host for session in self.sessions}
        kept = [
            host.config
            for host in self.hosts.values()
            if host.domain not in wanted and (host.online or host.domain in used)
        ]
        waiting += [f"end of host {host.name}, which has sessions" for host in kept]
        config = msgspec.structs.replace(config, hosts=(*config.hosts, *kept))
        for host in kept:
            certificates.adopt(self.certificates, host.name)
        self.config, self.certificates = config, certificates
        self.pump.stall_close_s = config.limits.stall_s
        self.resumptions.keep_s = config.limits.resume_s
        self.accounts.configure(config)
        self.exi.configure(aliases)
        self.budgets.configure(config.limits.auth_failures_per_address, config.limits.auth_failures_per_account)
        for domain in self.hosts.keys() - {host.name for host in config.hosts}:
            del self.hosts[domain]
            for place in [place for place in self.places.values() if place.host == domain]:
                del self.places[place.domain]
        for host in config.hosts:
            self._set_up_host(host)
        self.on_reload(config)
        self.log = structlog.get_logger("xiot.server").bind()
        return waiting

    # ---- hosts ----

    def _set_up_host(self, config: Host) -> None:
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
        for each in (host, place):
            self.places.setdefault(each.domain, each).become(each)
        self.hosts.setdefault(host.domain, host)

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
                Limits(max_bytes=limits.max_stanza_bytes, idle_seconds=int(limits.idle_s) or None).to_element(),
                csi.Feature().to_element(),
                capabilities.to_element(),
            ]

        return HostPolicy(
            sasl=sasl.SaslPolicy(
                fake_salt_secret=self.accounts.fake_salt_secret,
                mechanisms=config.mechanisms,
                plain_without_tls=c2s.plain_without_tls,
                iterations=self.config.accounts.scram_iterations,
                tokens=self.config.accounts.token_days > 0,
                max_failures=limits.auth_failures_per_stream,
            ),
            starttls=c2s.starttls,
            extra_features=extra,
            iq_before_login=frozenset([register.NS]) if open_ else frozenset(),
            nonzas=frozenset([csi.NS, sm.NS]),
            exi=self.config.exi.in_band,
            inline=(sasl2.Inline(sm.NS, sm.feature(), resume_within_login),),
            bind_inline=(
                sasl2.Inline(sm.NS, sm.NS, enable_within_bind),
                sasl2.Inline(carbons.NS, carbons.NS, self._carbons_within_bind),
                sasl2.Inline(csi.NS, csi.NS, self._state_within_bind),
            ),
        )

    def _carbons_within_bind(self, session: ClientSession, element: Element) -> None:
        if element.tag == carbons.Enable.TAG:
            self.hooks.switch_carbons(session.jid, True)

    def _state_within_bind(self, session: ClientSession, element: Element) -> None:
        self.hooks.indicated(session, element)

    def policy(self, domain: str) -> HostPolicy | None:
        """What is offered to clients of `domain`; None if it is not ours."""
        host = self.hosts.get(domain)
        return None if host is None else host.policy

    # ---- connections ----

    def _serve(self, sock: socket.socket, peer: str, *, tls: bool, exi: bool) -> None:
        address = source_of(peer)
        most, others = self.config.limits.connections_per_address, self._by_address.get(address, 0)
        if most and others >= most:
            self.metrics.refused += 1
            self.log.info("refused: too many connections of this address", peer=peer)
            sock.close()
            return
        self.metrics.accepted += 1
        self._by_address[address] = others + 1
        context = self.certificates.any_host if tls else None
        connection = self.pump.add(sock, peer, context, self.exi.listening() if exi else None)
        connection.owner = session = ClientSession(self, connection, direct_tls=tls)
        self.sessions.add(session)

    def forget(self, session: ClientSession) -> None:
        """The session has ended, or goes on as another."""
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()

    def disconnected(self, connection: Connection) -> None:
        """The connection is gone."""
        self.metrics.ended(connection)
        address = connection.source
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
            except XiotError as error:
                self.log.error("subscriptions could not be ended", jid=str(jid), why=str(error))

        self.storing.start_soon(end)

    def end_sessions(self, jid: JID, error: StreamError) -> int:
        """End all sessions of an account with `error`, bound ones and those that log in; returns how many there were."""
        sessions = [session for session in self.sessions if session.account == jid.bare]
        for session in sessions:
            session.end(error)
        self.pump.flush()
        return len(sessions)

    def logged_out(self, jid: JID, status: str) -> None:
        """Note that the last session of an account has ended (XEP-0012)."""
        self.store.defer(_note, Logout(str(jid), datetime.now(UTC), status), self._not_noted)

    def _not_noted(self, error: Exception) -> None:
        self.log.error("logouts could not be noted", why=str(error))

    # ---- registration before login ----

    async def register(self, stanza: Stanza, host: str, peer: str) -> Element:
        """Answer a registration iq of a stream that has not logged in (XEP-0077 section 3.1). Raises StanzaError."""
        check_iq(stanza)
        if stanza.type not in ("get", "set"):
            raise StanzaError("bad-request")
        if stanza.type == "set":
            self._count_registration(source_of(peer))
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


def _listen(address: Address) -> tuple[socket.socket, Address]:
    """A socket that listens on `address`, and the address with its real port."""
    try:
        sock = listen(address.host, address.port)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    host = f"[{address.host}]" if ":" in address.host else address.host
    return sock, Address(f"{host}:{sock.getsockname()[1]}")


def _note(tx: Tx, logouts: Sequence[Logout]) -> None:
    tx.logouts.put(logouts)


def end_resource_subscriptions(tx: Tx, domain: str) -> None:
    """End the subscriptions of all full JIDs of a domain."""
    tx.nodes.delete_resource_subscriptions(domain)


def version() -> str:
    """The version of this package."""
    from importlib.metadata import version as installed

    return installed("xiot")
