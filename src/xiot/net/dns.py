# SPDX-License-Identifier: Apache-2.0
"""Where the server of a domain is: SRV records (RFC 2782, RFC 6120 section 3.2, XEP-0368), on anyio.

SRV records come by dnspython, addresses by the system (so that its files of hosts count), unless name servers are given.
What DNS says is not trusted: the certificate must be that of the JID's domain, wherever it leads.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio
import idna

from xiot.errors import LinkError

if TYPE_CHECKING:
    from dns._asyncbackend import Backend
    from dns.asyncresolver import Resolver as Asker

log = logging.getLogger(__name__)

CLIENT_PORT = 5222
CLIENT_TLS_PORT = 5223  # no standard names it; where servers listen for TLS if DNS says nothing
DNS_S = 5.0  # for one answer, all name servers together
BEFORE = 65536  # off the priority of what is to be tried before any other
TARGETS = 16  # of a domain; an answer may hold thousands


@dataclass(frozen=True, slots=True)
class Service:
    """An SRV record (RFC 2782). The target "." says that the service is not offered."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Target:
    """A place to try: those of a lower `priority` come first."""

    host: str
    port: int
    direct_tls: bool = False
    """TLS from the first octet (XEP-0368)."""
    priority: int = 0
    exi: bool = False
    """EXI from the first octet (XEP-0322)."""


class Resolver(Protocol):
    """Who is asked."""

    async def services(self, name: str) -> Sequence[Service]:
        """The SRV records at `name`, empty if there are none. Raises LinkError if there is no telling."""

    async def addresses(self, host: str) -> Sequence[str]:
        """The IP addresses of `host`, best first. Raises LinkError if there are none."""


class Dns:
    """The system's resolver, or the given name servers."""

    def __init__(self, nameservers: Sequence[str] = (), *, port: int = 53) -> None:
        """`nameservers`: IP addresses, asked at `port` for addresses too; none: as the system is set up."""
        self._nameservers = list(nameservers)
        self._port = port

    def _asker(self) -> Asker:
        import dns.asyncresolver  # slow to import, and a device that is told an address has no use for it

        asker = dns.asyncresolver.Resolver(configure=not self._nameservers)
        if self._nameservers:
            asker.nameservers = self._nameservers
            asker.port = self._port
        asker.lifetime = DNS_S
        return asker

    async def services(self, name: str) -> Sequence[Service]:
        """The SRV records at `name`, empty if there are none. Raises LinkError if there is no telling."""
        import dns.exception
        import dns.resolver

        try:
            answer = await self._asker().resolve(name + ".", "SRV", backend=_backend())
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise LinkError(f"DNS does not tell {name}: {str(error) or type(error).__name__}") from error
        return [
            Service(r.priority, r.weight, r.port, r.target.to_text(omit_final_dot=len(r.target) > 1)) for r in answer
        ]

    async def addresses(self, host: str) -> Sequence[str]:
        """The IP addresses of `host`, best first. Raises LinkError if there are none."""
        if is_address(host):
            return [host]
        try:
            if self._nameservers:
                return await self._ask_addresses(host)
            with anyio.fail_after(DNS_S):
                found = await anyio.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise LinkError(f"{host} has no address") from error
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _ask_addresses(self, host: str) -> Sequence[str]:
        import dns.exception

        asking = self._asker().resolve_name(host, backend=_backend())
        try:
            return [str(address) for address in (await asking).addresses()]
        except dns.exception.DNSException as error:
            raise LinkError(f"{host} has no address") from error


def _backend() -> Backend:
    """That of the running loop: dnspython itself would stay with the first one it has seen."""
    import dns.asyncbackend

    return dns.asyncbackend.get_backend(dns.asyncbackend.sniff())


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def ascii_domain(domain: str) -> str:
    """The domain as DNS and TLS write it: A-labels (RFC 5891); of an IPv6 address what is in the brackets.

    Raises LinkError if it cannot be written so.
    """
    if domain.startswith("["):
        return domain.strip("[]")
    if domain.isascii():
        return domain.rstrip(".")
    try:
        return idna.encode(domain).decode()
    except idna.IDNAError as error:
        raise LinkError(f"{domain} is no domain of the DNS: {error}") from error


async def discover(
    domain: str, resolver: Resolver, *, starttls: bool = True, direct_tls: bool = True, rng: random.Random | None = None
) -> list[Target]:
    """Where the server of `domain` may be, in the order to try; `starttls` and `direct_tls` say what is of use.

    Records of both kinds are one list (XEP-0368 section 3); without any, it is the domain itself at port 5222, or 5223
    where only direct TLS will do. Raises LinkError if DNS says that the domain has no such service.
    """
    host = ascii_domain(domain)
    itself = Target(host, CLIENT_PORT) if starttls else Target(host, CLIENT_TLS_PORT, True)
    if is_address(host) or host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3: nobody to ask
        return [itself]
    kinds = {False: ("_xmpp-client._tcp.", starttls), True: ("_xmpps-client._tcp.", direct_tls)}
    found: dict[bool, Sequence[Service]] = {}

    async def ask(direct: bool, name: str) -> None:
        try:
            found[direct] = await resolver.services(name)
        except LinkError as error:
            log.info("%s: going on without", error)

    async with anyio.create_task_group() as questions:
        for direct, (prefix, wanted) in kinds.items():
            if wanted:
                questions.start_soon(ask, direct, prefix + host)
    records = [(direct, service) for direct in sorted(found) for service in found[direct] if service.target != "."]
    if records:
        return [
            Target(service.target, service.port, direct, service.priority)
            for direct, service in in_order(records, rng or random.SystemRandom())[:TARGETS]
        ]
    # RFC 2782: "." is the only record, and means that the service is not there.
    if found.get(not starttls):
        raise LinkError(f"{domain} offers no XMPP service to clients")
    return [itself]


async def discover_exi(domain: str, resolver: Resolver) -> list[Target]:
    """Where the server of `domain` speaks EXI from the first octet (XEP-0322 section 3.4.1), in the order to try: before all others."""
    host = ascii_domain(domain)
    if is_address(host) or host == "localhost" or host.endswith(".localhost"):
        return []
    try:
        found = await resolver.services("_xmpp-bclient._tcp." + host)
    except LinkError as error:
        log.info("%s: going on without", error)
        return []
    records = [(False, service) for service in found if service.target != "."]
    return [
        Target(service.target, service.port, priority=service.priority - BEFORE, exi=True)
        for _, service in in_order(records, random.SystemRandom())[:TARGETS]
    ]


def in_order(records: Iterable[tuple[bool, Service]], rng: random.Random) -> list[tuple[bool, Service]]:
    """By priority; among equals at random, in proportion to their weights (RFC 2782)."""
    ordered: list[tuple[bool, Service]] = []
    left = sorted(records, key=lambda record: (record[1].priority, record[1].weight))
    while left:
        equals = [record for record in left if record[1].priority == left[0][1].priority]
        point = rng.randint(0, sum(service.weight for _, service in equals))
        for record in equals:  # those of weight 0 are first: they have a small chance
            point -= record[1].weight
            if point <= 0:
                break
        ordered.append(record)
        left.remove(record)
    return ordered
