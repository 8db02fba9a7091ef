# SPDX-License-Identifier: Apache-2.0
"""What may be wrong with a configuration before anybody connects: files, certificates, ports, names in DNS."""

from __future__ import annotations

import os
import sqlite3
import ssl
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from xiot.errors import XiotError
from xiot.net.listen import listen
from xiot.net.tls import client_context
from xiot.server import control
from xiot.server.certificates import a_labels
from xiot.server.config import Address, Config, Host
from xiot.server.exi import compile_alias

if TYPE_CHECKING:
    import dns.resolver

SOON = timedelta(days=14)
"""Renewal by ACME happens a month before the end: at half of that, it has failed."""

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check; a problem keeps the server from working as configured."""

    level: Level
    about: str
    text: str


# ---- files and ports ----


def files(config: Config) -> Iterator[Finding]:
    """Look at the data directory and the database."""
    folder, about = config.data_dir, "data"
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        yield Finding("ok", about, f"{folder} is not there yet: it will be made")
        return
    except OSError as error:
        yield Finding("problem", about, f"{folder}: {error.strerror}")
        return
    if not stat.S_ISDIR(mode):
        yield Finding("problem", about, f"{folder} is not a directory")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("problem", about, f"{folder} cannot be written by this user; run the check as the server's")
        return
    if mode & 0o022:
        yield Finding("problem", about, f"{folder} can be written by other users: chmod 700 {folder}")
    yield from _database(config.database)


def _database(path: Path) -> Iterator[Finding]:
    from xiot.store import tables

    about = "data"
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            yield Finding(
                "problem", about, f"{path} is open to other users, who could log in as anybody: chmod 600 {path}"
            )
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except FileNotFoundError:
        yield Finding("ok", about, f"no database in {path.parent} yet: it will be made")
    except (OSError, sqlite3.Error) as error:
        yield Finding("problem", about, f"{path}: {error}")
    else:
        if found > tables.REVISION:
            yield Finding("problem", about, f"{path} was written by a newer xiot: update xiot")
        elif found < tables.REVISION:
            yield Finding("ok", about, f"{path} is of an older xiot: it will be migrated")
        else:
            yield Finding("ok", about, f"{path}")


def ports(config: Config) -> Iterator[Finding]:
    """Look whether the addresses can be listened on, unless the server does so already; and who may get there."""
    running = True
    try:
        control.ask(config.data_dir, "GET", "/healthz")
    except control.NotRunning:
        running = False
    except Exception as error:
        yield Finding("warning", "server", str(error))
    yield Finding("ok", "server", "running" if running else "not running")
    exi = config.exi
    for address in (*config.c2s.listen, *config.c2s.listen_tls, *exi.listen, *exi.listen_tls, *config.http.listen):
        if not running:
            yield _port(address)
    for address in config.http.listen:
        if not _loopback(address):
            yield Finding("warning", "http", f"everybody who reaches {address} may read the metrics")


def _port(address: Address) -> Finding:
    try:
        listen(address.host, address.port).close()
    except OSError as error:
        return Finding("problem", "ports", f"cannot listen on {address}: {error.strerror}")
    return Finding("ok", "ports", f"{address} is free")


def policy(config: Config) -> Iterator[Finding]:
    """Look for settings that are for closed networks."""
    c2s = config.c2s
    if not all(map(_loopback, c2s.listen)):
        if c2s.starttls != "required":
            yield Finding(
                "warning", "c2s", f'starttls = "{c2s.starttls}": clients without TLS can be read and changed on the way'
            )
        if c2s.plain_without_tls:
            yield Finding("warning", "c2s", "plain_without_tls: passwords can be read on the way")
    for host in config.hosts:
        if host.registration == "open":
            yield Finding("warning", host.name, 'registration = "open": expect accounts made by robots')


def schemas(config: Config) -> Iterator[Finding]:
    """Look at the schemas of `[[exi.aliases]]`: whether they are there, what their names say, and compile."""
    for alias in config.exi.aliases:
        shown = f"{alias.namespace} {alias.md5[:8]}"
        if alias.file is None:
            yield Finding("ok", "exi", f"{shown} is taken to be as ours")
            continue
        try:
            compile_alias(alias)
        except (XiotError, ValueError, ImportError, RecursionError) as error:  # SchemaError is a ValueError
            yield Finding("problem", "exi", f"{shown}: {error}")
        else:
            yield Finding("ok", "exi", f"{shown} compiles")


def _loopback(address: Address) -> bool:
    return ip_address(address.host).is_loopback


# ---- certificates ----


def certificate(config: Config, host: Host, now: datetime, ca_file: Path | None = None) -> Iterator[Finding]:
    """Look at the certificate of `host`: files, key, dates, names, and whether clients trust it by `ca_file` or the system's CAs."""
    about = host.name
    pair = config.key_pair(host)
    if pair is None:
        yield Finding("warning", about, "no certificate configured: one is made that only tests trust")
        return
    path, key_path = pair
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        mode = key_path.stat().st_mode
    except OSError as error:
        yield Finding("problem", about, f"{error.filename}: {error.strerror}")
        return
    except TypeError:
        yield Finding("problem", about, f"{key_path} is protected by a password: nobody could type it at the start")
        return
    except ValueError as error:
        yield Finding("problem", about, f"{path}, {key_path}: {str(error).split('. ')[0]}")
        return
    if mode & 0o007:
        yield Finding("problem", about, f"{key_path} is open to all users: chmod o= {key_path}")
    leaf = chain[0]
    faults = [*_key(leaf, key, path, key_path), *_dates(chain, now), *_names(leaf, host.name), *_order(chain)]
    for fault in faults:
        yield Finding("problem", about, fault)
    left = leaf.not_valid_after_utc - now
    if timedelta(0) < left < SOON:
        yield Finding(
            "warning", about, f"the certificate runs out in {left.days} days: {leaf.not_valid_after_utc:%Y-%m-%d}"
        )
    if faults:
        return
    refusal = trust(path, key_path, a_labels(host.name), ca_file)
    if refusal is None:
        yield Finding("ok", about, f"certificate good until {leaf.not_valid_after_utc:%Y-%m-%d}, trusted by clients")
    else:
        whom = "the system's CAs" if ca_file is None else str(ca_file)
        yield Finding("warning", about, f"clients that trust {whom} refuse the certificate: {refusal}")


def _key(leaf: x509.Certificate, key: PrivateKeyTypes, path: Path, key_path: Path) -> Iterator[str]:
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        yield f"{key_path} is not the key of {path}"


def _dates(chain: list[x509.Certificate], now: datetime) -> Iterator[str]:
    for number, each in enumerate(chain):
        which = "the certificate" if number == 0 else f"certificate {number + 1} of the chain"
        if now > each.not_valid_after_utc:
            yield f"{which} ran out on {each.not_valid_after_utc:%Y-%m-%d}"
        elif now < each.not_valid_before_utc:
            yield f"{which} is not valid before {each.not_valid_before_utc:%Y-%m-%d}"


def _names(leaf: x509.Certificate, host: str) -> Iterator[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield "the certificate has no subjectAltName: no client takes it (RFC 6125)"
        return
    wanted = a_labels(host).lower()
    found = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    if wanted not in found and f"*.{wanted.partition('.')[2]}" not in found:
        yield f"the certificate is for {', '.join(found) or 'no domain'}, not for {wanted}"


def _order(chain: list[x509.Certificate]) -> Iterator[str]:
    for number, (one, issuer) in enumerate(pairwise(chain), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except Exception:  # ValueError, TypeError, InvalidSignature: all say no
            yield f"certificate {number + 1} of the chain has not issued the one before it"


def trust(path: Path, key_path: Path, name: str, ca_file: Path | None) -> str | None:
    """Shake hands in memory with a client that trusts `ca_file`, or the system's CAs. Returns why it refuses; None if it does not."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server_context.load_cert_chain(path, key_path)
        client_side = client_context(ca_file)
    except OSError as error:  # ssl.SSLError is one too
        return str(error.strerror or error)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(down, up, server_hostname=name)
    server = server_context.wrap_bio(up, down, server_side=True)
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except ssl.SSLError as error:
            return str(error.reason or error)
    return None


# ---- DNS ----


def dns_records(config: Config, host: Host, resolver: dns.resolver.Resolver) -> Iterator[Finding]:
    """Look whether clients that know the domain alone find a port of ours (RFC 6120 section 3.2, XEP-0368)."""
    from dns.exception import DNSException

    try:
        yield from _dns_records(config, host, resolver)
    except DNSException as error:
        yield Finding("problem", host.name, f"DNS does not answer: {_why(error)}")


def _dns_records(config: Config, host: Host, resolver: dns.resolver.Resolver) -> Iterator[Finding]:
    domain = a_labels(host.name)
    found = False
    for service, addresses in (("_xmpp-client", config.c2s.listen), ("_xmpps-client", config.c2s.listen_tls)):
        for target, port in _srv(resolver, f"{service}._tcp.{domain}"):
            found = True
            yield from _target(resolver, host.name, f"{service}: {target}:{port}", target, port, addresses)
    if not found:
        shown = f"no SRV records: clients go to {domain}:5222"
        yield from _target(resolver, host.name, shown, domain, 5222, config.c2s.listen)


def _srv(resolver: dns.resolver.Resolver, name: str) -> list[tuple[str, int]]:
    from dns.resolver import NXDOMAIN, NoAnswer

    with suppress(NXDOMAIN, NoAnswer):
        return [(record.target.to_text(omit_final_dot=True), record.port) for record in resolver.resolve(name, "SRV")]
    return []


def _target(
    resolver: dns.resolver.Resolver, about: str, shown: str, target: str, port: int, addresses: tuple[Address, ...]
) -> Iterator[Finding]:
    from dns.resolver import NXDOMAIN, NoAnswer

    if target == ".":
        yield Finding("problem", about, f"{shown}: says that there is no such service")
        return
    ips: list[str] = []
    why = "has no address"
    for kind in ("A", "AAAA"):
        try:
            ips += [record.address for record in resolver.resolve(target, kind)]
        except (NXDOMAIN, NoAnswer) as error:
            why = _why(error)
    if not ips:
        yield Finding("problem", about, f"{shown}: {target} cannot be resolved: {why}")
    elif port not in {address.port for address in addresses}:
        yield Finding("problem", about, f"{shown}: the server does not listen on port {port}")
    else:
        yield Finding("ok", about, f"{shown} ({', '.join(ips)})")


def _why(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".") or type(error).__name__
