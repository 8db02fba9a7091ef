# SPDX-License-Identifier: Apache-2.0
"""What is forwarded as bytes means the same to its receiver, as expat and libxml2 read it, whatever the sender's stream declares."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _xmppcore import Element, Router, Stanza
from tests.core.test_router import CLIENT, STREAMS, XML_LANG, A, B, online, receive, take
from tests.oracles import expat, lxml
from tests.streams import PREFIXES, URIS, Generator

FOREIGN = ["urn:a", "u", "u&#49;", "urn:example:1?a=b&amp;c", CLIENT, STREAMS]


def opening(random: Random) -> str:
    """A client's stream header: prefixes of its own, some of which mean something else at the other end."""
    prefixes = random.sample(PREFIXES[:2], random.choice([0, 1, 2]))
    declared = "".join(f" xmlns:{prefix}='{random.choice(FOREIGN)}'" for prefix in prefixes)
    language = random.choice(["en", "de", "fr-CA", "d&apos;e"])  # a stream without one says nothing of its stanzas
    return f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}'{declared} xml:lang='{language}' version='1.0'>"


def stanza(generator: Generator, prefixes: set[str]) -> bytes:
    """A message to B in which everything is in an odd place: attributes, quotes, white space, declarations, references."""
    random = generator.random
    bound = {"xml", *prefixes}
    quote = random.choice("'\"")
    attributes = {"to": quote + B + quote}
    if random.random() < 0.5:
        attributes["from"] = random.choice([f"'{A}'", f'"{A}"', "'a@x.example'"])
    if random.random() < 0.3:
        attributes["xml:lang"] = random.choice(["'de'", '"en"', "''", "'&#100;e'"])
    if random.random() < 0.5:
        attributes["id"] = generator.value()
    if random.random() < 0.5:
        attributes["type"] = random.choice(["'chat'", '"headline"', "'normal'", "'ch&#97;t'"])
    for prefix in random.sample(PREFIXES[:2], random.choice([0, 0, 1, 2])):
        attributes[f"xmlns:{prefix}"] = f"'{random.choice(URIS)}'"
        bound.add(prefix)
    for prefix in sorted(bound - {"xml"}):
        if random.random() < 0.3:
            attributes[f"{prefix}:to"] = generator.value()
    items = list(attributes.items())
    random.shuffle(items)
    tag = "".join(f" {generator.space()}{name}{generator.space()}={generator.space()}{value}" for name, value in items)
    end = random.choice(["/>", f">{generator.content(bound, 2)}</message{generator.space()}>"])
    return f"<message{tag}{generator.space()}{end}".encode()


def forward(seed: int) -> bool:
    """Whether the core forwarded a random stanza; what came was checked."""
    generator = Generator(seed, FOREIGN)
    mine, theirs = opening(generator.random), opening(generator.random)
    declared = {prefix for prefix in PREFIXES[:2] if f"xmlns:{prefix}=" in mine}
    raw = stanza(generator, declared)
    sent = expat.read(mine.encode() + raw)
    if sent.error is not None:
        return False  # such as two attributes with one name
    assert sent.root is not None
    router = Router()
    a, b = online(router, A, mine.encode()), online(router, B, theirs.encode())
    [*events] = receive(a, raw)
    out = take(b)
    if events:
        assert [type(event) for event in events] == [Stanza]
        assert out == b""
        return False
    [expected] = sent.stanzas
    expected.set("from", A)
    came = expat.read(theirs.encode() + out)
    assert came.error is None
    [got] = came.stanzas
    assert came.root is not None
    mean = [expected.get(XML_LANG, sent.root[1][XML_LANG]), got.get(XML_LANG, came.root[1][XML_LANG])]
    assert mean[0] == mean[1]
    for element in (expected, got):
        element.set(XML_LANG, mean[0])
    assert got == expected
    whole = lxml.read(theirs.encode() + out + b"</stream:stream>")
    assert whole is not None
    second: Element = whole[0]
    second.tail = None
    second.set(XML_LANG, second.get(XML_LANG, came.root[1][XML_LANG]))
    assert second == expected
    return True


@pytest.mark.security(statement=(58, 59))
@given(st.integers(0, 2**64 - 1))
@settings(max_examples=400)
def test_forwarding_never_changes_what_a_stanza_means(seed: int) -> None:
    forward(seed)


def test_many_of_these_stanzas_are_forwarded() -> None:
    """Else the property above would say nothing."""
    assert sum(map(forward, range(300))) > 60
