# SPDX-License-Identifier: Apache-2.0
"""The server's configuration: one TOML file, read into typed, frozen tables.

A file is either taken whole or refused with one line that names the place, such as ``host[0].registration``, and, for a
name that looks mistyped, the one that was probably meant.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import msgspec
from msgspec import inspect

from xiot.core import JID
from xiot.errors import XiotError
from xiot.exi.aliases import ours

__all__ = [
    "C2S",
    "Accounts",
    "Address",
    "Config",
    "ConfigError",
    "Contact",
    "Exi",
    "ExiAlias",
    "Host",
    "HostName",
    "HostPort",
    "Http",
    "Limits",
    "Log",
    "Mechanism",
    "Tls",
    "Uri",
    "find",
    "load",
    "takeable",
]

Mechanism = Literal[
    "EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "ANONYMOUS"
]

MAX_SHOWN = 100
"""Characters of a wrong value in a message: the line stays one that people read."""

Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
CountOrOff = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
StanzaBytes = Annotated[int, msgspec.Meta(ge=10_000, le=2**30)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=7 * 86_400)]
SecondsOrOff = Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)]


class ConfigError(XiotError):
    """The configuration cannot be used; the text is one line: file, place, what is wrong."""

    exit_code = 78
    """EX_CONFIG of sysexits.h."""


class HostName(str):
    """The domain of a JID, prepared (RFC 7622 section 3.2)."""

    def __new__(cls, text: str) -> Self:
        """Raises ValueError if `text` is not a domain."""
        try:
            jid = JID(text)
        except ValueError:
            raise ValueError(f"{_toml(text)} is not a host name") from None
        if jid.local is not None or jid.resource is not None:
            raise ValueError(f"{_toml(text)} is not a host name but a JID")
        return super().__new__(cls, jid.domain)


class Address(str):
    """Where to listen: ``127.0.0.1:5222`` or ``[::1]:5222``. Port 0 is any free one."""

    host: str
    port: int

    def __new__(cls, text: str) -> Self:
        """Raises ValueError if `text` is not an IP address and a port."""
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", text, re.ASCII)
        if match is None:
            raise ValueError(f"{_toml(text)} is not like 127.0.0.1:5222 or [::1]:5222")
        ipv6, ipv4, port = match.groups()
        try:
            host = ipaddress.IPv6Address(ipv6) if ipv6 else ipaddress.IPv4Address(ipv4)
        except ValueError:
            raise ValueError(f"{ipv6 or ipv4} is not an IP address") from None
        if int(port) > 65_535:
            raise ValueError(f"{port} is not a port: it goes up to 65535")
        self = super().__new__(cls, f"[{host}]:{int(port)}" if ipv6 else f"{host}:{int(port)}")
        self.host = str(host)
        self.port = int(port)
        return self


class HostPort(str):
    """Where to connect: ``node1.plant.example:5222``."""

    def __new__(cls, text: str) -> Self:
        """Raises ValueError if `text` is not a host and a port."""
        host, colon, port = text.rpartition(":")
        if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65_536) or not re.fullmatch(
            r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+", host
        ):
            raise ValueError(f"{_toml(text)} is not like node1.plant.example:5222")
        return super().__new__(cls, text)


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: a key that is not a field is an error."""


class Uri(str):
    """An URI, such as ``mailto:abuse@plant.example``."""

    def __new__(cls, text: str) -> Self:
        """Raises ValueError if `text` is not an absolute URI."""
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+", text) is None:
            raise ValueError(f"{_toml(text)} is not an URI like mailto:abuse@plant.example")
        return super().__new__(cls, text)


class Contact(_Table, frozen=True):
    """``[host.contact]``: URIs at which people are reached, told to everybody (XEP-0157)."""

    abuse: tuple[Uri, ...] = ()
    admin: tuple[Uri, ...] = ()
    feedback: tuple[Uri, ...] = ()
    sales: tuple[Uri, ...] = ()
    security: tuple[Uri, ...] = ()
    status: tuple[Uri, ...] = ()
    support: tuple[Uri, ...] = ()


class Host(_Table, frozen=True):
    """``[[host]]``: one domain that this server answers for."""

    name: HostName
    admins: tuple[JID, ...] = ()
    """Bare JIDs that may administer this host."""

    registration: Literal["off", "open"] = "off"
    """Who may make an account over the stream (XEP-0077). Off: open servers are used for spam accounts."""

    mechanisms: tuple[Mechanism, ...] = get_args(Mechanism)[:-1]
    """What to offer for login, best first; one that cannot work on a stream (binding without TLS) is left out there."""

    certificate: Path | None = None
    private_key: Path | None = None

    client_ca: Path | None = None
    """PEM file of the CAs whose certificates log clients in (EXTERNAL, XEP-0178); that of ``[c2s]`` if none is named."""

    contact: Contact = Contact()

    durable_links: Literal["off", "asked", "all"] = "asked"
    """Which links have every stanza on disk before it is acknowledged, and survive a crash of the server: none, those whose clients
    ask for it, or all with stream management that can be resumed. Each stanza costs a share of a sync of the disk."""

    durable_accounts: tuple[JID, ...] = ()
    """Bare JIDs whose links are durable though their clients do not ask, unless `durable_links` is off."""


class C2S(_Table, frozen=True):
    """``[c2s]``: where and how clients connect."""

    listen: tuple[Address, ...] = (Address("0.0.0.0:5222"), Address("[::]:5222"))
    """Streams that begin in the clear (RFC 6120 section 3.2.1)."""

    listen_tls: tuple[Address, ...] = ()
    """Streams inside TLS from the first octet (XEP-0368). None by default: a file that narrows `listen` means it."""

    starttls: Literal["required", "optional", "off"] = "required"
    """Required: without TLS anybody on the way reads and changes the stream (RFC 7590)."""

    client_ca: Path | None = None
    """As that of a host, for all hosts that name none of their own."""

    location: HostPort | None = None
    """Where clients shall come back to resume a session (XEP-0198): this node, if several stand behind one name."""

    plain_without_tls: bool = False
    """SASL PLAIN sends the password itself, so by default only under TLS (RFC 4616)."""


class Tls(_Table, frozen=True):
    """``[tls]``: PEM files for all hosts that name none of their own."""

    certificate: Path | None = None
    private_key: Path | None = None


class Accounts(_Table, frozen=True):
    """``[accounts]``: how passwords are kept."""

    scram_iterations: Annotated[int, msgspec.Meta(ge=4_096, le=1_000_000)] = 10_000
    """PBKDF2 rounds of new passwords. RFC 7677 section 4: at least 4096; our client takes at most a million, and a
    small device pays for each one."""

    token_days: Annotated[int, msgspec.Meta(ge=0, le=366)] = 21
    """How long a client may log in by the token of its last login (XEP-0484); 0: there are none. Longer than a holiday,
    and a lost device has it that long."""


class ExiAlias(_Table, frozen=True):
    """``[[exi.aliases]]``: a schema document that clients name, and what to take for it."""

    namespace: str
    """Its target namespace."""

    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    """Its size."""

    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]

    file: Path | None = None
    """The document itself. None: our schema of this namespace gives the same bits. EXI has no checksum: if it does not, clients and server
    understand different things, and nobody notices."""


class Exi(_Table, frozen=True):
    """``[exi]``: streams in EXI (XEP-0322)."""

    listen: tuple[Address, ...] = ()
    """For EXI from the first octet, in the clear; who speaks XML there is answered in XML. None by default."""

    listen_tls: tuple[Address, ...] = ()
    """The same inside TLS."""

    in_band: bool = True
    """Whether clients under TLS may go on in EXI after the login (XEP-0138)."""

    session_wide: bool = True
    """Whether string tables may be kept from one stanza to the next (`sessionWideBuffers`): half the octets, and some KiB a connection."""

    value_max_length: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 64
    """Characters of a string in those tables, at most: a table is that times `value_partition_capacity`."""

    value_partition_capacity: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 64
    """Strings in them, at most."""

    upload: bool = False
    """Whether clients that have logged in may send schemas, which others use as well: they cost time to compile, and disk."""

    download_hosts: tuple[str, ...] = ()
    """Hosts from which the server fetches schemas when a client asks it to, by HTTPS at port 443 and nowhere else; such as ``schemas.plant.example``."""

    schema_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=2**20)] = 131_072
    """Of one such schema, at most."""

    schemas_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=2**28)] = 4_194_304
    """Of all that are kept; those that were not used for longest go."""

    aliases: tuple[ExiAlias, ...] = ()
    """Schema documents beside those that the server knows."""


class Http(_Table, frozen=True):
    """``[http]``: figures for monitoring, and whether the server is well."""

    listen: tuple[Address, ...] = ()
    """For ``/metrics``, ``/healthz`` and ``/readyz``: loopback, since whoever gets there may read them. None by default."""


class Log(_Table, frozen=True):
    """``[log]``: what goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Info has a line for each login, failed login and end of a session."""


class Limits(_Table, frozen=True):
    """``[limits]``: nothing grows without bound. In each, the reason."""

    max_stanza_bytes: StanzaBytes = 262_144
    """After login. A stanza is held whole in memory; RFC 6120 section 13.12 forbids less than 10000."""

    pre_auth_stanza_bytes: StanzaBytes = 10_000
    """Before login, anybody may send: the least that RFC 6120 section 13.12 allows."""

    pre_auth_s: Seconds = 30.0
    """From connect to login, TLS included: sockets that never log in must not use up the descriptors."""

    max_depth: Annotated[int, msgspec.Meta(ge=8, le=1_000)] = 64
    """Elements within elements: readers of a tree recurse. Real stanzas stay under 20."""

    max_attributes: Annotated[int, msgspec.Meta(ge=16, le=1_024)] = 256
    """On one element: each is compared with the others for duplicates, so many are costly."""

    out_high_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=2**30)] = 1_048_576
    """Waiting for one connection to take it; above, whoever sends to it is slowed."""

    stall_s: Seconds = 60.0
    """A connection above `out_high_bytes` that takes no octet for so long is closed: its peer does not read."""

    idle_s: SecondsOrOff = 1_800.0
    """From a client that is silent: shortly before, it is pinged, and its answer counts as a word. Then the stream ends with
    ``connection-timeout`` (RFC 6120 section 4.9.3.4); 0 is off."""

    account_bytes_per_s: CountOrOff = 0
    """What all sessions of an account may send, on average: one that sends more is not read for the time it owes. 0 is off."""

    account_stanzas_per_s: CountOrOff = 0
    """The same, in stanzas: small ones cost most for their size."""

    address_bytes_per_s: CountOrOff = 0
    """The same for all connections of one IP address (an IPv6 network of 64 bits), logged in or not."""

    address_stanzas_per_s: CountOrOff = 0

    burst_s: Seconds = 10.0
    """How many seconds' worth of a rate may come at once: people and things send in bursts."""

    connections_per_address: CountOrOff = 0
    """Open at a time from one IP address, or IPv6 network of 64 bits (XEP-0205 section 4.1); 0 is off, since many may share
    one behind a NAT."""

    resources_per_account: Count = 32
    """Each costs memory and a copy of every presence (XEP-0205 section 4.4)."""

    offline_messages_per_account: CountOrOff = 1_000
    """Kept until somebody logs in (XEP-0160); 0 is off. A client takes them all at once, and each is somebody's disk."""

    offline_bytes_per_account: CountOrOff = 10_000_000
    """Of all of them: anybody may fill them, so 100 accounts fill a gigabyte at most."""

    stored_bytes_per_account: Annotated[int, msgspec.Meta(ge=10_000, le=2**30)] = 1_048_576
    """Of private data (XEP-0049) and vCard (XEP-0054): a picture and the settings of some clients fit, not a disk."""

    auth_failures_per_stream: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    """Then the stream is closed: slows guessing. RFC 6120 section 6.4.5 recommends 2 to 5."""

    resume_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 600.0
    """How long a session without its connection waits to be resumed (XEP-0198): it keeps its place and memory. 0 is never."""

    dedupe_ids_per_account: CountOrOff = 10_000
    """Origin-ids of messages on durable links that are remembered, the newest: a message that comes again under one of them is not
    taken twice. 0 is off."""

    dedupe_s: Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)] = 86_400.0
    """How long they are remembered: longer than clients go on trying."""

    auth_failure_delay_s: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.5
    """Before a stream is read again after a failed login: guessing takes time, mistyping hardly more."""

    auth_failures_per_address: CountOrOff = 60
    """In ten minutes, sliding; then it is turned away. Many may share one behind a NAT, so not a handful; 0 is off."""

    auth_failures_per_account: CountOrOff = 100
    """In ten minutes, sliding, from all addresses but those it has logged in from; 0 is off."""

    registrations_per_address_per_hour: CountOrOff = 5
    """Where registration is open (XEP-0077): robots register thousands; 0 is off."""


class Config(_Table, frozen=True, rename={"hosts": "host"}):
    """The whole file. All paths in it are absolute, or relative to the working directory as the file itself is."""

    hosts: tuple[Host, ...]
    data_dir: Path = Path("/var/lib/xiot")
    c2s: C2S = C2S()
    tls: Tls = Tls()
    accounts: Accounts = Accounts()
    limits: Limits = Limits()
    exi: Exi = Exi()
    http: Http = Http()
    log: Log = Log()

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "xiot.db"

    def key_pair(self, host: Host) -> tuple[Path, Path] | None:
        """Return certificate and key of `host`, its own or those of ``[tls]``; None if there are to be made ones."""
        for table in (host, self.tls):
            if table.certificate is not None and table.private_key is not None:
                return table.certificate, table.private_key
        return None

    def client_ca(self, host: Host) -> Path | None:
        """Return the CAs of the certificates that log in at `host`; None if none do."""
        return host.client_ca or self.c2s.client_ca


def find() -> Path:
    """Return the file to use when none is named: the first that exists of the usual places. Raises ConfigError."""
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    places = ["/etc/xiot/xiot.toml", f"{own}/xiot/xiot.toml", "xiot.toml"]
    for place in places:
        if os.path.exists(place):  # False too where we may not look
            return Path(place)
    raise ConfigError(f"no configuration file: none of {', '.join(places)}; name one by --config")


def load(path: Path) -> Config:
    """Read and check the file at `path`. Raises ConfigError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return _convert(data, path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ConfigError, ValueError) as error:  # ValueError: not TOML, not UTF-8
        raise ConfigError(f"{path}: {error}") from None


FIXED = {
    "": ("data_dir",),
    "c2s": ("listen", "listen_tls"),
    "exi": ("listen", "listen_tls"),
    "http": ("listen",),
    "limits": ("max_stanza_bytes", "pre_auth_stanza_bytes", "max_depth", "max_attributes", "out_high_bytes"),
}
"""By table, what a running server cannot change: its sockets, its files, and what every parser was made with."""


def takeable(running: Config, wanted: Config) -> tuple[Config, list[str]]:
    """Return what a server that runs with `running` can take over of `wanted`, and the names of what has to wait for a restart."""
    waiting: list[str] = []
    for table, names in FIXED.items():
        old, new = (getattr(config, table) if table else config for config in (running, wanted))
        kept = {name: getattr(old, name) for name in names if getattr(old, name) != getattr(new, name)}
        waiting += [f"{table}.{name}".lstrip(".") for name in kept]
        new = msgspec.structs.replace(new, **kept)
        wanted = msgspec.structs.replace(wanted, **{table: new}) if table else new
    return wanted, waiting


def _convert(data: dict[str, Any], base: Path) -> Config:
    """Turn a parsed file into tables; `base` is where relative paths start."""

    def custom(kind: type, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{_toml(value)} is not a string")
        if kind is JID:
            return _account(value)
        return base / value if kind is Path else kind(value)

    _check_keys(data, inspect.type_info(Config), "")
    try:
        config = msgspec.convert(data, Config, dec_hook=custom)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        message = message[0].lower() + message[1:].replace("`object`", "`table`")
        raise ConfigError(f"{place.rstrip('`')}: {message}") from None
    _check_hosts(config)
    _check_listeners(config)
    _check_aliases(config.exi)
    return msgspec.structs.replace(config, data_dir=base / config.data_dir)


def _account(text: str) -> JID:
    try:
        jid = JID(text)
    except ValueError:
        raise ValueError(f"{_toml(text)} is not a JID") from None
    if jid.local is None or not jid.is_bare:
        raise ValueError(f"{_toml(text)} is not the JID of an account, like admin@example.org")
    return jid


def _check_keys(data: Any, kind: inspect.Type, place: str) -> None:
    """Refuse what msgspec would refuse without a hint: unknown and missing keys, unknown choices."""
    if isinstance(kind, inspect.StructType) and isinstance(data, dict):
        fields = {field.encode_name: field for field in kind.fields}
        for key, value in data.items():
            if key not in fields:
                shown = key if re.fullmatch("[A-Za-z0-9_-]+", key) else _toml(key)
                raise ConfigError(f"{place}{shown}: unknown key{_near(key, fields)}")
            _check_keys(value, fields[key].type, f"{place}{key}.")
        for name, field in fields.items():
            if field.required and name not in data:
                raise ConfigError(f"{place}{name}: missing")
    elif isinstance(kind, inspect.VarTupleType) and isinstance(data, list):
        for index, value in enumerate(data):
            _check_keys(value, kind.item_type, f"{place[:-1]}[{index}].")
    elif isinstance(kind, inspect.LiteralType) and data not in kind.values:
        choices = [str(value) for value in kind.values]
        raise ConfigError(f"{place[:-1]}: {_toml(data)} is not one of {', '.join(choices)}{_near(str(data), choices)}")


def _check_hosts(config: Config) -> None:
    if not config.hosts:
        raise ConfigError("host: at least one [[host]] is needed")
    seen: dict[str, int] = {}
    for index, host in enumerate(config.hosts):
        place = f"host[{index}]"
        if host.name in seen:
            raise ConfigError(f"{place}.name: {host.name} is already host[{seen[host.name]}]")
        seen[host.name] = index
        if not host.mechanisms:
            raise ConfigError(f"{place}.mechanisms: empty, so nobody could log in")
        _check_pair(host, place)
    _check_pair(config.tls, "tls")


def _check_pair(table: Host | Tls, place: str) -> None:
    if (table.certificate is None) != (table.private_key is None):
        there, absent = ("certificate", "private_key") if table.certificate else ("private_key", "certificate")
        raise ConfigError(f"{place}.{absent}: missing, but {there} is given")


def _check_listeners(config: Config) -> None:
    seen: set[Address] = set()
    c2s, exi, http = config.c2s, config.exi, config.http
    for key, addresses in (
        ("c2s.listen", c2s.listen),
        ("c2s.listen_tls", c2s.listen_tls),
        ("exi.listen", exi.listen),
        ("exi.listen_tls", exi.listen_tls),
        ("http.listen", http.listen),
    ):
        for index, address in enumerate(addresses):
            if address in seen and address.port != 0:
                raise ConfigError(f"{key}[{index}]: {address} is listened on twice")
            seen.add(address)


def _check_aliases(config: Exi) -> None:
    seen: dict[tuple[str, int, str], int] = {}
    for index, alias in enumerate(config.aliases):
        place = f"exi.aliases[{index}]"
        key = alias.namespace, alias.bytes, alias.md5
        if key in seen:
            raise ConfigError(f"{place}: the same as exi.aliases[{seen[key]}]")
        seen[key] = index
        if alias.file is None and ours(alias.namespace) is None:
            raise ConfigError(f"{place}.file: missing, and there is no schema of ours for {_toml(alias.namespace)}")


def _near(word: str, words: Iterable[str]) -> str:
    folded = {other.casefold(): other for other in words}
    match = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f"; did you mean {folded[match[0]]}?" if match else ""


def _toml(value: object) -> str:
    """Return `value` on one line, as a reader of TOML knows it."""
    text = msgspec.json.encode(value).decode()
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:MAX_SHOWN])
