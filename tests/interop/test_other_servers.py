# SPDX-License-Identifier: Apache-2.0
"""Our client at Prosody and ejabberd, on both loops: verified TLS, roster, presence, messages, ping, discovery, pubsub, reconnect."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme
from anyio.abc import SocketAttribute

import xiot
from tests.client.both import next_of, on_both, until
from xiot.core import JID
from xiot.xep import disco, roster, version

from .peers import missing

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret \u00e9&<"
START_S = 30.0
USERS = ("romeo", "juliet", "boiler")
CONFIGS = {"prosody": "prosody.cfg.lua", "ejabberd": "ejabberd.yml"}


@dataclass
class Other:
    """A server of somebody else on loopback."""

    name: str
    address: str
    tls_address: str
    ca_file: Path

    def connect(self, jid: str, **options: Any) -> Any:
        """`xiot.connect` over STARTTLS with the certificate verified."""
        return xiot.connect(jid, PASSWORD, **{"address": self.address, "ca_file": self.ca_file, **options})


def harness() -> Any:
    """benches/load/harness.py, which knows how these servers are started."""
    if "load_harness" not in sys.modules:
        spec = importlib.util.spec_from_file_location("load_harness", ROOT / "benches/load/harness.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["load_harness"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["load_harness"]


@pytest.fixture(scope="module", params=CONFIGS)
def other(request: pytest.FixtureRequest) -> Iterator[Other]:
    """The server, with the accounts in `USERS`."""
    name = request.param
    if (reason := harness().KINDS[name].missing()) is not None:
        missing(reason)
    folder = Path(tempfile.mkdtemp(prefix="xiot-"))  # short: the path of a socket is in it
    try:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        soon = datetime.now(UTC) + timedelta(days=2)  # ejabberd sets timers on it, and fails if it is too far
        ours = authority.issue_cert("localhost", not_after=soon)
        files = harness().Place(folder, 0, 0, None)  # what is there is not made anew
        ours.private_key_pem.write_to_path(files.key)
        for pem in ours.cert_chain_pems:
            pem.write_to_path(files.certificate, append=True)
        ours.private_key_and_cert_chain_pem.write_to_path(files.both)
        kind = replace(harness().KINDS[name], config=str(Path(__file__).with_name("servers") / CONFIGS[name]))
        place = harness().make_place(kind, folder, None)
        with harness().running(kind, place):
            ready(place.tls_port, folder / "ca.pem")
            for user in USERS:
                register(place.tls_port, folder / "ca.pem", user)
            yield Other(name, f"127.0.0.1:{place.port}", f"127.0.0.1:{place.tls_port}", folder / "ca.pem")
    finally:
        shutil.rmtree(folder)


def ready(port: int, ca_file: Path) -> None:
    """Wait until TLS works: ejabberd listens before it has read its certificates."""
    context = ssl.create_default_context(cafile=ca_file)
    end = time.monotonic() + START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
                context.wrap_socket(plain, server_hostname="localhost").close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def register(port: int, ca_file: Path, user: str) -> None:
    """Make an account (XEP-0077), by plain sockets."""
    context = ssl.create_default_context(cafile=ca_file)
    password = PASSWORD.replace("&", "&amp;").replace("<", "&lt;")
    fields = f"<username>{user}</username><password>{password}</password>"
    header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>"
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(header.encode())
        heard = b""
        while b"</stream:features>" not in heard:
            heard += sock.recv(4096)
        sock.sendall(f"<iq type='set' id='r'><query xmlns='jabber:iq:register'>{fields}</query></iq>".encode())
        heard = b""
        while b"<iq" not in heard or b">" not in heard.partition(b"<iq")[2]:
            heard += sock.recv(4096)
        assert b"result" in heard, heard


@on_both
@pytest.mark.parametrize("tls", ["required", "direct"])
async def test_login_with_the_certificate_verified(other: Other, tls: str) -> None:
    address = other.tls_address if tls == "direct" else other.address
    async with other.connect("romeo@localhost/x", tls=tls, address=address) as romeo:
        assert romeo.jid == JID("romeo@localhost/x")
        assert await romeo.ping() > 0
        assert await romeo.ping(JID("localhost")) > 0
    with pytest.raises(xiot.LinkError, match="the certificate of localhost is refused"):
        async with other.connect("romeo@localhost", tls=tls, address=address, ca_file=None):
            pass


@on_both
async def test_a_wrong_password_is_refused(other: Other) -> None:
    with pytest.raises(xiot.AuthError, match="not-authorized"):
        async with xiot.connect("romeo@localhost", "wrong", address=other.address, ca_file=other.ca_file):
            pass


@on_both
async def test_discovery_and_version(other: Other) -> None:
    async with other.connect("romeo@localhost") as romeo:
        info = await disco.info(romeo, JID("localhost"))
        assert ("server", "im") in [(identity.category, identity.type) for identity in info.identities]
        assert "urn:xmpp:ping" in [feature.var for feature in info.features]
        services = [item.jid for item in await disco.items(romeo, JID("localhost"))]
        assert JID("pubsub.localhost") in services
        assert other.name in str((await version.version(romeo, JID("localhost"))).name).lower()


@on_both
async def test_messages_go_both_ways(other: Other) -> None:
    text = "\U0001f339 a & <b> \u00e9\ud55c"
    async with other.connect("romeo@localhost/x") as romeo, other.connect("juliet@localhost/y") as juliet:
        await romeo.send_message(juliet.jid, text)
        got = await next_of(juliet.messages())
        assert (got.sender, got.type, got.body) == (romeo.jid, "chat", text)
        await juliet.send_message(romeo.jid, text[::-1])
        assert (await next_of(romeo.messages())).body == text[::-1]
        assert await romeo.ping(juliet.jid) > 0


@on_both
async def test_roster_changes_are_pushed_and_versions_kept(other: Other) -> None:
    contact = JID("nurse@localhost")
    async with other.connect("romeo@localhost/x") as one, other.connect("romeo@localhost/y") as two:
        for client in (one, two):
            await roster.fetch(client, client.roster)
        await roster.set_item(one, contact, "Nurse & <co>", ["a", "b"])
        await until(lambda: contact in two.roster.items)
        item = two.roster.items[contact]
        assert (item.name, set(item.groups), item.subscription) == ("Nurse & <co>", {"a", "b"}, "none")
        await roster.fetch(two, two.roster)  # with the version it has: nothing has changed
        assert contact in two.roster.items
        await roster.remove(one, contact)
        await until(lambda: contact not in two.roster.items)


@on_both
async def test_presence_of_another_resource(other: Other) -> None:
    async with other.connect("romeo@localhost/x") as one, other.connect("romeo@localhost/y") as two:
        await one.send_presence(show="away", status="in the orchard", priority=3)
        await two.send_presence()
        seen = await next_of(two.presences())
        while seen.sender != one.jid:
            seen = await next_of(two.presences())
        assert (seen.type, seen.show, seen.status, seen.priority) == (None, "away", "in the orchard", 3)


@on_both
async def test_readings_go_through_pubsub_and_a_cut(other: Other) -> None:
    node = f"plant/{uuid4().hex}"
    async with other.connect("boiler@localhost/x") as boiler, other.connect("romeo@localhost/y") as romeo:
        await boiler.publish(node, xiot.reading(temperature=(20.5, "Cel")))
        async with romeo.subscribe(node) as items:
            for degrees in (21.5, 22.5):
                await boiler.publish(node, xiot.reading(temperature=(degrees, "Cel")))
            read: list[float] = []
            while 22.5 not in read:  # ejabberd sends the last item first
                read.append((await next_of(items)).reading["temperature"].value)
            assert read[-2:] == [21.5, 22.5]
            for client in (boiler, romeo):
                wire = client._streams.wire
                wire.transport.extra(SocketAttribute.raw_socket).shutdown(socket.SHUT_RDWR)
                await until(lambda c=client, w=wire: c.connected and c._streams.wire not in (None, w), 30)  # type: ignore[misc]
            await boiler.publish(node, xiot.reading(temperature=(23.5, "Cel")))
            assert (await next_of(items, 30)).reading["temperature"].value == 23.5
