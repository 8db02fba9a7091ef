# SPDX-License-Identifier: Apache-2.0
"""The client's door: `connect`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from xiot.client.client import Client
from xiot.client.exi import SchemaSet
from xiot.client.login import MAX_STANZA_BYTES, Encoding, Login, establish
from xiot.client.memory import FileMemory, Memory
from xiot.core import JID
from xiot.ext import Extension
from xiot.net.dial import parse_address
from xiot.net.dns import Dns, Resolver
from xiot.net.tls import verifies
from xiot.xep import standard

if TYPE_CHECKING:
    from xiot.proto.features import Tls


@asynccontextmanager
async def connect(
    jid: JID | str,
    password: str | None = None,
    *,
    address: str | None = None,
    ca_file: str | Path | None = None,
    ssl_context: ssl.SSLContext | None = None,
    pins: Collection[str] = (),
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    memory: Memory | str | Path | None = None,
    tls: Tls | Literal["direct"] = "required",
    plain_without_tls: bool = False,
    timeout: float = 30.0,  # noqa: ASYNC109 - for each of many steps
    reconnect: bool = True,
    outage_s: float = 60.0,
    ping_after_s: float | None = 120.0,
    ping_timeout_s: float = 30.0,
    max_stanza_bytes: int = MAX_STANZA_BYTES,
    durable: bool = False,
    encoding: Encoding = "xml",
    exi_address: str | None = None,
    exi_schemas: SchemaSet = "xiot",
    exi_upload: bool = False,
    resolver: Resolver | None = None,
    extensions: Iterable[Extension] | None = None,
) -> AsyncIterator[Client]:
    """Log in and give a `Client`; leaving the block closes the stream.

    `jid`: the account, with a resource if a certain one is wanted; a domain alone logs in anonymously. `address`: "host:port" of the
    server, else what the SRV records of the JID's domain say (RFC 6120 section 3.2, XEP-0368), else the domain at port 5222; `resolver`
    is asked instead of the system's. The certificate must be valid for the JID's domain, by the system's CAs, `ca_file`, or as
    `ssl_context` says, which must not let just anybody through, whatever the DNS says; or it is one of `pins` (SHA-256 fingerprints of
    certificates or public keys, see `xiot.net.tls.client_context`). `certificate`, `key`: PEM files to log in with instead of a
    password (EXTERNAL). `memory`: what is remembered from login to login, so that nobody talks us down to less TLS, less channel
    binding or a weaker mechanism than before; a path keeps it in a file. `tls`: "required" (STARTTLS, or TLS from the first octet where the DNS knows of it),
    "direct" (from the first octet only), "optional", "off"; without TLS SCRAM is still safe against listeners, PLAIN needs
    `plain_without_tls`. `timeout`: seconds for the login, and for a request that names none. `max_stanza_bytes`: a longer one ends
    the stream. `durable`: the server has on disk what it acknowledges, and goes on with the session even after a crash of its own; that
    costs some milliseconds a stanza. Our messages get an origin-id each, and go again under it if the session could not be resumed: with such a
    server, which remembers them for a day, and a receiver of ours, each arrives exactly once. `NotDurable` if it has no durable links.
    `encoding`: "exi", the stream is XML as compact bits (XEP-0322), where the server can do that; "exi-session", and each stanza may refer to
    strings of those before, which makes it smaller still, and lets who sees its size guess whether a whole string came twice. That is agreed on after the login; or EXI is spoken from the first octet,
    at `exi_address`, or where SRV records of ``_xmpp-bclient._tcp`` lead. `exi_schemas`: what is proposed: "xiot", the set of this project, and where
    the server has not got it the XEPs' own schemas; "xmpp", these alone; or XSD files of yours beside these (``xiot[exi]``), which are sent to a server that misses
    them if `exi_upload`. What the server has not got is left out, its numbers count, and the stream stays XML if nothing is left.

    The first login fails at once; later, if `reconnect`, a lost stream is replaced, until an error comes that is final
    (`xiot.client.reconnect`), and roster, presence and subscriptions are restored. Meanwhile whoever sends waits, at most `outage_s`
    seconds. A server that has been silent for `ping_after_s` seconds (None: for ever) is pinged, and lost if nothing comes for
    `ping_timeout_s` more: so it is known to be dead after 150 s. What was sent and is not acknowledged by TCP ends
    the connection after 60 s.

    Raises LinkError (no connection, no TLS, lost), AuthError (login refused, or the server could not prove that it knows us), TimeoutError,
    ValueError (not a JID, not an address).
    """
    if address is not None:
        parse_address(address)
    if ssl_context is not None and (pins or certificate is not None):
        raise ValueError("an ssl_context brings its own certificates and pins")
    if ssl_context is not None and not verifies(ssl_context):
        raise ValueError("this ssl_context would let just anybody be the server: give ca_file or pins instead")
    if not isinstance(memory, Memory):
        memory = Memory() if memory is None else await anyio.to_thread.run_sync(FileMemory, memory)
    login = Login(
        account=JID(jid),
        password=password,
        address=address,
        ca_file=ca_file,
        ssl_context=ssl_context,
        tls=tls,
        plain_without_tls=plain_without_tls,
        max_stanza_bytes=max_stanza_bytes,
        resolver=resolver or Dns(),
        pins=pins,
        certificate=certificate,
        key=key,
        memory=memory,
        durable=durable,
        encoding=encoding,
        exi_address=exi_address,
        exi_schemas=exi_schemas,
        exi_upload=exi_upload,
    )
    client = Client(
        login,
        standard() if extensions is None else extensions,
        timeout=timeout,
        reconnect=reconnect,
        outage_s=outage_s,
        ping_after_s=ping_after_s,
        ping_timeout_s=ping_timeout_s,
    )
    with anyio.fail_after(timeout):
        wire = await establish(login)
    async with client._living(wire):
        yield client
