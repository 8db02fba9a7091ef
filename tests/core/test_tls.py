# SPDX-License-Identifier: Apache-2.0
"""Tls: links under TLS, by themselves and in a drain; the peer is Python's ssl, or the openssl command."""

from __future__ import annotations

import os
import pty
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID, Link, Router, Stanza, StreamOpen
from _xmppcore.tls import Tls
from tests.core.test_router import A, B, header

NAME = "x.example"
CA = trustme.CA()
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
CA.issue_cert(NAME).configure_cert(SERVER)
CLIENT = ssl.create_default_context()
CA.configure_trust(CLIENT)
RECORD_HEADER = 5
MAX_ROUNDS = 20_000


def records(octets: bytes) -> list[int]:
    """The length of each record (RFC 8446 section 5.2)."""
    lengths, at = [], 0
    while at < len(octets):
        lengths.append(int.from_bytes(octets[at + 3 : at + 5], "big"))
        at += RECORD_HEADER + lengths[-1]
    assert at == len(octets)
    return lengths


def give(tls: Tls, link: Link, octets: bytes) -> None:
    link.router.buffer[: len(octets)] = octets
    tls.receive(link, len(octets))


class Peer:
    """The client's end, and ours with its link."""

    def __init__(self, router: Router, jid: str | None = None, context: ssl.SSLContext = CLIENT) -> None:
        self.link = router.link()
        self.tls = Tls(SERVER)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)
        done = False
        while not (done and self.tls.secured):
            try:
                self.client.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            give(self.tls, self.link, self.outgoing.read())
            if not self.tls.secured:
                self.tls.handshake()
            self.incoming.write(self.take())
        if jid is not None:
            self.link.restart(logged_in=True)
            give(self.tls, self.link, self.sealed(header()))
            assert isinstance(self.tls.feed(self.link), StreamOpen)
            assert self.link.feed() is self.tls.feed(self.link) is None
            self.link.bind(JID(jid))

    def sealed(self, data: bytes) -> bytes:
        self.client.write(data)
        return self.outgoing.read()

    def opened(self, octets: bytes) -> bytes:
        self.incoming.write(octets)
        data = b""
        while self.incoming.pending or self.client.pending():
            try:
                data += self.client.read(65536)
            except ssl.SSLWantReadError:
                break
        return data

    def take(self, last: bool = False) -> bytes:
        """All that our end has to say."""
        octets = b""
        while more := self.tls.output(self.link, last):
            octets += more
            self.tls.sent(len(more))
        return octets


def message(to: str, body: str) -> bytes:
    return f"<message to='{to}'><body>{body}</body></message>".encode()


def stamped(sender: str, to: str, body: str) -> bytes:
    return f"<message from='{sender}' to='{to}'><body>{body}</body></message>".encode()


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.integers(1, 700))
def test_what_is_sent_arrives_however_it_is_cut(sizes: list[int], step: int) -> None:
    router = Router()
    one, two = Peer(router, A), Peer(router, B)
    octets = b"".join(one.sealed(message(B, "x" * size)) for size in sizes)
    for at in range(0, len(octets), step):
        give(one.tls, one.link, octets[at : at + step])
        assert one.tls.feed(one.link) is None
    assert two.opened(two.take()) == b"".join(stamped(A, B, "x" * size) for size in sizes)


def test_many_stanzas_are_one_record_and_a_long_one_several_that_are_full() -> None:
    peer = Peer(Router(), A)
    for _ in range(100):
        peer.link.write(b"<presence from='%s'/>" % (b"x" * 100))
    octets = peer.take()
    assert len(records(octets)) == 1
    assert len(peer.opened(octets)) == 100 * 119
    peer.link.write(bytes(50_000))
    octets = peer.take()
    assert [length >= 16384 for length in records(octets)] == [True, True, True, False]
    assert peer.opened(octets) == bytes(50_000)


def test_event_is_returned_and_what_is_behind_it_stays_encrypted() -> None:
    peer = Peer(Router(), A)
    give(peer.tls, peer.link, peer.sealed(b"<iq type='get' id='1'/>") + peer.sealed(b"<iq type='get' id='2'/>"))
    for number in "12":
        event = peer.tls.feed(peer.link)
        assert isinstance(event, Stanza)
        assert event.id == number
        assert peer.link.feed() is None
    assert peer.tls.feed(peer.link) is None


def test_output_is_the_same_until_it_is_sent() -> None:
    peer = Peer(Router(), A)
    peer.link.write(b"<presence/>")
    octets = peer.tls.output(peer.link, False)
    peer.link.write(b"<iq/>")
    assert peer.tls.output(peer.link, False) is octets
    peer.tls.sent(10)
    assert peer.tls.output(peer.link, False) == peer.tls.unsent == octets[10:]
    peer.tls.sent(len(octets) - 10)
    assert peer.opened(octets + peer.take()) == b"<presence/><iq/>"


def test_nothing_queued_leaves_before_the_handshake_is_done() -> None:
    link, tls = Router().link(), Tls(SERVER)
    link.write(b"<presence/>")
    assert not tls.handshake()
    assert tls.feed(link) is None
    assert tls.output(link, True) == b""
    assert link.queued_bytes == len(b"<presence/>")


def test_good_bye_is_behind_the_last_stanza_and_that_of_the_peer_an_exception() -> None:
    peer = Peer(Router(), A)
    peer.link.write(b"</stream:stream>")
    octets = peer.take(last=True)
    assert len(records(octets)) == 2
    assert peer.opened(octets) == b"</stream:stream>"
    peer.client.unwrap()
    give(peer.tls, peer.link, peer.outgoing.read())
    with pytest.raises(ssl.SSLZeroReturnError):
        peer.tls.feed(peer.link)


def test_what_was_changed_on_the_way_is_refused_and_what_was_before_it_is_not() -> None:
    router = Router()
    one, two = Peer(router, A), Peer(router, B)
    good, bad = one.sealed(message(B, "good")), bytearray(one.sealed(message(B, "bad")))
    bad[-1] ^= 1
    give(one.tls, one.link, good + bytes(bad))
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC|bad record mac"):
        one.tls.feed(one.link)
    assert two.opened(two.take()) == stamped(A, B, "good")
    with pytest.raises(ssl.SSLError):  # the alert
        one.opened(one.take())


def test_more_than_the_buffer_holds_is_a_misuse() -> None:
    router = Router()
    for n in (-1, 65537):
        with pytest.raises(ValueError, match="buffer"):
            Tls(SERVER).receive(router.link(), n)


if sys.platform == "linux":
    from tests.core.test_drain import Bench

    @pytest.fixture
    def bench() -> Iterator[Bench]:
        bench = Bench()
        yield bench
        bench.close()

    def join(bench: Bench, jid: str) -> tuple[Peer, socket.socket, socket.socket]:
        """A peer in the drain of the bench, our socket and its own."""
        peer = Peer(bench.router, jid)
        ours, theirs = socket.socketpair()
        bench.sockets += [ours, theirs]
        ours.setblocking(False)
        theirs.settimeout(5)
        bench.links[ours.fileno()] = peer.link
        bench.drain.add(peer.link, ours.fileno(), peer.tls)
        bench.epoll.register(ours, select.EPOLLIN)
        return peer, ours, theirs

    def test_drain_carries_messages_between_tls_and_plain_without_the_caller(bench: Bench) -> None:
        one, _, theirs_one = join(bench, A)
        two, _, theirs_two = bench.connect(B)
        octets_out = 0
        for k in range(50):
            theirs_one.sendall(one.sealed(message(B, str(k))))
            theirs_two.sendall(message(A, str(k)))
            assert bench.run() == []
            assert theirs_two.recv(4096) == stamped(A, B, str(k))
            octets = theirs_one.recv(4096)
            octets_out += len(octets)
            assert one.opened(octets) == stamped(B, A, str(k))
        assert bench.calls == []
        assert one.link.sent_bytes == octets_out  # on the wire
        assert two.queued_bytes == 0

    def test_drain_takes_nothing_before_the_handshake(bench: Bench) -> None:
        with pytest.raises(ValueError, match="handshake"):
            bench.drain.add(bench.router.link(), 3, Tls(SERVER))

    def test_drain_hands_on_events_the_end_and_errors_of_tls(bench: Bench) -> None:
        peer, ours, theirs = join(bench, A)
        theirs.sendall(peer.sealed(b"<iq type='get' id='1'/>"))
        bench.run()
        theirs.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        bench.run()
        assert [(fd, type(what)) for fd, what in bench.calls] == [
            (ours.fileno(), Stanza),
            (ours.fileno(), ssl.SSLError),
        ]

    def test_drain_leaves_what_the_socket_does_not_take(bench: Bench) -> None:
        peer, ours, theirs = join(bench, A)
        data = bytes(range(256)) * 8000
        peer.link.write(data)
        assert bench.drain.flush() == [peer.link]
        assert peer.link.queued_bytes
        got = b""
        for _ in range(MAX_ROUNDS):
            got += peer.opened(theirs.recv(1 << 20))
            if len(got) == len(data):
                break
            try:
                while octets := peer.tls.output(peer.link, False):
                    peer.tls.sent(ours.send(octets))
            except BlockingIOError:
                pass
        assert got == data

    class KeyUpdater:
        """``openssl s_client``: each line that begins with K asks for new keys (RFC 8446 section 4.6.3)."""

        def __init__(self, folder: Path) -> None:
            CA.cert_pem.write_to_path(folder / "ca.pem")
            self.terminal, inner = pty.openpty()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                command = [
                    "openssl",
                    "s_client",
                    "-connect",
                    f"127.0.0.1:{port}",
                    "-tls1_3",
                    "-CAfile",
                    str(folder / "ca.pem"),
                ]
                self.process = subprocess.Popen(
                    command, stdin=inner, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                os.close(inner)
                listener.settimeout(20)
                self.sock, _ = listener.accept()
            self.sock.settimeout(20)
            self.link, self.tls = Router().link(), Tls(SERVER)
            while not self.tls.secured:
                self.receive()
                self.tls.handshake()
                self.send()

        def receive(self) -> None:
            n = self.sock.recv_into(self.link.router.buffer)
            assert n
            self.tls.receive(self.link, n)

        def send(self) -> int:
            octets = self.tls.output(self.link, False)
            self.sock.sendall(octets)
            self.tls.sent(len(octets))
            return len(octets)

        def close(self) -> None:
            self.process.kill()
            self.process.wait()
            self.sock.close()
            os.close(self.terminal)

    @pytest.fixture
    def updater(tmp_path: Path) -> Iterator[KeyUpdater]:
        updater = KeyUpdater(tmp_path)
        yield updater
        updater.close()

    def test_the_stream_goes_on_under_new_keys(updater: KeyUpdater) -> None:
        for _ in range(3):
            os.write(updater.terminal, b"K\n")
            updater.receive()
            assert updater.tls.feed(updater.link) is None
        # OpenSSL answers with the next record, or when it is asked again.
        assert updater.link.router.take_dirty() == [updater.link]
        assert updater.send()
        os.write(updater.terminal, header() + b"\n")
        updater.receive()
        assert isinstance(updater.tls.feed(updater.link), StreamOpen)

    def test_who_asks_for_new_keys_and_does_not_take_the_answers_is_refused(updater: KeyUpdater) -> None:
        """They would be queued without a bound."""
        os.set_blocking(updater.terminal, False)

        def ask() -> None:
            for _ in range(MAX_ROUNDS):
                with suppress(BlockingIOError):
                    os.write(updater.terminal, b"K\n" * 100)
                updater.receive()
                assert updater.tls.feed(updater.link) is None

        with pytest.raises(ssl.SSLError, match="new keys"):
            ask()
