# SPDX-License-Identifier: Apache-2.0
"""Logging in end to end: our client at our server, over TCP and TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.lowlevel
import trio.testing

import xiot
from tests.proto.test_sasl2 import authenticate
from xiot.client.memory import Memory
from xiot.core import JID, Element
from xiot.errors import AuthError, LinkError, StreamError
from xiot.model.blocking import Block
from xiot.model.effects import Tx
from xiot.net.listen import USER_TIMEOUT_S
from xiot.net.tls import client_context, fingerprints
from xiot.proto import bind2, sasl2
from xiot.proto.known import Known
from xiot.proto.sasl import NS as SASL
from xiot.proto.scram import ScramClient, salted_password
from xiot.server.hooks import BLOCKLIST
from xiot.server.session import ClientSession

from .attacks import Peer
from .serving import HOST, PASSWORD, Running, serving

ROMEO = JID(f"romeo@{HOST}")


async def mechanism_of(running: Running, **options: Any) -> str:
    """Log in as romeo; return the mechanism that the server saw."""
    with structlog.testing.capture_logs() as logs:
        async with running.connect("romeo", **options) as client:
            await client.ping()
    return next(str(entry["mechanism"]) for entry in logs if entry["event"] == "c2s bound")


@pytest.mark.security(row=35, statement=37)
async def test_login_is_bound_to_the_channel_and_the_next_one_is_by_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        memory = Memory()
        assert await mechanism_of(running, memory=memory) == "SCRAM-SHA-256-PLUS"
        first = memory.get(ROMEO)
        assert (first.tls, first.plus, first.mechanism) == (True, True, "SCRAM-SHA-256")
        assert first.token is not None
        for count in (1, 2):
            assert await mechanism_of(running, memory=memory) == "HT-SHA-256-ENDP"
            token = memory.get(ROMEO).token
            assert token is not None
            assert (token.token, token.count) == (first.token.token, count)
        assert await mechanism_of(running) == "SCRAM-SHA-256-PLUS"  # who remembers nothing has no token


async def test_token_needs_no_password_and_survives_restarts_of_both(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    async with serving(tmp_path) as running:
        await running.account("romeo")
        assert await mechanism_of(running, memory=path) == "SCRAM-SHA-256-PLUS"
    async with serving(tmp_path) as running:
        assert await mechanism_of(running, memory=str(path)) == "HT-SHA-256-ENDP"


@pytest.mark.parametrize("end", ["password", "removed", "expired", "replayed"])
async def test_token_that_is_no_good_falls_back_to_the_password(tmp_path: Path, end: str) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        memory = Memory()
        await mechanism_of(running, memory=memory)
        known = memory.get(ROMEO)
        accounts = running.server.accounts
        if end == "password":
            await accounts.passwd(ROMEO, "s3cret")
        elif end == "removed":
            await accounts.remove(ROMEO)
            await running.account("romeo")
        elif end == "expired":
            accounts.tokens.lifetime *= -1
            issued = await accounts.tokens.issue(ROMEO, known.client, "HT-SHA-256-ENDP")
            assert issued is not None
            memory.put(ROMEO, Known(known.tls, known.plus, known.mechanism, known.client, issued))
            accounts.tokens.lifetime *= -1
        else:
            await mechanism_of(running, memory=memory)
            memory.put(ROMEO, known)  # the count begins again
        before = memory.get(ROMEO).token
        assert await mechanism_of(running, memory=memory) == "SCRAM-SHA-256-PLUS"
        after = memory.get(ROMEO).token
        assert after is not None
        assert after != before


async def test_tokens_can_be_turned_off(tmp_path: Path) -> None:
    async with serving(tmp_path, accounts="token_days = 0") as running:
        await running.account("romeo")
        memory = Memory()
        await mechanism_of(running, memory=memory)
        assert memory.get(ROMEO).token is None


async def test_same_client_replaces_itself_and_another_one_does_not(tmp_path: Path) -> None:
    """XEP-0386 section 3.2."""
    async with serving(tmp_path) as running:
        await running.account("romeo")
        memory = Memory()
        async with running.connect("romeo", memory=memory) as first, running.connect("romeo") as other:
            async with running.connect("romeo", memory=memory) as again:
                assert again.jid == first.jid
                assert other.jid != first.jid
                with pytest.raises(StreamError, match="conflict"):
                    await first.ping()
                await again.ping()
                await other.ping()
            assert len(running.server.hosts[HOST].sessions(ROMEO)) == 1


async def test_certain_resource_is_bound_the_old_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/orchard") as client:
            assert client.jid == JID("romeo@localhost/orchard")
            await client.ping()


@pytest.mark.security(statement=(25, 51))
async def test_more_resources_than_allowed_are_refused_and_the_old_ones_live(tmp_path: Path) -> None:
    async with serving(tmp_path, resources_per_account=2) as running:
        await running.account("romeo")
        async with running.connect("romeo") as first, running.connect("romeo") as second:
            with pytest.raises(StreamError, match="resource-constraint"):
                async with running.connect("romeo"):
                    pass
            await first.ping()
            await second.ping()


@pytest.mark.security(statement=61)
async def test_stanzas_larger_than_before_login_pass_after_it(tmp_path: Path) -> None:
    """There is no restart at which the limits would change."""
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as client:
            await client.send_message(client.jid, "x" * 50_000)
            assert (await anext(client.messages())).body == "x" * 50_000


@pytest.mark.security(row=35)
async def test_server_that_has_lost_channel_binding_gets_no_password(tmp_path: Path) -> None:
    """The error says what to do."""
    async with serving(tmp_path) as running:
        await running.account("romeo")
        memory = Memory()
        await mechanism_of(running, memory=memory)
    known = memory.get(ROMEO)
    memory.put(ROMEO, Known(known.tls, known.plus, known.mechanism, known.client))
    config = 'mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-1"]'
    async with serving(tmp_path, host=config) as running:
        with pytest.raises(AuthError, match="channel before, and now it cannot"):
            await mechanism_of(running, memory=memory)
        memory.forget(ROMEO)
        assert await mechanism_of(running, memory=memory) == "SCRAM-SHA-256"


@pytest.mark.security(row=25, statement=35)
async def test_server_that_has_lost_tls_gets_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        memory = Memory()
        await mechanism_of(running, memory=memory)
    async with serving(tmp_path, starttls="off") as running:
        with pytest.raises(AuthError, match="had TLS before"):
            await mechanism_of(running, memory=memory, tls="optional")


# ---- pins ----


def certificate(running: Running) -> bytes:
    pem = (Path(running.server.config.data_dir) / "tls" / f"{HOST}.pem").read_text()
    return ssl.PEM_cert_to_DER_cert(pem)


async def test_pin_of_certificate_or_key_lets_the_server_through_without_a_ca(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        for pin in fingerprints(certificate(running)):
            colons = ":".join(pin[i : i + 2] for i in range(0, 64, 2)).upper()
            running.ca_file = None
            assert await mechanism_of(running, pins=["0" * 64, colons]) == "SCRAM-SHA-256-PLUS"


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.security(row=35)
async def test_other_certificate_than_the_pinned_is_refused(tmp_path: Path, trusted: bool) -> None:
    """Even if a CA vouches for it."""
    async with serving(tmp_path) as running:
        await running.account("romeo")
        running.ca_file = running.ca_file if trusted else None
        for tls, address in (("required", running.address), ("direct", running.tls_address)):
            running.address = address
            with pytest.raises(LinkError, match="none of those that are pinned"):
                await mechanism_of(running, pins=["ab" * 32], tls=tls)


@pytest.mark.parametrize("pin", ["", "ab", "x" * 64, "ab" * 33])
def test_pin_that_is_no_fingerprint_is_refused(pin: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        client_context(pins=[pin])


async def test_context_that_verifies_nothing_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        careless = ssl.create_default_context(cafile=running.ca_file)
        careless.check_hostname = False
        nothing = ssl.create_default_context()
        nothing.check_hostname = False
        nothing.verify_mode = ssl.CERT_NONE
        running.ca_file = None
        for context in (careless, nothing):
            with pytest.raises(ValueError, match="anybody"):
                await mechanism_of(running, ssl_context=context)
        with pytest.raises(ValueError, match="brings its own"):
            await mechanism_of(running, ssl_context=running.tls, pins=["ab" * 32])


async def test_ready_context_is_used(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        context, running.ca_file = running.tls, None
        assert await mechanism_of(running, ssl_context=context) == "SCRAM-SHA-256-PLUS"


# ---- budgets ----


async def guess(running: Running, name: str = "romeo", **options: Any) -> str:
    """Log in with a wrong password; return what comes back."""
    with pytest.raises((AuthError, StreamError, LinkError)) as caught:
        async with xiot.connect(f"{name}@{HOST}", "wrong", address=running.address, ca_file=running.ca_file, **options):
            pass
    return str(caught.value)


@pytest.mark.security(row=43)
async def test_address_that_guesses_is_turned_away_for_a_while(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_failures_per_address=3, auth_failure_delay_s=0) as running:
        await running.account("romeo", "juliet")
        for name in ("romeo", "juliet", "nobody"):
            assert "not-authorized" in await guess(running, name)
        assert "policy-violation" in await guess(running)
        with pytest.raises(StreamError, match="policy-violation"):
            await mechanism_of(running)


@pytest.mark.security(row=43)
async def test_account_that_is_guessed_at_is_closed_only_to_strangers(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_failures_per_account=2, auth_failure_delay_s=0) as running:
        await running.account("romeo", "juliet")
        memory = Memory()
        await mechanism_of(running, memory=memory)
        running.server.budgets._friends.clear()  # as if that had been another address
        for _ in range(2):
            assert "not-authorized" in await guess(running)
        level = running.server.budgets._accounts._buckets[str(ROMEO)]
        assert "temporary-auth-failure" in await guess(running)
        assert running.server.budgets._accounts._buckets[str(ROMEO)] == level  # what is refused prolongs nothing
        assert await mechanism_of(running, memory=memory) == "HT-SHA-256-ENDP"  # nobody guesses a token
        assert await mechanism_of(running) == "SCRAM-SHA-256-PLUS"  # and this address is known now
        async with running.connect("juliet"):
            pass


@pytest.mark.security(row=43)
async def test_failure_is_answered_at_once_and_then_the_stream_waits(tmp_path: Path) -> None:
    """Slower guesses; and others do not wait."""
    async with serving(tmp_path, auth_failure_delay_s=0.5) as running:
        await running.account("romeo")
        stream = trio.SSLStream(await running.raw_tls(), running.tls, server_hostname=HOST)
        async with stream.transport_stream, trio.open_nursery() as nursery:
            await stream.send_all(
                b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                b"xmlns:stream='http://etherx.jabber.org/streams'>"
            )
            received = b""
            while b"</stream:features>" not in received:
                received += await stream.receive_some()
            begin = trio.current_time()
            for _ in range(2):
                received = b""
                await stream.send_all(authenticate("PLAIN", b"\0romeo\0wrong").encode())
                while b"</failure>" not in received:
                    received += await stream.receive_some()
            assert trio.current_time() - begin >= 0.45
            nursery.start_soon(mechanism_of, running)


# ---- what others do within the login ----


async def test_features_are_turned_on_within_the_login(tmp_path: Path) -> None:
    """The registry of `HostPolicy`: in order, also slow ones, and those of Bind 2 once the resource is bound."""
    seen: list[str] = []

    async def slow(session: ClientSession, wish: Element) -> Element:
        await trio.lowlevel.checkpoint()
        seen.append(f"slow {wish.name} bound={session.bound}")
        return Element("{urn:slow}failed")

    def quick(session: ClientSession, wish: Element) -> Element:
        seen.append(f"quick {wish.name} {session.jid.bare}")
        return Element("{urn:quick}enabled")

    async with serving(tmp_path) as running:
        await running.account("romeo")
        host = running.server.hosts[HOST]
        host.policy = replace(
            host.policy,
            inline=(sasl2.Inline("urn:slow", Element("{urn:slow}slow"), slow),),
            bind_inline=(sasl2.Inline("urn:quick", "urn:quick", quick),),
        )
        inside = f"<resume xmlns='urn:slow'/><bind xmlns='{bind2.NS}'><enable xmlns='urn:quick'/></bind>"
        sent = await log_in_raw(running, inside)
        assert seen == ["slow resume bound=False", f"quick enable romeo@{HOST}"]
        assert b"<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:quick'/></bound><failed xmlns='urn:slow'/>" in sent


async def test_session_that_is_resumed_binds_nothing(tmp_path: Path) -> None:
    """XEP-0386 section 3.2: and what it has to send comes behind the success."""
    async with serving(tmp_path) as running:
        await running.account("romeo")

        def resume(session: ClientSession, wish: Element) -> sasl2.Resumed:
            def then() -> None:
                session.connection.link.write(b"<message/>")

            return sasl2.Resumed(ROMEO.with_resource("old"), Element("{urn:sm}resumed"), then)

        host = running.server.hosts[HOST]
        host.policy = replace(host.policy, inline=(sasl2.Inline("urn:sm", Element("{urn:sm}sm"), resume),))
        sent = await log_in_raw(running, f"<resume xmlns='urn:sm'/><bind xmlns='{bind2.NS}'/>", until=b"<message/>")
        assert b"romeo@localhost/old</authorization-identifier><resumed xmlns='urn:sm'/></success><message/>" in sent


async def log_in_raw(running: Running, inside: str, until: bytes = b"</stream:features>") -> bytes:
    """Log romeo in by SASL2 with `inside` in the request; return what comes back."""
    stream = trio.SSLStream(await running.raw_tls(), running.tls, server_hostname=HOST)
    async with stream.transport_stream:
        for sent, end in (
            (
                "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                "xmlns:stream='http://etherx.jabber.org/streams'>",
                b"</stream:features>",
            ),
            (authenticate("PLAIN", b"\0romeo\0" + PASSWORD.encode(), inside), until),
        ):
            received = b""
            await stream.send_all(sent.encode())
            while end not in received:
                received += await stream.receive_some()
        return received


# ---- what a login costs ----


class Spawned(trio.abc.Instrument):
    """The tasks that a server starts for its sessions."""

    def __init__(self, running: Running) -> None:
        self._nursery = running.server.nursery
        self.names: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if task.parent_nursery is self._nursery:
            self.names.append(task.name)


async def by_scram(running: Running, name: str) -> Peer:
    """Log in by SCRAM-SHA-1, bind, be available; what the server sends last is the answer to a ping."""
    peer = Peer(await running.raw(), patience_s=5)
    scram = ScramClient("SCRAM-SHA-1", name)
    await peer.open()
    first = b64encode(scram.first()).decode()
    await peer.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{first}</auth>".encode())
    await peer.until(b"</challenge>")
    salt, iterations = scram.challenge(b64decode(peer.received.rpartition(b"sasl'>")[2].partition(b"<")[0]))
    final = b64encode(scram.final(salted_password("SCRAM-SHA-1", PASSWORD, salt, iterations))).decode()
    await peer.send(f"<response xmlns='{SASL}'>{final}</response>".encode())
    await peer.until(b"</success>")
    await peer.open()
    await peer.send(b"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    await peer.send(b"<presence/><iq type='get' id='last' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
    return peer


async def test_login_by_scram_and_logout_start_no_task(tmp_path: Path) -> None:
    async with serving(tmp_path, starttls="off", plain=True) as running:
        await running.account("romeo")
        await trio.testing.wait_all_tasks_blocked()
        spawned = Spawned(running)
        trio.lowlevel.add_instrument(spawned)
        peer = await by_scram(running, "romeo")
        await peer.until(b"id='last'")
        await peer.ending(b"</stream:stream>")
        trio.lowlevel.remove_instrument(spawned)
        await trio.aclose_forcefully(peer.stream)
        assert spawned.names == []


async def test_login_waits_for_a_transaction_that_may_change_what_it_reads(tmp_path: Path) -> None:
    """Above all whom it blocks, and which messages wait."""
    go_on = threading.Event()

    def slow(tx: Tx) -> None:
        go_on.wait(10)
        tx.blocks.put(Block("romeo@localhost", "juliet@localhost"))

    async with serving(tmp_path, starttls="off", plain=True) as running, trio.open_nursery() as nursery:
        await running.account("romeo")
        nursery.start_soon(running.server.store.run, slow)
        peer = await by_scram(running, "romeo")
        with trio.move_on_after(0.2):
            await peer.ending()
        assert b"id='bind'" not in peer.received
        go_on.set()
        await peer.until(b"id='last'")
        (session,) = running.server.hosts[HOST].sessions(ROMEO)
        assert session.connection.link.hooks & BLOCKLIST
        await trio.aclose_forcefully(peer.stream)


async def test_logout_is_seen_by_whoever_asks_next_though_it_is_stored_later(tmp_path: Path) -> None:
    async with serving(tmp_path, starttls="off", plain=True) as running:
        await running.account("romeo")
        peer = await by_scram(running, "romeo")
        await peer.until(b"id='last'")
        await peer.ending(b"</stream:stream>")
        await trio.aclose_forcefully(peer.stream)
        assert await running.server.store.run(lambda tx: tx.logouts.get(str(ROMEO))) is not None


async def test_accepted_connection_is_watched_by_the_kernel(tmp_path: Path) -> None:
    """So that a peer that is gone without a word is found out."""
    async with serving(tmp_path) as running:
        stream = await running.raw()
        await trio.sleep(0.1)
        (connection,) = running.server.pump.connections()
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_S * 1000
        assert not connection.sock.getblocking()
        await stream.aclose()
