# SPDX-License-Identifier: Apache-2.0
"""The format of transcripts: what it takes, and what it finds different."""

from __future__ import annotations

import pytest

from .transcript import Mismatch, TranscriptError, compare, compare_any_order, elements, parse

HEAD = "Romeo is romeo@localhost/orchard\n== A rule\n"


def differs(expected: str, got: str, *ignoring: str) -> str:
    """Where `got` differs from `expected`."""
    with pytest.raises(Mismatch) as caught:
        compare(*elements(expected), *elements(got), ignoring, {})
    return str(caught.value)


def same(expected: str, got: str, *ignoring: str) -> dict[str, str]:
    """What was captured."""
    captured: dict[str, str] = {}
    compare(*elements(expected), *elements(got), ignoring, captured)
    return captured


def test_scenarios_have_clients_steps_and_reasons() -> None:
    text = """
# what this is about
Romeo is romeo@localhost/orchard
ignoring: @xml:lang

== First
needs: XEP-0199, roster
differs: prosody: RFC 6121 8.5.2.1.1: it thinks
    otherwise
Romeo connects
Romeo sends:
    <message>

      <body/>
    </message>

Romeo receives (ignoring @id, text): <presence/>
== Second
Romeo's phone is romeo@localhost/phone
Romeo's phone connects
wait 0.5 s
"""
    first, second = parse("file", text)
    assert first.name == "file: First"
    assert first.needs == ("XEP-0199", "roster")
    assert first.differs == {"prosody": "RFC 6121 8.5.2.1.1: it thinks otherwise"}
    assert [step.verb for step in first.steps] == ["connects", "sends", "receives"]
    assert first.steps[2].ignoring == {"@id", "text"}
    assert first.ignoring == second.ignoring == {"@xml:lang"}
    assert dict(second.clients) == {"Romeo": ("romeo", "orchard"), "Romeo's phone": ("romeo", "phone")}
    assert (second.steps[1].verb, second.steps[1].seconds) == ("wait", 0.5)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("Romeo dances", "file:3: not understood: Romeo dances"),
        ("Juliet connects", "file:3: nobody said who Juliet is"),
        ("Romeo receives: <presence>", "file:3: mismatched tag"),
        ("Romeo receives:", "file:3: receives takes some XML"),
        ("Romeo connects: <presence/>", "file:3: connects takes no XML"),
        ("differs: prosody", "file:3: not understood: differs: prosody"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(steps: str, problem: str) -> None:
    with pytest.raises(TranscriptError) as caught:
        list(parse("file", HEAD + steps))
    assert str(caught.value).startswith(problem)


def test_attributes_are_free_in_order_and_blanks_do_not_count() -> None:
    same("<a b='1' c='2'>\n  <d/>\n</a>", '<a c="2" b="1"><d></d></a>')


def test_what_is_not_written_down_may_not_be_there() -> None:
    assert "attribute id='1' should not be there" in differs("<a/>", "<a id='1'/>")
    assert "b should not be there" in differs("<a/>", "<a><b/></a>")
    assert "attribute id is missing" in differs("<a id='1'/>", "<a/>")
    assert "b is missing" in differs("<a><b/></a>", "<a/>")
    assert "text is 'x', not ''" in differs("<a/>", "<a>x</a>")


def test_names_have_namespaces_and_children_an_order() -> None:
    differs("<a/>", "<a xmlns='u'/>")
    same("<b:a xmlns:b='u'/>", "<a xmlns='u'/>")
    differs("<a><b/><c/></a>", "<a><c/><b/></a>")


def test_ignored_names_may_be_there_or_not_but_what_is_written_must() -> None:
    for got in ("<a/>", "<a id='1' xml:lang='en'><x xmlns='u'/></a>"):
        same("<a/>", got, "@id", "@xml:lang", "{u}x")
    assert "u}x should not be there" in differs("<a/>", "<a><x xmlns='u'/></a>", "{v}x")
    assert "attribute id is '1', not '2'" in differs("<a id='2'/>", "<a id='1'/>", "@id")


def test_any_text_is_captured_and_held_against_what_follows() -> None:
    assert same("<a id='{any x}'><b>{any}</b></a>", "<a id='7'><b>long\ntext</b></a>") == {"x": "7"}
    captured = {"x": "7"}
    compare(*elements("<a id='s-{x}'/>"), *elements("<a id='s-7'/>"), (), captured)
    with pytest.raises(Mismatch):
        compare(*elements("<a id='{x}'/>"), *elements("<a id='8'/>"), (), captured)
    same("<a type='{wait|cancel}'/>", "<a type='cancel'/>")
    differs("<a type='{wait|cancel}'/>", "<a type='modify'/>")


def test_more_allows_other_children_in_any_order() -> None:
    same("<a>{more}<b/><c n='2'/></a>", "<a><c n='1'/><c n='2'/><d/><b/></a>")
    assert "attribute n is '1', not '3'" in differs("<a>{more}<c n='3'/></a>", "<a><c n='1'/><d/></a>")


def test_any_order_needs_each_once() -> None:
    compare_any_order(elements("<a/><b/>"), elements("<b/><a/>"), (), {})
    with pytest.raises(Mismatch):
        compare_any_order(elements("<a/><a/>"), elements("<b/><a/>"), (), {})


def test_the_prefix_of_errors_is_known() -> None:
    same(
        "<error><error:gone>{any}</error:gone></error>",
        "<error><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
    )
