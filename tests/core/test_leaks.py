# SPDX-License-Identifier: Apache-2.0
"""Stanzas leave no memory behind: what the C allocator and Python's have given out is the same before and after a great many.

Counted is what is allocated, not what the process holds: that says as much under AddressSanitizer, which keeps what is freed.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

import _xmppcore.exi as exi
from _xmppcore import JID, Audience, Router, Stanza, StreamParser, XmlError, parse_element
from tests.core.test_router import online, receive, take
from tests.core.test_xml import long_stream
from tests.shared import missing
from tests.streams import OPEN

STANZAS = 1_000_000 if os.environ.get("XIOT_SOAK") == "1" else 50_000
SLACK_BYTES = 32_768
"""What may differ: caches of the allocator, tables that Python enlarges once. What is found by this keeps a byte for every second stanza,
with XIOT_SOAK=1 for every thirtieth."""
SLACK_BLOCKS = 300


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        ]
    ]


def allocated_bytes() -> int:
    """Given out by malloc; small Python objects are not among them."""
    c = ctypes.CDLL(None)
    if hasattr(c, "__sanitizer_get_current_allocated_bytes"):
        count = c.__sanitizer_get_current_allocated_bytes
        count.restype = ctypes.c_size_t
        return int(count())
    if not hasattr(c, "mallinfo2"):
        missing("the C library does not say what is allocated")
    c.mallinfo2.restype = Mallinfo2
    info = c.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def parse(stanzas: int, *, trees: bool) -> None:
    stream = long_stream()
    for _ in range(stanzas // 6):
        for event in StreamParser().feed(stream):
            if trees and isinstance(event, Stanza):
                event.element.tobytes()


def parse_what_breaks_off(stanzas: int) -> None:
    """Streams that end, or go wrong, inside a stanza whose depth, prefixes and text have taken memory."""
    stream = long_stream()
    random = Random(1)
    for _ in range(stanzas // 3):
        data = stream[: random.randrange(len(stream))]
        parser = StreamParser()
        parser.feed(data[: len(data) // 2])
        try:
            parser.feed(data[len(data) // 2 :] + random.choice([b"", b"&", b"\0", b"</x>", b"<a", b"<p:b "]))
            parser.feed(b"")
        except XmlError as error:
            assert error.condition


def route(stanzas: int, *, managed: bool) -> None:
    """Among links of which one comes and goes; with stream management, all acknowledge what they get, or come back for it."""
    router = Router()
    jids = [f"u@x.example/{i}" for i in range(20)]
    links = [online(router, jid) for jid in jids]
    random = Random(1)
    for link in links if managed else ():
        link.enable_sm()
    texts = [f"<message to='{jid}'><body>{'x' * random.randrange(400)}</body></message>" for jid in jids * 5]
    texts[50] = f"<message to='{jids[0]}'><body>{'x' * 50_000}</body></message>"
    data = "".join(texts).encode()
    for turn in range(stanzas // len(texts)):
        link = links[turn % 5]
        for i in range(0, len(data), 4096):
            receive(link, data[i : i + 4096])
        for dirty in router.take_dirty():
            take(dirty)
            if dirty.managed:
                receive(dirty, f"<a xmlns='urn:xmpp:sm:3' h='{dirty.sent}'/>".encode())
        if managed:
            links[5].send(b"<presence/>")
            links[5].detach()
            former, links[5] = links[5], router.link()
            links[5].restart(logged_in=True)
            links[5].resume(former)
            links[5].bind(JID(jids[5]))
            receive(links[5], OPEN)
        else:
            links[5] = router.link()
            links[5] = online(router, jids[5])


def fan_out(stanzas: int) -> None:
    router = Router()
    links = {f"u@x.example/{i}": online(router, f"u@x.example/{i}") for i in range(50)}
    for _ in range(stanzas // 500):
        audience = Audience(router, [(link, JID(jid)) for jid, link in links.items()])
        for _ in range(10):
            assert audience.send(b"<presence from='a@x.example/1'><show>away</show></presence>") == []
        for dirty in router.take_dirty():
            take(dirty)


def prepare(stanzas: int) -> None:
    for i in range(stanzas):
        jid = JID(f"User{i}@Bücher{i % 50}.example/Straße" if i % 10 == 0 else f"User{i}@plant.example/{i}")
        assert jid.bare == jid.bare
        try:
            JID(f"a{i}@@/")
        except ValueError:
            continue


def code(stanzas: int) -> None:
    """EXI, of a session that keeps its tables (bounded) and of one that does not, and what is cut off."""
    xml = b"<message xmlns='jabber:client' to='a@b' id='%d'><body>%s</body></message>"
    options = exi.Options(value_max_length=64, value_partition_capacity=100)
    ends = [exi.Session(options, keep=keep) for keep in (True, True, False, False)]
    for i in range(stanzas // 2):
        for sender, receiver in (ends[:2], ends[2:]):
            body = sender.encode(xml % (i, b"x" * (i % 90)))
            assert receiver.decode(body).startswith(b"<message")


def read_alone(stanzas: int) -> None:
    for i in range(stanzas):
        element = parse_element(b"<a xmlns='u%d'><b>%d</b></a>" % (i % 1000, i), "u")
        element[0].set("c", str(i))
        element.append(element[0])
        element.remove(element[0])


WORKS: dict[str, Callable[[int], None]] = {
    "headers": partial(parse, trees=False),
    "trees": partial(parse, trees=True),
    "what breaks off": parse_what_breaks_off,
    "routed": partial(route, managed=False),
    "routed, XEP-0198": partial(route, managed=True),
    "fanned out": fan_out,
    "JIDs": prepare,
    "EXI": code,
    "elements": read_alone,
}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.security(row=44)
def test_stanzas_leave_no_memory_behind(work: str) -> None:
    WORKS[work](STANZAS // 4)  # what is kept for ever is taken now
    gc.collect()
    size, blocks = allocated_bytes(), sys.getallocatedblocks()
    WORKS[work](STANZAS)
    gc.collect()
    assert allocated_bytes() - size < SLACK_BYTES
    assert sys.getallocatedblocks() - blocks < SLACK_BLOCKS


def test_what_is_kept_shows() -> None:
    size, blocks = allocated_bytes(), sys.getallocatedblocks()
    kept = [bytes(1000) for _ in range(1000)], [object() for _ in range(1000)]
    assert allocated_bytes() - size > 1_000_000
    assert sys.getallocatedblocks() - blocks >= 1000
    del kept
    assert allocated_bytes() - size < SLACK_BYTES
