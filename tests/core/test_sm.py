# SPDX-License-Identifier: Apache-2.0
"""Stream management in the core (XEP-0198): counts, what is kept, requests, and links that are detached and resumed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _xmppcore import JID, Audience, Link, Router, Stanza, StreamParser
from tests.core.test_router import A, B, header, online, receive, receive_split, take

R = b"<r xmlns='urn:xmpp:sm:3'/>"
HIGH = 4000


def ack(h: int | str) -> bytes:
    return f"<a xmlns='urn:xmpp:sm:3' h='{h}'/>".encode()


def message(body: str = "x", to: str = B) -> bytes:
    return f"<message to='{to}'><body>{body}</body></message>".encode()


def at_b(body: str = "x") -> bytes:
    return f"<message from='{A}' to='{B}'><body>{body}</body></message>".encode()


def pair(**options: int) -> tuple[Router, Link, Link]:
    """Two links online, the second with stream management."""
    router = Router(**options)
    a, b = online(router, A), online(router, B)
    b.enable_sm()
    return router, a, b


def test_request_is_answered_with_what_was_handled() -> None:
    _router, a, _b = pair()
    a.enable_sm()
    assert receive(a, R + message() + message() + R) == []
    assert take(a) == ack(0) + ack(2)
    assert a.handled == 2


def test_stanza_for_the_caller_is_counted_when_the_caller_says_so() -> None:
    _, a, _ = pair()
    a.enable_sm()
    buffer = a.router.buffer
    data = b"<presence/>" + R
    buffer[: len(data)] = data
    assert isinstance(a.feed(len(data)), Stanza)
    assert a.handled == 0
    a.count_handled()
    assert a.feed() is None
    assert take(a) == ack(1)


def test_request_of_a_pending_link_is_the_callers() -> None:
    _, a, _ = pair()
    a.enable_sm()
    a.pending = True
    (request,) = receive(a, R)
    assert isinstance(request, Stanza)
    assert request.name == "r"
    assert take(a) == b""
    a.pending = False
    assert receive(a, R) == []
    assert take(a) == ack(0)


def test_counts_of_an_earlier_process_go_on() -> None:
    _, a, b = pair()
    b = online(b.router, B)
    b.enable_sm(2**32 - 1, 7)
    assert (b.handled, b.sent, b.acknowledged) == (2**32 - 1, 7, 7)
    b.detach()
    b.send(at_b("1"))
    receive(a, message("2"))
    assert (b.sent, b.unacknowledged()) == (9, [at_b("1"), at_b("2")])
    b.acknowledge(8)
    assert b.unacknowledged() == [at_b("2")]
    b.count_handled()
    assert b.handled == 0


@pytest.mark.security(statement=73)
def test_nonzas_are_not_counted() -> None:
    _, _, b = pair()
    assert receive(b, R * 3 + ack(0)) == []
    assert b.handled == 0
    assert b.sent == 0


@pytest.mark.parametrize(
    "nonza",
    [
        b"<r xmlns='urn:xmpp:sm:2'/>",
        b"<a xmlns='urn:xmpp:sm:3'/>",
        ack(1),
        ack(-1),
        ack(""),
        ack("0x0"),
        ack(1 << 32),
        ack(" 0"),
        b"<a xmlns='urn:xmpp:sm:3' h='0'>" + b"<x/>" + b"</a>",
        b"<a xmlns='urn:xmpp:sm:3' h='0'" + b" a='" + b"x" * 200 + b"'/>",
        b"<enabled xmlns='urn:xmpp:sm:3'/>",
    ],
)
def test_anything_else_goes_to_the_caller_and_changes_nothing(nonza: bytes) -> None:
    _, _, b = pair()
    (event,) = receive(b, nonza)
    assert isinstance(event, Stanza)
    assert (b.handled, b.sent, b.acknowledged) == (0, 0, 0)


def test_without_stream_management_requests_go_to_the_caller() -> None:
    _, a, _ = pair()
    assert len(receive(a, R + ack(0))) == 2
    with pytest.raises(ValueError, match="no stream management"):
        _ = a.handled
    a.count_handled()


def test_stanza_is_kept_until_it_is_acknowledged() -> None:
    _, a, b = pair()
    receive(a, message("1") + message("2"))
    b.send(b"<presence/>")
    assert take(b) == at_b("1") + at_b("2") + b"<presence/>"
    assert b.unacknowledged() == [at_b("1"), at_b("2"), b"<presence/>"]
    assert receive(b, ack(2)) == []
    assert b.unacknowledged() == [b"<presence/>"]
    assert receive(b, ack(3)) == []
    assert b.unacknowledged() == []
    assert (b.sent, b.acknowledged) == (3, 3)


def test_what_is_no_stanza_is_not_kept() -> None:
    _, _, b = pair()
    b.write(b"<enabled/>")
    assert b.unacknowledged() == []


def test_each_128th_stanza_is_followed_by_a_request() -> None:
    _, a, b = pair()
    receive(a, message() * 300)
    assert [len(part) // len(at_b()) for part in take(b).split(R)] == [128, 128, 44]


@pytest.mark.parametrize("h", [0, 7, 10, 4_294_967_295, 1_000_000_000])
def test_answer_has_the_count_in_decimal(h: int) -> None:
    _, a, _ = pair()
    a.enable_sm(h)
    receive(a, R)
    assert take(a) == ack(h)


def test_stragglers_are_asked_for_once() -> None:
    router, a, b = pair()
    router.ask()
    assert take(b) == b""
    receive(a, message() * 3)
    take(b)
    router.ask()
    assert take(b) == R
    assert router.take_dirty() == [b]
    router.ask()
    assert take(b) == b""


def test_who_has_acknowledged_unasked_is_not_asked() -> None:
    router, a, b = pair()
    receive(a, message())
    take(b)
    receive(b, ack(1))
    router.ask()
    assert take(b) == b""


@pytest.mark.security(statement=73)
def test_counts_wrap_around() -> None:
    _router, a, b = pair()
    # 2**32 stanzas are too many for a test: what an acknowledgement compares is differences, shown here around 0.
    receive(a, message() * 5)
    receive(b, ack(5))
    (event,) = receive(b, ack((5 - 1) % (1 << 32)))
    assert isinstance(event, Stanza)
    assert b.acknowledged == 5


def test_detached_link_keeps_and_sends_nothing() -> None:
    router, a, b = pair()
    receive(a, message("1"))
    b.detach()
    assert b.detached
    assert b.queued_bytes == 0
    receive(a, message("2"))
    b.send(b"<presence/>")
    router.ask()
    assert b.queued_bytes == 0
    assert b.unacknowledged() == [at_b("1"), at_b("2"), b"<presence/>"]
    assert router.routed == 2


def test_fanned_out_stanza_is_counted_and_kept_also_for_who_is_detached() -> None:
    router, a, b = pair()
    audience = Audience(router, [(a, "a"), (b, "b")])
    assert audience.send(b"<presence/>") == []
    assert (take(a), take(b)) == (b"<presence to='a'/>", b"<presence to='b'/>")
    b.detach()
    assert audience.send(b"<presence/>") == []
    assert take(b) == b""
    assert b.unacknowledged() == [b"<presence to='b'/>"] * 2


def test_resumed_link_sends_again_what_was_not_acknowledged_and_asks() -> None:
    router, a, b = pair()
    receive(a, message("1") + message("2"))
    b.detach()
    receive(a, message("3"))
    b.acknowledge(1)
    new = router.link()
    new.restart(logged_in=True)
    receive(new, header())
    b.unbind()
    new.bind(JID(B))
    new.resume(b)
    assert take(new) == at_b("2") + at_b("3") + R
    assert not b.managed
    assert (new.sent, new.acknowledged, new.detached) == (3, 1, False)
    receive(a, message("4"))
    assert take(new) == at_b("4")
    assert receive(new, ack(4)) == []
    assert new.unacknowledged() == []


def test_resuming_with_nothing_to_send_sends_nothing() -> None:
    router, _, b = pair()
    b.detach()
    new = router.link()
    new.resume(b)
    assert take(new) == b""
    assert router.take_dirty() == []


def test_resuming_what_cannot_be_resumed_is_an_error() -> None:
    _router, a, b = pair()
    for one, other in ((b, a), (b, b), (Router().link(), b)):
        with pytest.raises(ValueError, match="no stream management|another link"):
            one.resume(other)
    with pytest.raises(ValueError, match="no stream management"):
        a.detach()


@pytest.mark.security(row=66, statement=79)
def test_acknowledging_more_than_was_sent_is_an_error() -> None:
    _, a, b = pair()
    receive(a, message())
    with pytest.raises(ValueError, match="2 stanzas acknowledged of 1 sent"):
        b.acknowledge(2)
    assert b.unacknowledged() == [at_b()]


@pytest.mark.parametrize(("detached", "most"), [(False, 4 * HIGH), (True, HIGH)])
@pytest.mark.security(row=47, statement=78)
def test_who_does_not_acknowledge_gets_a_bounded_amount(detached: bool, most: int) -> None:
    _, a, b = pair(high_bytes=HIGH)
    if detached:
        b.detach()
    for _ in range(1000):
        receive(a, message("y" * 100))
        take(b)
    assert b.full
    assert most < sum(map(len, b.unacknowledged())) <= most + 200


def test_sender_is_told_to_wait_for_who_does_not_acknowledge_and_the_link_says_when_it_has() -> None:
    _, a, b = pair(high_bytes=HIGH)
    n = 0
    while not (events := receive(a, message("y" * 100))):
        take(b)
        n += 1
    assert events == [b]
    assert b.load > HIGH
    assert b.queued_bytes < HIGH
    b.awaited = True
    assert receive(b, ack(2)) == []
    assert receive(b, ack(n)) == [b]
    assert not b.awaited
    assert receive(b, ack(n + 1)) == []


@pytest.mark.security(row=47)
def test_who_does_not_take_answers_to_requests_is_named_to_itself() -> None:
    _, a, b = pair(high_bytes=HIGH)
    assert receive(b, R * (HIGH // len(ack(0)))) == []
    assert receive(b, R) == [b]
    assert b.queued_bytes > HIGH
    take(b)
    assert receive(b, R) == []
    receive(a, message("y" * HIGH))  # what is kept until it is acknowledged is none of these
    take(b)
    assert receive(b, R) == []


def test_many_bytes_are_asked_for_before_the_128th_stanza() -> None:
    _, a, b = pair()
    receive_split(a, message("z" * 40_000) * 2, [40_000])
    assert take(b).endswith(R)


def test_long_stanza_is_kept_whole() -> None:
    _, a, b = pair()
    body = "z" * 40_000
    receive(a, message(body))
    assert take(b) == at_b(body)
    assert b.unacknowledged() == [at_b(body)]
    b.detach()
    receive(a, message(body + "2"))
    assert b.unacknowledged() == [at_b(body), at_b(body + "2")]


def test_freed_link_leaves_the_list_of_those_to_be_asked() -> None:
    router, a, b = pair()
    receive(a, message())
    b.unbind()
    del b
    router.ask()
    assert router.take_dirty() == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["route", "send", "ack", "detach", "resume", "ask", "drain"]), st.integers(0, 60)),
        max_size=60,
    )
)
def test_kept_is_what_was_sent_and_not_acknowledged(steps: list[tuple[str, int]]) -> None:
    router, a, b = pair()
    sent: list[bytes] = []
    acknowledged = 0
    wire = b""
    for what, n in steps:
        match what:
            case "route":
                for k in range(n):
                    receive(a, message(str(k)))
                    sent.append(at_b(str(k)))
            case "send":
                data = b"<presence id='%d'/>" % n
                b.send(data)
                sent.append(data)
            case "ack" if not b.detached and acknowledged + n <= len(sent):
                acknowledged += n
                assert receive(b, ack(acknowledged)) == []
            case "detach" if not b.detached:
                wire += take(b)
                b.detach()
            case "resume" if b.detached:
                acknowledged = min(len(sent), acknowledged + n)
                b.acknowledge(acknowledged)
                new = router.link()
                new.restart(logged_in=True)
                receive(new, header())
                b.unbind()
                new.bind(JID(B))
                new.resume(b)
                b, wire = new, b""
                wire = take(b)
                assert wire.replace(R, b"") == b"".join(sent[acknowledged:])
            case "ask":
                router.ask()
            case "drain":
                wire += take(b)
        assert b.unacknowledged() == sent[acknowledged:]
        assert (b.sent, b.acknowledged) == (len(sent), acknowledged)
    if not b.detached:
        wire += take(b)
        parser = StreamParser()
        parser.feed(header())
        stanzas = [event for event in parser.feed(wire) if isinstance(event, Stanza) and event.name != "r"]
        assert b"".join(stanza.raw for stanza in stanzas) == re.sub(re.escape(R), b"", wire)
