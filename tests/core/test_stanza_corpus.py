# SPDX-License-Identifier: Apache-2.0
"""The example stanzas of the XEPs, each fed as it would come in a client's stream."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from _xmppcore.element import Element
from _xmppcore.errors import XmlError
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamOpen, StreamParser
from tests.oracles import expat, lxml
from tests.shared import shared

OPEN = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"


@pytest.fixture(scope="module")
def folder() -> Path:
    return shared("data/stanzas")


def entries(*files: Path) -> list[bytes]:
    return [json.loads(line)["xml"].encode() for file in files for line in file.read_text("utf-8").splitlines()]


def read(entry: bytes) -> tuple[list[Stanza], str | None]:
    """The stanzas of a stream that goes on with this entry, and the condition of the error if there is one."""
    parser = StreamParser()
    events = parser.feed(OPEN + entry)
    assert isinstance(events[0], StreamOpen)
    stanzas = [event for event in events if isinstance(event, Stanza)]
    try:
        parser.feed(b"")
    except XmlError as error:
        return stanzas, error.condition
    return stanzas, None


def check(entry: bytes) -> tuple[str | None, bool]:
    """Our condition, and whether expat refuses it too; what neither refuses has the same trees."""
    stanzas, condition = read(entry)
    theirs = expat.read(OPEN + entry)
    if condition != "restricted-xml":
        assert [stanza.element for stanza in stanzas] == theirs.stanzas
    return condition, theirs.error is not None


def test_malformed_entries(folder: Path) -> None:
    """81 are not well-formed, 4 of which hold a comment in front of the error. 46 are bad stanzas, but legal input."""
    verdicts = Counter(map(check, entries(folder / "_malformed.jsonl")))
    assert verdicts == {
        ("not-well-formed", True): 81 - 4,
        ("restricted-xml", True): 4,
        ("restricted-xml", False): 13,
        (None, False): 46,
    }


def test_good_entries(folder: Path) -> None:
    """As stream input, 25 hold comments, and 14 use a prefix that the stream does not declare."""
    good = entries(*(file for file in sorted(folder.glob("*.jsonl")) if not file.name.startswith("_")))
    assert len(good) == 2662
    verdicts = Counter(map(check, good))
    assert verdicts == {(None, False): 2662 - 25 - 14, ("restricted-xml", False): 25, ("not-well-formed", True): 14}


def test_restricted_good_entries_are_those_with_comments(folder: Path) -> None:
    for entry in entries(*folder.glob("[0-9i]*.jsonl")):
        _, condition = read(entry)
        assert (condition == "restricted-xml") == (b"<!--" in entry)
        if condition == "not-well-formed":
            assert "unbound prefix" in str(expat.read(OPEN + entry).error)


@pytest.mark.security(row=13, statement=59)
def test_entries_mean_the_same_after_tobytes_and_after_the_tree_is_written(folder: Path) -> None:
    for entry in entries(*folder.glob("*.jsonl")):
        for stanza in read(entry)[0]:
            for written in (stanza.tobytes(), stanza.element.tobytes("jabber:client")):
                (again,) = StreamParser().feed(b"<s xmlns='jabber:client'>" + written)[1:]
                assert isinstance(again, Stanza)
                assert again.element == stanza.element


def split(stream: bytes, cuts: Sequence[int]) -> tuple[list[Element], str | None]:
    """The trees that come of a stream given in pieces, and the condition of the error if there is one."""
    parser = StreamParser()
    trees: list[Element] = []
    try:
        for start, end in pairwise([0, *cuts, len(stream), len(stream)]):
            trees += [event.element for event in parser.feed(stream[start:end]) if isinstance(event, Stanza)]
    except XmlError as error:
        return trees, error.condition
    return trees, None


def test_short_streams_are_read_alike_by_all_however_they_are_split(folder: Path) -> None:
    """Streams of up to 200 bytes: in two pieces, at each byte, and in single bytes; the same trees as expat's and libxml2's, or all refuse."""
    opening, closing = b"<s xmlns='jabber:client'>", b"</s>"
    short = [entry for entry in entries(*folder.glob("*.jsonl")) if len(opening + entry + closing) <= 200]
    assert len(short) > 500
    for entry in short:
        stream = opening + entry + closing
        whole = trees, condition = split(stream, [])
        assert split(stream, range(1, len(stream))) == whole
        for cut in range(1, len(stream)):
            assert split(stream, [cut]) == whole, (stream, cut)
        if condition == "restricted-xml":
            continue  # comments, which we refuse and they do not
        theirs, root = expat.read(stream), lxml.read(stream)
        assert (condition is None) == (theirs.error is None and theirs.closed) == (root is not None), stream
        if root is not None:
            for element in root:
                element.tail = None
            assert trees == theirs.stanzas == list(root)


def test_entries_split_at_every_byte(folder: Path) -> None:
    for entry in entries(folder / "_malformed.jsonl", *folder.glob("*.jsonl")):
        stanzas, condition = read(entry)
        trees, found = split(OPEN + entry, range(1, len(OPEN + entry)))
        assert trees == [stanza.element for stanza in stanzas]
        assert found == condition
