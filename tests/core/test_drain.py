# SPDX-License-Identifier: Apache-2.0
"""Drain: bytes between real sockets and links, and what it leaves to its caller."""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
import struct
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from _xmppcore import JID, Link, Router, Stanza, StreamClose, StreamOpen, XmlError
from tests.core.test_router import A, B, header

if sys.platform != "linux":
    pytest.skip("epoll is Linux's", allow_module_level=True)

from _xmppcore.drain import Drain

PATIENCE_TURNS = 1000


class Bench:
    """A drain with its epoll, and what it called for."""

    def __init__(self, **options: int) -> None:
        self.router = Router(**options)
        self.epoll = select.epoll()
        self.drain = Drain(self.router, self.epoll.fileno())
        self.calls: list[tuple[int, Any]] = []
        self.links: dict[int, Link] = {}
        self.sockets: list[socket.socket] = []

    def connect(self, jid: str | None = None, *, tcp: bool = False) -> tuple[Link, socket.socket, socket.socket]:
        """A link of ours, its socket, and the peer's; online if `jid`."""
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                theirs = socket.create_connection(listener.getsockname())
                ours, _ = listener.accept()
        else:
            ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(5)
        self.sockets += [ours, theirs]
        link = self.router.link()
        self.links[ours.fileno()] = link
        self.drain.add(link, ours.fileno())
        self.epoll.register(ours, select.EPOLLIN)
        if jid is not None:
            link.restart(logged_in=True)
            theirs.sendall(header())
            self.run()
            assert [type(what) for _, what in self.calls] == [StreamOpen]
            self.calls.clear()
            link.bind(JID(jid))
        return link, ours, theirs

    def ready(self, fd: int, what: Any) -> None:
        self.calls.append((fd, what))
        while what is not None and not isinstance(what, int | OSError | XmlError | Link):
            what = self.links[fd].feed()
            if what is not None:
                self.calls.append((fd, what))
        if isinstance(what, Link):
            self.links[fd].park()

    def run(self) -> list[Link]:
        """Turns until nothing is ready."""
        left = []
        for _ in range(PATIENCE_TURNS):
            more = self.drain.turn(self.ready)
            left += self.drain.flush()
            if not more:
                return left
        raise AssertionError("it does not come to an end")

    def close(self) -> None:
        self.epoll.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def message(to: str, body: str) -> bytes:
    return f"<message to='{to}'><body>{body}</body></message>".encode()


def stamped(sender: str, to: str, body: str) -> bytes:
    return f"<message from='{sender}' to='{to}'><body>{body}</body></message>".encode()


def test_message_goes_from_socket_to_socket_without_the_caller(bench: Bench) -> None:
    a, _, theirs_a = bench.connect(A)
    b, _, theirs_b = bench.connect(B)
    sent = a.received_bytes
    theirs_a.sendall(message(B, "hello"))
    assert bench.run() == []
    assert bench.calls == []
    assert theirs_b.recv(4096) == stamped(A, B, "hello")
    assert (a.received_bytes - sent, b.sent_bytes) == (len(message(B, "hello")), len(stamped(A, B, "hello")))
    assert b.queued_bytes == 0


def test_turn_that_lingers_takes_what_comes_meanwhile_and_ends_when_nothing_does(bench: Bench) -> None:
    _, _, theirs_a = bench.connect(A)
    bench.connect(B)
    assert not bench.drain.turn(bench.ready, True)  # nothing comes
    go = threading.Event()

    def send() -> None:
        for _ in range(PATIENCE_TURNS):
            go.wait()
            go.clear()
            theirs_a.sendall(message(B, "hello"))

    threading.Thread(target=send, daemon=True).start()
    meanwhile = 0
    for k in range(PATIENCE_TURNS):
        interval, before = sys.getswitchinterval(), bench.router.routed
        sys.setswitchinterval(100)  # else the thread could run before the turn does
        try:
            go.set()
            bench.drain.turn(bench.ready, True)
        finally:
            sys.setswitchinterval(interval)
        meanwhile += bench.router.routed > before
        while bench.router.routed == k:
            bench.drain.turn(bench.ready)
    assert bench.router.routed == PATIENCE_TURNS
    assert meanwhile > 0
    assert bench.calls == []


def test_turn_that_lingers_ends_though_more_keeps_coming(bench: Bench) -> None:
    _, _, theirs_a = bench.connect(A)
    bench.connect(B)
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.0001):
            theirs_a.sendall(message(B, "hello"))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        for _ in range(20):
            bench.drain.turn(bench.ready, True)
    finally:
        over.set()
        thread.join()


R = b"<r xmlns='urn:xmpp:sm:3'/>"


def answer(handled: int) -> bytes:
    return b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % handled


def silent(theirs: socket.socket) -> bool:
    return not select.select([theirs], [], [], 0)[0]


@pytest.mark.parametrize("linger", [False, True])
def test_answers_go_when_nothing_else_comes(bench: Bench, linger: bool) -> None:
    link, _, theirs = bench.connect(A)
    link.enable_sm()
    theirs.sendall(R + R)
    assert not bench.drain.turn(bench.ready, linger)
    assert theirs.recv(4096) == 2 * answer(0)


def test_answers_wait_for_the_end_of_a_turn_that_has_more_to_do(bench: Bench) -> None:
    link, _, theirs = bench.connect(A)
    link.enable_sm()
    bench.connect(B)
    _, _, other = bench.connect()
    theirs.sendall(message(B, "hello") + R)
    other.sendall(header())  # for the caller: the turn comes back at once
    assert bench.drain.turn(bench.ready)
    assert bench.drain.flush(late=False) == []
    assert silent(theirs)
    assert bench.drain.flush() == []
    assert theirs.recv(4096) == answer(1)


def test_answers_go_with_what_else_there_is(bench: Bench) -> None:
    link, _, theirs = bench.connect(A)
    link.enable_sm()
    _, _, other = bench.connect()
    theirs.sendall(R)
    other.sendall(header())
    assert bench.drain.turn(bench.ready)
    link.write(b"<x/>")
    assert bench.drain.flush(late=False) == []
    assert theirs.recv(4096) == answer(0) + b"<x/>"


def test_order_holds_over_many_messages_and_pieces(bench: Bench) -> None:
    _, _, theirs_a = bench.connect(A)
    _, _, theirs_b = bench.connect(B)
    expected = b"".join(stamped(A, B, str(k)) for k in range(500))
    sent = b"".join(message(B, str(k)) for k in range(500))
    got = b""
    for at in range(0, len(sent), 777):
        theirs_a.sendall(sent[at : at + 777])
        bench.run()
        while select.select([theirs_b], [], [], 0)[0]:
            got += theirs_b.recv(65536)
    assert got == expected
    assert bench.calls == []


def test_event_goes_to_the_caller_and_what_is_behind_it_too(bench: Bench) -> None:
    _, ours, theirs = bench.connect(A)
    theirs.sendall(b"<presence/><iq type='get' id='1'/></stream:stream>")
    bench.run()
    assert [(fd, type(what)) for fd, what in bench.calls] == [
        (ours.fileno(), Stanza),
        (ours.fileno(), Stanza),
        (ours.fileno(), StreamClose),
    ]


def test_error_of_the_stream_goes_to_the_caller(bench: Bench) -> None:
    _, ours, theirs = bench.connect(A)
    theirs.sendall(b"<a></b>")
    bench.run()
    ((fd, error),) = bench.calls
    assert (fd, error.condition) == (ours.fileno(), "not-well-formed")


def test_end_of_the_peer_is_none(bench: Bench) -> None:
    _, ours, theirs = bench.connect(A, tcp=True)
    theirs.shutdown(socket.SHUT_WR)
    bench.drain.turn(bench.ready)
    assert bench.calls == [(ours.fileno(), None)]


def test_hang_up_is_a_mask(bench: Bench) -> None:
    _, ours, theirs = bench.connect(A)
    theirs.close()
    bench.drain.turn(bench.ready)
    assert bench.calls == [(ours.fileno(), select.EPOLLIN | select.EPOLLHUP)]


def test_failed_receive_is_its_error() -> None:
    bench = Bench()
    try:
        reader, writer = socket.socketpair()
        bench.sockets += [reader, writer]
        with open("/dev/null", "rb") as plain:
            link = bench.router.link()
            writer.send(b"x")
            at = reader.fileno()
            bench.drain.add(link, at)
            bench.epoll.register(at, select.EPOLLIN)
            # A descriptor that stays ready by another that shares the socket, but is no socket itself any more.
            kept = reader.dup()
            bench.sockets.append(kept)
            os.dup2(plain.fileno(), at)
            bench.drain.turn(bench.ready)
        ((fd, error),) = bench.calls
        assert (fd, type(error), error.errno) == (at, OSError, errno.ENOTSOCK)
    finally:
        bench.close()


def test_reset_is_reported_once(bench: Bench) -> None:
    link, ours, theirs = bench.connect(A, tcp=True)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    bench.drain.turn(bench.ready)
    ((fd, what),) = bench.calls
    assert fd == ours.fileno()
    assert what & select.EPOLLERR
    bench.drain.remove(link)


def test_descriptor_of_nobody_is_left_to_the_caller(bench: Bench) -> None:
    link, ours, theirs = bench.connect(A)
    bench.drain.remove(link)
    theirs.sendall(message(B, "x"))
    bench.drain.turn(bench.ready)
    assert bench.calls == [(ours.fileno(), select.EPOLLIN)]
    assert ours.recv(100) == message(B, "x")  # nothing was taken


def test_link_of_the_caller_is_flushed_by_the_caller(bench: Bench) -> None:
    link, _, theirs = bench.connect(A)
    bench.drain.remove(link)
    link.write(b"late")
    assert bench.drain.flush() == [link]
    assert link.queued_bytes == 4
    assert bench.drain.flush() == []
    assert not select.select([theirs], [], [], 0)[0]


def test_link_written_to_by_a_turn_is_left_for_the_flush_after_it(bench: Bench) -> None:
    _, _, theirs_a = bench.connect(A)
    b, _, _ = bench.connect(B)
    bench.drain.remove(b)
    theirs_a.sendall(message(B, "x"))
    assert bench.drain.turn(bench.ready)
    assert bench.drain.flush() == [b]


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_000, 2_000_000])
def test_what_the_socket_does_not_take_stays_queued(bench: Bench, size: int) -> None:
    link, ours, theirs = bench.connect()
    data = bytes(range(256)) * (size // 256 + 1)
    link.write(data)
    left = bench.drain.flush()
    assert left == ([link] if link.queued_bytes else [])
    assert link.sent_bytes + link.queued_bytes == len(data)
    got = bytearray()
    while len(got) < len(data):
        got += theirs.recv(1 << 20)
        for buffer in link.out.buffers(1):
            try:
                n = ours.send(buffer)
            except BlockingIOError:
                continue
            link.out.sent(n)
    assert got == data


def test_peer_that_is_gone_leaves_its_link_to_the_caller(bench: Bench) -> None:
    link, ours, theirs = bench.connect()
    theirs.close()
    link.write(b"x")
    assert bench.drain.flush() == [link]
    with pytest.raises(BrokenPipeError):
        ours.send(b"x")


def test_slow_destination_is_named() -> None:
    bench = Bench(high_bytes=1000)
    try:
        _, ours_a, theirs_a = bench.connect(A)
        b, _, _ = bench.connect(B)
        bench.drain.remove(b)
        theirs_a.sendall(message(B, "x" * 2000) * 3)
        bench.drain.turn(bench.ready)
        assert bench.calls == [(ours_a.fileno(), b)]
        assert b.queued_bytes == len(stamped(A, B, "x" * 2000))
    finally:
        bench.close()


def test_a_turn_ends_though_there_is_more() -> None:
    bench = Bench()
    try:
        _, _, theirs_a = bench.connect(A, tcp=True)
        bench.connect(B, tcp=True)
        theirs_a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        theirs_a.setblocking(False)
        data = message(B, "x" * 900) * 1000
        turns = sent = 0
        while sent < len(data):
            try:
                sent += theirs_a.send(data[sent:])
            except BlockingIOError:
                pass
            while bench.drain.turn(bench.ready):
                bench.drain.flush()
                turns += 1
        assert turns >= 2  # 256 KiB each
    finally:
        bench.close()


def test_exception_of_the_caller_comes_out_and_nothing_is_lost(bench: Bench) -> None:
    a, _, theirs_a = bench.connect(A)
    _, ours_b, theirs_b = bench.connect(B)
    theirs_a.sendall(b"<presence/>")

    def fail(fd: int, what: Any) -> None:
        a.park()
        raise LookupError(fd)

    with pytest.raises(LookupError):
        bench.drain.turn(fail)
    theirs_b.sendall(b"<presence/>")
    bench.run()
    assert [(fd, type(what)) for fd, what in bench.calls] == [(ours_b.fileno(), Stanza)]


def test_link_removed_while_it_is_ready_is_not_read(bench: Bench) -> None:
    links = [bench.connect(f"u{k}@x.example/r") for k in range(3)]
    for _, _, theirs in links:
        theirs.sendall(b"<presence/>")
    seen = []

    def ready(fd: int, what: Any) -> None:
        seen.append((fd, type(what)))
        if isinstance(what, Stanza):
            bench.links[fd].feed()
        for link, _, _ in links:
            bench.drain.remove(link)

    bench.drain.turn(ready)
    assert sorted(kind.__name__ for _, kind in seen) == ["Stanza", "int", "int"]


def test_add_twice_is_once_and_a_descriptor_has_one_link(bench: Bench) -> None:
    link, ours, _ = bench.connect()
    bench.drain.add(link, ours.fileno())
    other = bench.router.link()
    for bad, fd in ((other, ours.fileno()), (link, 5000), (other, -1), (Router().link(), 5000)):
        with pytest.raises(ValueError, match="descriptor|router"):
            bench.drain.add(bad, fd)
    bench.drain.remove(other)
    bench.drain.remove(Router().link())
    bench.drain.remove(link)
    bench.drain.add(other, ours.fileno())


def test_closed_epoll_is_an_error(bench: Bench) -> None:
    bench.epoll.close()
    with pytest.raises(OSError, match="descriptor"):
        bench.drain.turn(bench.ready)


def test_link_is_freed_after_it_was_removed(bench: Bench) -> None:
    class Owner:
        pass

    link, ours, _ = bench.connect()
    owner = Owner()
    seen = weakref.ref(owner)
    link.owner = owner
    del owner
    bench.drain.remove(link)
    del bench.links[ours.fileno()], link
    gc.collect()
    assert seen() is None
