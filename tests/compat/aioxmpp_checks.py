# SPDX-License-Identifier: Apache-2.0
"""What test_aioxmpp.py has run where aioxmpp is: it and its adapter do the same. Silent if so."""

from __future__ import annotations

import itertools
import sys
from random import Random
from typing import Any

import aioxmpp.errors
import aioxmpp.structs
import aioxmpp.xml

from xiot.compat import aioxmpp as adapter

NAMES = ("nodeprep", "nameprep", "resourceprep")
OTHERS = "\x80\xa0\xc4\xdf\u0130\u0149\u03a3\u05d0\u0660\u1e9e\u200b\u2028\u3002\uff21\ufb01\ud800\U0001f600"


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        return type(error), str(error)


def prepared_parts_are_the_same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    random = Random(1)
    ascii_ = [chr(c) for c in range(128)]
    texts = ["", *ascii_, *(a + b for a, b in itertools.product(ascii_, ascii_[::7])), *OTHERS]
    texts += ["".join(random.choices(ascii_, k=random.randrange(12))) for _ in range(500)]
    texts += ["".join(random.choices([*ascii_[33:], *OTHERS], k=random.randrange(1, 8))) for _ in range(2000)]
    for name, text, unassigned in itertools.product(NAMES, texts, (False, True)):
        got, wanted = (outcome(functions[name], text, unassigned) for functions in (ours, theirs))
        assert got == wanted, (name, text, unassigned, got, wanted)
    text = type("Text", (str,), {})("Romeo")
    assert [type(ours[name](text)) for name in NAMES] == [str] * 3


def jids_are_the_same() -> None:
    jid = aioxmpp.structs.JID.fromstr("Romeo@Montague.EXAMPLE./Orchard \u00c4")
    assert jid == ("romeo", "montague.example.", "Orchard \u00c4")
    assert jid.replace(localpart="M\u00dcLLER").localpart == "m\u00fcller"
    for bad in ("ro meo@x", "a\x7f@x", "a@x/\x00", "@x", "x/"):
        assert outcome(aioxmpp.structs.JID.fromstr, bad)[0] is ValueError, bad


def restricted_xml_and_what_is_too_large_are_refused() -> None:
    header = (
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
        " from='x' id='1' version='1.0'>"
    )
    for bad, condition in (
        ("<!-- x -->", "RESTRICTED_XML"),
        ("<?x?>", "RESTRICTED_XML"),
        ("<!DOCTYPE s>", "RESTRICTED_XML"),
        ("<a>&foo;</a>", "RESTRICTED_XML"),
        ("&" + "f" * 1000 + ";", "RESTRICTED_XML"),
        ("<a>" * 300, "POLICY_VIOLATION"),
    ):
        for pieces in ([header + bad], [header, *bad]):
            parser = aioxmpp.xml.make_parser()
            parser.setContentHandler(aioxmpp.xml.XMPPXMLProcessor())
            try:
                for piece in pieces:
                    parser.feed(piece)
            except aioxmpp.errors.StreamError as error:
                assert error.condition is aioxmpp.errors.StreamErrorCondition[condition], (bad, error)
            else:
                raise AssertionError(bad)


def main() -> None:
    theirs = {name: getattr(aioxmpp.structs, name) for name in NAMES}
    make_parser = aioxmpp.xml.make_parser
    adapter.install()
    adapter.install()
    ours = {name: getattr(aioxmpp.structs, name) for name in NAMES}
    assert [ours[name].__wrapped__ for name in NAMES] == [theirs[name] for name in NAMES]
    assert aioxmpp.xml.make_parser.__wrapped__ is make_parser
    assert isinstance(aioxmpp.xml.make_parser(), adapter.Parser)
    prepared_parts_are_the_same(theirs, ours)
    jids_are_the_same()
    restricted_xml_and_what_is_too_large_are_refused()


if __name__ == "__main__":
    sys.exit(main())
