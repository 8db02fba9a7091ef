# SPDX-License-Identifier: Apache-2.0
"""The table of shared names, and the rule for what a name is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore.names import is_ncname, tag

# XML 1.0 fifth edition, productions [4] and [4a] without the colon.
NAME_START = (
    "A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f\u2c00-\u2fef\u3001-\ud7ff"
    "\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
NCNAME = re.compile(f"[{NAME_START}][{NAME_START}\\-.0-9\xb7\u0300-\u036f\u203f-\u2040]*")


def test_same_name_is_the_same_object() -> None:
    assert tag(b"jabber:client", b"message") is tag(b"jabber:client", b"message")
    assert tag(b"jabber:client", b"message") == "{jabber:client}message"
    assert tag(b"", b"from") is tag(b"", b"from")
    assert tag(b"", b"from") == "from"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_name_is_made_of_its_halves(ns: str, local: str) -> None:
    for _ in range(2):
        assert tag(ns.encode(), local.encode()) == (f"{{{ns}}}{local}" if ns else local)


@pytest.mark.parametrize("length", range(70))
def test_every_byte_of_a_name_counts(length: int) -> None:
    name = b"x" * length
    assert tag(b"", name) == name.decode()
    for place in range(length):
        other = name[:place] + b"y" + name[place + 1 :]
        assert tag(b"", other) == other.decode()
        assert tag(b"urn:" + other, b"a") == f"{{urn:{other.decode()}}}a"


@pytest.mark.security(row=12)
def test_halves_are_kept_apart() -> None:
    assert tag(b"ab", b"c") == "{ab}c"
    assert tag(b"a", b"bc") == "{a}bc"
    assert tag(b"", b"abc") == "abc"


@pytest.mark.security(row=7)
def test_flood_of_names_gives_right_names_and_does_not_shut_out_new_ones() -> None:
    for i in range(20_000):
        assert tag(b"urn:%d" % i, b"n") == f"{{urn:{i}}}n"
    assert tag(b"urn:new", b"n") is tag(b"urn:new", b"n")


def test_long_names_are_not_kept() -> None:
    assert tag(b"", b"x" * 256) is tag(b"", b"x" * 256)
    assert tag(b"", b"x" * 257) is not tag(b"", b"x" * 257)


def test_name_that_is_not_utf_8_is_refused() -> None:
    for ns, local in ((b"\xff", b"a"), (b"urn:x", b"\xc3"), (b"", b"\xed\xa0\x80")):
        with pytest.raises(UnicodeDecodeError):
            tag(ns, local)


@pytest.mark.parametrize("plane", range(17))
def test_every_character_is_classed_as_in_the_fifth_edition(plane: int) -> None:
    for c in map(chr, range(plane << 16, (plane + 1) << 16)):
        assert is_ncname(c) == (NCNAME.fullmatch(c) is not None)
        assert is_ncname("a" + c) == (NCNAME.fullmatch("a" + c) is not None)


def test_empty_string_and_names_with_colon_are_no_ncnames() -> None:
    assert not is_ncname("")
    assert not is_ncname("a:b")
    assert is_ncname("a-b.c_1")
