# SPDX-License-Identifier: Apache-2.0
"""The example stanzas of the XEPs, each fed as it would come in a client's stream."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from _xmppcore.element import Element
from _xmppcore.errors import XmlError
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamOpen, StreamParser
from tests.oracles import expat
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


def test_entries_split_at_every_byte(folder: Path) -> None:
    for entry in entries(folder / "_malformed.jsonl", *folder.glob("006*.jsonl")):
        stanzas, condition = read(entry)
        parser = StreamParser()
        trees: list[Element] = []
        found = None
        for byte in OPEN + entry:
            try:
                trees += [event.element for event in parser.feed(bytes([byte])) if isinstance(event, Stanza)]
            except XmlError as error:
                found = error.condition
                break
        assert trees == [stanza.element for stanza in stanzas]
        assert found == condition or (found is None and parser.pending_bytes)  # the tag may go on
